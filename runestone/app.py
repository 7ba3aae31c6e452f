"""Builds every object from a configuration and runs the server: the only module that knows all rings.

Rule: nobody imports this but cli.py and tests; everything is handed over by keyword, nothing is looked up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware

from runestone.config.schema import Configuration, Key, Provider
from runestone.core.call import Caller, Target
from runestone.core.keys import KeyRing, ListedKey, digest
from runestone.core.names import Listing, Names
from runestone.core.upstream import Upstream
from runestone.dialects.passage import Traits
from runestone.edge.calls import Calls
from runestone.edge.health import Health
from runestone.edge.middleware.authenticate import Authenticate
from runestone.edge.middleware.rescue import Rescue
from runestone.edge.models import Models
from runestone.edge.routes import application, routes
from runestone.edge.server import Runner
from runestone.edge.telemetry import Metrics as MetricsEndpoint
from runestone.errors import RunestoneError
from runestone.gateway.access import Access
from runestone.gateway.fallback import Fallback
from runestone.gateway.meter import Meter
from runestone.gateway.pipeline import compose
from runestone.gateway.route import Route
from runestone.gateway.send import Send
from runestone.providers.catalog import CATALOG
from runestone.providers.http import HttpProvider, Timeouts
from runestone.providers.simulated.behaviour import Behaviour
from runestone.providers.simulated.provider import OPERATIONS, SimulatedProvider
from runestone.telemetry.logs import CallLog
from runestone.telemetry.metrics import Metrics

_log = logging.getLogger("runestone")

SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class App:
    """What was built: the aiohttp application, and what must be opened and closed with it."""

    web: web.Application
    health: Health
    upstreams: dict[str, Upstream]

    async def start(self) -> None:
        for upstream in self.upstreams.values():
            await upstream.start()

    async def close(self) -> None:
        for upstream in self.upstreams.values():
            await upstream.close()


def build(configuration: Configuration) -> App:
    """Every object of the gateway, wired; nothing is opened yet."""
    upstreams = {name: _upstream(name, entry, configuration) for name, entry in configuration.providers.items()}
    traits = {name: _traits(entry, configuration) for name, entry in configuration.providers.items()}
    names = model_names(configuration)
    keys = [_listed(key) for key in configuration.auth.keys]
    metrics = Metrics(names.names())
    access = Access(tuple(key.caller.models for key in keys))
    gateway = compose(
        [
            Meter([metrics, CallLog()]),
            access,
            Route(names, total=configuration.routing.timeouts.total),
            Fallback(),
        ],
        Send(upstreams, traits),
    )
    health = Health(providers=len(upstreams))

    def refused(request: web.Request, error: RunestoneError) -> None:
        metrics.failed(error.source, error.code or error.type)
        _log.info("refused", extra={"fields": {"method": request.method, "status": error.status, "error": error.code}})

    table = routes(
        Calls(gateway, max_body=configuration.server.max_body), Models(names, access), health, MetricsEndpoint(metrics)
    )
    ring = KeyRing(keys, required=configuration.auth.required)
    middlewares: list[Middleware] = [Rescue(refused), Authenticate(ring)]
    app = application(table, middlewares, max_body=configuration.server.max_body)
    return App(app, health, upstreams)


def model_names(configuration: Configuration) -> Names:
    """The table of model names of a configuration."""
    return Names(
        {name: tuple(_target(target) for target in model.targets) for name, model in configuration.models.items()},
        configuration.aliases,
        [
            Listing(name, provider.models, closed=provider.kind == SIMULATED)
            for name, provider in configuration.providers.items()
        ],
    )


def _target(text: str) -> Target:
    provider, _, model = text.partition("/")
    return Target(provider, model)


def _listed(key: Key) -> ListedKey:
    sha256 = key.sha256 or digest(key.key.value if key.key else "")
    caller = Caller(name=key.name, models=key.models)
    return ListedKey(sha256, caller, active=key.active, expires=key.expires)


def _upstream(name: str, provider: Provider, configuration: Configuration) -> Upstream:
    if provider.kind == SIMULATED:
        told = provider.simulated
        behaviour = Behaviour(
            ttft=told.ttft,
            tokens_per_second=told.tokens_per_second,
            error_rate=told.error_rate,
            status=told.status,
            cut_after=told.cut_after,
            hang=told.hang,
        )
        # Chance is handed in; this one decides which calls fail on purpose, nothing secret.
        return SimulatedProvider(behaviour=behaviour, chance=random.random)
    entry = CATALOG[provider.kind]
    timeouts = configuration.routing.timeouts
    return HttpProvider(
        name=name,
        base_url=provider.base_url or entry.base_url,
        auth=entry.auth,
        credentials=[secret.value for secret in provider.api_keys],
        passthrough=provider.passthrough,
        headers={**dict(entry.headers), **provider.headers},
        timeouts=Timeouts(
            connect=timeouts.connect, first_byte=timeouts.first_byte, between_bytes=timeouts.between_bytes
        ),
    )


def _traits(provider: Provider, configuration: Configuration) -> Traits:
    if provider.kind == SIMULATED:
        return Traits(operations=OPERATIONS)
    entry = CATALOG[provider.kind]
    return Traits(
        dialect=entry.dialect,
        operations=entry.operations,
        ends_with_done=entry.ends_with_done if provider.ends_with_done is None else provider.ends_with_done,
        max_tokens_field=provider.max_tokens_field or entry.max_tokens_field,
        stream_usage=entry.stream_usage,
        reasoning_field=entry.reasoning_field,
        default_max_tokens=configuration.routing.default_max_tokens,
    )


async def serve(configuration: Configuration, *, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `ready` is told the address. Raises OSError when it cannot
    listen.
    """
    app = build(configuration)
    server = configuration.server
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, loop)
    runner = Runner(
        app.web,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=server.keep_alive,
        shutdown_timeout=server.drain,
        max_line_size=16 * 1024,
        max_field_size=16 * 1024,
    )
    await app.start()
    try:
        await runner.setup()
        listener = _listen(server.host, server.port)
        site = web.SockSite(runner, listener, ssl_context=_tls(server.tls_cert, server.tls_key), backlog=1024)
        await site.start()
        host, port = listener.getsockname()[:2]
        ready(f"{'https' if server.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}")
        _settle_memory()
        await stop.wait()
        app.health.draining = True
    finally:
        await runner.cleanup()
        await app.close()


def _settle_memory() -> None:
    """Takes what was built out of the collector's sight, and has it look at the rest less often.

    Calls free what they make by reference counting. By default the collector runs every few calls, and walking the
    whole program each time is what the slowest of them wait for.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _stop(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """The first signal drains; the default action of a second one ends the process at once."""
    stop.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
