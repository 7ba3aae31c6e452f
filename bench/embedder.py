"""A fake provider of embeddings: 20 ms for a call and 1 ms for each item in it, on each connection one call at a time.

    python -m bench.embedder --port P

Rule: sleeps, and answers small vectors; what is measured is how calls are put together. How many connections there are
is the caller's business (the gateway's pool).
"""

from __future__ import annotations

import argparse
import asyncio

import orjson
import uvloop
from aiohttp import web

A_CALL, AN_ITEM = 0.020, 0.001  # seconds


async def embed(request: web.Request) -> web.Response:
    asked = orjson.loads(await request.read())["input"]
    count = len(asked) if isinstance(asked, list) else 1
    await asyncio.sleep(A_CALL + AN_ITEM * count)
    data = [{"object": "embedding", "index": place, "embedding": [0.1, -0.2, 0.3, 0.4]} for place in range(count)]
    usage = {"prompt_tokens": 5 * count, "total_tokens": 5 * count}
    answer = {"object": "list", "data": data, "model": "bench-embedding", "usage": usage}
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.embedder")
    flags.add_argument("--port", type=int, required=True)
    given = flags.parse_args()
    app = web.Application()
    app.router.add_post("/v1/embeddings", embed)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None, backlog=1024, loop=loop)


if __name__ == "__main__":
    main()
