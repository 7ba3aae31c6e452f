"""The yardstick: the least an aiohttp relay can do, written the way a competent engineer would, with no features.

    python -m bench.bare --port P --upstream http://127.0.0.1:Q/fast/v1

At `/ws` it speaks as much of docs/websocket.md as bench/websocket.py asks for: `ping`, and `chat:stream` with one
message for each event of the provider. No sessions, no `seq`, nothing kept, nothing stopped but by leaving.

Rule: as fast as plain aiohttp goes (uvloop, no access log, one tuned session, whole bodies), and nothing clever.
Absent on purpose: errors, keys, models, limits, metrics, retries. Anything a gateway is for.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import uvloop
from aiohttp import web

from bench import wire

UPSTREAM = web.AppKey("upstream", str)
SESSION = web.AppKey("session", aiohttp.ClientSession)
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench-provider"}
CACHED = wire.answer()


async def relay(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    async with request.app[SESSION].post(request.app[UPSTREAM], data=body, headers=HEADERS) as answer:
        kind = answer.headers.get("Content-Type", "application/json")
        if not kind.startswith("text/event-stream"):
            return web.Response(body=await answer.read(), status=answer.status, headers={"Content-Type": kind})
        out = web.StreamResponse(status=answer.status, headers={"Content-Type": kind})
        await out.prepare(request)
        async for block in answer.content.iter_any():
            await out.write(block)
        return out


async def hit(request: web.Request) -> web.Response:
    """What a cached answer costs at the least: the request read, ready bytes written."""
    await request.read()
    return web.Response(body=CACHED, content_type="application/json")


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Pings are answered; each `chat:stream` is a task, until it ends or the client leaves."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    running: set[asyncio.Task[None]] = set()
    try:
        async for frame in ws:
            said = orjson.loads(frame.data)
            if said["event"] == "ping":
                now = datetime.now(UTC).isoformat()
                await _say(ws, {"event": "pong", "payload": {"timestamp": now}, "ref": said["ref"]})
            elif said["event"] == "chat:stream":
                task = asyncio.create_task(_stream(request.app, ws, said))
                running.add(task)
                task.add_done_callback(running.discard)
    finally:
        for task in running:
            task.cancel()
    return ws


async def _stream(app: web.Application, ws: web.WebSocketResponse, said: dict[str, Any]) -> None:
    stream_id, index, rest = str(said["ref"]), 0, b""
    await _say(ws, {"event": "stream:started", "payload": {"stream_id": stream_id}, "ref": said["ref"]})
    body = orjson.dumps({**said["payload"], "stream": True})
    async with app[SESSION].post(app[UPSTREAM], data=body, headers=HEADERS) as answer:
        async for block in answer.content.iter_any():
            *events, rest = (rest + block).split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data: ")
                choices = orjson.loads(data)["choices"] if data != b"[DONE]" else None
                if choices and (text := choices[0]["delta"].get("content")):
                    chunk = {"stream_id": stream_id, "chunk": text, "index": index}
                    await _say(ws, {"event": "stream:chunk", "payload": chunk})
                    index += 1
    await _say(ws, {"event": "stream:complete", "payload": {"stream_id": stream_id}})


async def _say(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
    await ws.send_frame(orjson.dumps(message), aiohttp.WSMsgType.TEXT)


async def session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as app[SESSION]:
        yield


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.bare")
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--upstream", required=True, help="the provider's base URL")
    given = flags.parse_args()
    app = web.Application()
    app[UPSTREAM] = given.upstream + "/chat/completions"
    app.cleanup_ctx.append(session)
    app.router.add_post(wire.CHAT_PATH, relay)
    app.router.add_post("/hit/chat/completions", hit)
    app.router.add_get("/ws", socket)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None, backlog=1024, loop=loop)


if __name__ == "__main__":
    main()
