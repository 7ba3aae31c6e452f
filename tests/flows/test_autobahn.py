"""The Autobahn test suite's cases against our WebSocket server, beside aiohttp's own: no case ends worse.

An echo endpoint that only this test has: aiohttp reads, as it does for us, and text leaves through our Socket. `kosoku`
runs the cases, in a process of its own: it makes room for code of Python 2, which is nothing for ours. Cases of
compression (12, 13) are left out, as we have none; those of large messages (9) run when AUTOBAHN is "all".
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiohttp import WSMsgType, web

from runestone.edge.dispatch import Dispatch
from runestone.edge.server import Connection, Server
from runestone.edge.websocket.socket import Socket, Tally

LEFT_OUT = ["12.*", "13.*"] if os.environ.get("AUTOBAHN") == "all" else ["9.*", "12.*", "13.*"]
LARGEST = 20_000_000
RANKS = ["OK", "INFORMATIONAL", "NON-STRICT"]
"""From the best on; whatever else there is counts as a failure."""

AIOHTTPS_OWN = {"7.9.5"}
"""A close code of the client that is not allowed, and that aiohttp takes."""

Results = dict[str, tuple[str, str]]


async def ours(request: web.Request) -> web.WebSocketResponse:
    """Echoes as edge/websocket/endpoint.py answers."""
    ws = web.WebSocketResponse(compress=False, max_msg_size=LARGEST)
    await ws.prepare(request)
    connection = request.protocol
    assert isinstance(connection, Connection)
    out = Socket(connection, Tally(), stall=30, max_waiting=LARGEST, cut=_not_cut, close=_not_closed)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            out.send(message.data.encode())
            out.flush()
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    out.release()
    return ws


def _not_cut(reason: str) -> None:
    raise AssertionError(reason)


def _not_closed(code: int, reason: str) -> None:
    raise AssertionError(reason)


async def aiohttps(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False, max_msg_size=LARGEST)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.WebSocketResponse]],
    server_of: Callable[[web.Application], web.Server],
) -> AsyncIterator[str]:
    """The address of a server that has this handler at its root."""
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.ServerRunner(server_of(app), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def our_server(app: web.Application) -> web.Server:
    return Server(Dispatch(app))


def aiohttps_server(app: web.Application) -> web.Server:
    app._set_loop(asyncio.get_running_loop())
    app.freeze()
    return web.Server(app._handle, request_factory=app._make_request)


async def run_cases(address: str, folder: Path) -> Results:
    """What became of each case: of the exchange, and of the close."""
    left_out = [word for case in LEFT_OUT for word in ("--exclude", case)]
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("kosoku"), address, "--parallelism", "4", "--outdir", folder, *left_out),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    index = folder / "index.json"
    assert index.exists(), said.decode()
    (results,) = orjson.loads(index.read_bytes()).values()
    return {case: (result["behavior"], result["behaviorClose"]) for case, result in results.items()}


def rank(verdict: str) -> int:
    return RANKS.index(verdict) if verdict in RANKS else len(RANKS)


async def test_no_case_ends_worse_than_with_aiohttp(tmp_path: Path) -> None:
    """Framing, pings, reserved bits, opcodes, fragments, UTF-8, closes: over 200 cases, each judged as well as for an
    echo server of plain aiohttp; and hardly one that is not passed.
    """
    async with serving(ours, our_server) as one, serving(aiohttps, aiohttps_server) as other:
        mine, plain = await asyncio.gather(
            run_cases(one, tmp_path / "ours"),
            run_cases(other, tmp_path / "plain"),
        )
    assert mine.keys() == plain.keys()
    assert len(mine) > 200
    worse = {
        case: (verdict, plain[case])
        for case, verdict in mine.items()
        if any(rank(own) > rank(others) for own, others in zip(verdict, plain[case], strict=True))
    }
    assert not worse
    failed = {case for case, verdict in mine.items() if max(map(rank, verdict)) == len(RANKS)}
    assert failed <= AIOHTTPS_OWN
