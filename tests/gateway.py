"""A gateway in the test's own loop, on a real loopback socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from runestone.app import App, build
from runestone.config.load import load
from runestone.edge.dispatch import Dispatch
from runestone.edge.server import Server


@dataclass
class Gateway:
    """`url` has no path; SDKs take `url + "/v1"` (OpenAI) or `url` (Anthropic)."""

    url: str
    app: App

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


NOTHING_SAVED = "\n[cache]\nenabled = false\n[batch]\nenabled = false\n"
"""Every call goes up by itself: for what is seen at the provider. Where a test is about saving calls it says so."""


@asynccontextmanager
async def start_gateway(toml: str, folder: Path, environ: dict[str, str]) -> AsyncIterator[Gateway]:
    file = folder / "runestone.toml"
    is_about_saving = "cache" in toml or "batch" in toml
    file.write_text(toml if is_about_saving else toml + NOTHING_SAVED)
    app = build(load(file, environ))
    await app.start()
    server = Server(Dispatch(app.web))
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield Gateway(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", app)
    finally:
        listening.close()
        await server.close(1.0)
        await app.close()


ONE_ATTEMPT = "routing.retries = 0\npool.warmup = 0\n"
"""For what is seen at the provider: no second attempts, no connections nobody asked for."""


def relay(url: str, *, dialect: str = "openai", extra: str = "") -> str:
    """The configuration of a gateway with one provider, `up`, that offers the model `m` under its own name."""
    kind, base = ("anthropic", url) if dialect == "anthropic" else ("openai-compatible", url + "/v1")
    keys = 'api_keys = ["env:UP_KEY"]'
    provider = f'[providers.up]\nkind = "{kind}"\nbase_url = "{base}"\nmodels = ["m"]\n{keys}\n'
    return f"{ONE_ATTEMPT}{provider}{extra}\n"


ENVIRON = {"UP_KEY": "up-secret-0123456789"}
