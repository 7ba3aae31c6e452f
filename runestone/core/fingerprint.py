"""Whether two calls ask the same: one digest over everything that can change the answer.

In it: the operation (and with it the client's dialect), whose answers may be shared (`scope`), the targets, the headers
that change what a provider does, and every field of the body, known or unknown, at any depth. The order of names and
white space are not.

Not in it, each for a reason:
- `stream`, `stream_options.include_usage`: the same answer in another form (the forms are kept apart in an entry)
- `user`, `metadata`: who asks, for the provider's books; no part of the question

Rule: pure. Values are compared as they were written: 1 and 1.0 are different questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

import orjson

from runestone.core.json import JsonObject

UNASKED = frozenset({"stream", "stream_options", "user", "metadata"})
HEADERS = ("anthropic-version", "anthropic-beta", "openai-beta")
"""Headers of a client that change what a provider of the same dialect does."""


def fingerprint(
    operation: str, scope: Iterable[str], targets: Iterable[str], headers: Mapping[str, str], fields: JsonObject
) -> bytes:
    """32 bytes. Raises TypeError for a body nested deeper than what is read (dialects/body.py)."""
    asked = {name: value for name, value in fields.items() if name not in UNASKED}
    options = fields.get("stream_options")
    if isinstance(options, dict):
        options = {name: value for name, value in options.items() if name != "include_usage"} or None
    if options is not None:
        asked["stream_options"] = options
    # repr keeps what orjson refuses: bytes of a header that are no UTF-8 (lone surrogates, as aiohttp hands them over).
    head = repr((operation, *scope, None, *targets, None, *[headers.get(name) for name in HEADERS])).encode()
    return sha256(head + b"\n" + orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()


def of_item(whole: bytes, item: object) -> bytes:
    """The digest of one item of a question whose rest has the digest `whole`."""
    return sha256(whole + orjson.dumps(item)).digest()
