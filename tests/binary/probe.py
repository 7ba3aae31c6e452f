"""A middleware that stands beside the configuration and answers questions about the Python it runs in.

Asked by the field `user`: "python", "roots", or "import MODULE".
"""

from __future__ import annotations

import json
import ssl
import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path

from runestone.middleware import Call, Next, Reply, answer, guard

NOT_ASKED = {"antigravity", "this"}
"""They open a browser, and print."""


@guard
async def probe(call: Call, next: Next) -> Reply:  # noqa: A002 - the shape's own word
    """Answers as JSON what it is asked, and leaves other calls alone."""
    what, _, module = str(call.fields.get("user", "")).partition(" ")
    if what == "python":
        return answer(call, json.dumps(python()))
    if what == "roots":
        return answer(call, json.dumps(ssl.create_default_context().cert_store_stats()))
    if what == "import":
        return answer(call, json.dumps(import_module(module).__name__))
    return await next(call)


def python() -> dict[str, object]:
    """What it is, and which modules of the standard library cannot be imported."""
    missing = set()
    for name in sys.stdlib_module_names - NOT_ASKED:
        try:
            import_module(name)
        except ImportError:
            missing.add(name)
    return {
        "again": [sys.executable, *sys.orig_argv[1:]],
        "path": sys.path,
        "here": str(Path(__file__).parent),
        "version": version("runestone"),
        "commands": [point.value for point in entry_points(group="console_scripts", name="runestone")],
        "missing": sorted(missing),
    }
