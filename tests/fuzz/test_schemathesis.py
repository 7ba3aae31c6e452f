"""Whatever is asked, in or out of what /openapi.json allows: the answer's status, type of content, headers and body are
among those it says; what it allows is not refused, what it forbids is; nothing is answered without the key it needs;
and nothing is our own fault.

A real server, asked over a real socket by schemathesis (a program of its own), with the simulated model and one that
speaks the other dialect. In the suite each thing is asked once, by cases made from the document without chance; with
RUNESTONE_FUZZ everything, also at random and in the order of the links.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import StartProvider
from tests.process import Served, serve
from tests.provider import Seen, Wire

BIG = bool(os.environ.get("RUNESTONE_FUZZ"))
KEY = "rs-an-administrator"
SERVER = """
[pool]
warmup = 0
[providers.simulated]
simulated.ttft = "0ms"
simulated.tokens_per_second = 0
[providers.crossed]
kind = "anthropic"
base_url = "%s"
api_keys = ["file:crossed.key"]
models = ["crossed"]
[websocket]
port = 0
[log]
level = "error"
"""
LOCK = f"""
[auth]
required = true
[[auth.keys]]
name = "chief"
sha256 = "{sha256(KEY.encode()).hexdigest()}"
admin = true
"""
CONFIG = f"""
hooks = "{Path(__file__).with_name("schemathesis_hooks.py")}"
request-timeout = 10.0
max-stream-events = 20
continue-on-failure = true
[generation]
deterministic = {str(not BIG).lower()}
[phases.coverage]
unexpected-methods = {["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"] if BIG else ["PUT"]}
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]  # full, or too slow for who wants it in a millisecond
[checks.positive_data_acceptance]
enabled = false  # schemathesis_hooks.py knows a provider's refusals from ours
[[operations]]
include-path = "/admin/tail"  # has no end: each case takes as long as it may
request-timeout = 2.0
phases.coverage.enabled = false
phases.fuzzing.enabled = false
phases.stateful.enabled = false
[[operations]]
include-path = "/admin/cache/warm"  # any bytes are lines
checks.negative_data_rejection.enabled = false
"""
WITH_KEY = f"""
[auth.openapi.bearer]
bearer = "{KEY}"
"""
WITHOUT_KEY = """
[checks.ignored_auth]
enabled = false
"""
HOW = ["--max-examples", "100"] if BIG else ["--phases", "examples,coverage"]
SECONDS = 1200.0 if BIG else 55.0
LEFT_OUT = ("/v1/completions", "/v1/messages/count_tokens", "/ws", "/admin/tail")
"""Of the suite: what is read by the same code as another, and what has no end."""
ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "crossed",
    "content": [{"type": "text", "text": "Rivers"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**ANSWER, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Rivers"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]


async def crossed(seen: Seen, wire: Wire) -> None:
    """Speaks Anthropic's dialect."""
    if not seen.body:  # looks whether it is well
        await wire.answer({"data": []})
    elif seen.path.endswith("/count_tokens"):
        await wire.answer({"input_tokens": 3})
    elif seen.json.get("stream") is True:
        await wire.begin_stream()
        for event in EVENTS:
            await wire.chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await wire.end_stream()
    else:
        await wire.answer(ANSWER)


def each_thing_once(document: dict[str, Any]) -> dict[str, Any]:
    """The document without other paths to the same; the headers of calls, and the fields that several kinds of calls
    have, at one of them.
    """
    parameters, schemas = document["components"]["parameters"], document["components"]["schemas"]
    chat = schemas["ChatRequest"]["properties"]
    paths = {}
    for path, item in document["paths"].items():
        others = [operation.get("description", "").startswith("The same as") for operation in item.values()]
        if path in LEFT_OUT or path.startswith("/openai/") or any(others):
            continue
        paths[path] = item
        for operation in item.values() if path != "/v1/chat/completions" else ():
            names = [parameter["$ref"].rpartition("/")[2] for parameter in operation["parameters"]]
            kept = [name for name in names if parameters[name]["in"] != "header" or name == "last_event_id"]
            operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in kept]
    for name in ("MessagesRequest", "EmbeddingsRequest"):
        fields, needed = schemas[name]["properties"], schemas[name]["required"]
        schemas[name]["properties"] = {
            field: schema for field, schema in fields.items() if field in needed or chat.get(field) != schema
        }
    return {**document, "paths": paths}


async def schemathesis(document: dict[str, Any], config: str, served: Served, folder: Path) -> tuple[int | None, str]:
    """Its exit code, and what it said."""
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(config)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "openapi.json"),
        *("--url", served.url, "--no-color", *HOW),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "RUNESTONE_SEEN": str(folder / "seen.json")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, "\n".join(line[:400] for line in said.decode().splitlines())


@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("is_locked", [True, False] if BIG else [True])
async def test_the_server_does_what_its_document_says(
    is_locked: bool, provider: StartProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """No case breaks the promise above, each operation was reached, and the log has nothing to tell."""
    up = await provider(crossed)
    (tmp_path / "crossed.key").write_text("up-secret-0123456789")
    async with serve(SERVER % up.url + (LOCK if is_locked else ""), tmp_path) as served:
        async with http.get(served.url + "/openapi.json") as response:
            document = await response.json()
        document = document if BIG else each_thing_once(document)
        code, said = await schemathesis(document, CONFIG + (WITH_KEY if is_locked else WITHOUT_KEY), served, tmp_path)
        assert code == 0, said[-20_000:]
        served.signal(signal.SIGTERM)
        assert await served.ended() == 0
        assert served.process.stderr is not None
        log = (await served.process.stderr.read()).decode()
        assert not log, log[:5000]
    seen = Counter(json.loads((tmp_path / "seen.json").read_text()))
    asked = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert {name.rpartition(" ")[0] for name in seen} == asked
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/batch"):
        assert seen[f"POST {path} 200"] >= 5
        assert seen[f"POST {path} 400"] >= 5
