"""A collector that takes whatever comes over OTLP and keeps nothing of it.

python -m bench.collector --port P
"""

from __future__ import annotations

import argparse

import uvloop
from aiohttp import web


async def take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(content_type="application/x-protobuf")


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.collector")
    flags.add_argument("--port", type=int, required=True)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/{what:.*}", take)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=flags.parse_args().port, access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
