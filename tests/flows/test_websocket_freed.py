"""A connection that is over is freed at once, and not when Python's collector comes, which it seldom does here."""

from __future__ import annotations

import gc

from runestone.edge.websocket.conversation import Conversation
from runestone.edge.websocket.socket import Socket
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.talk import Speaker, talking
from tests.gateway import ENVIRON, relay


def alive() -> int:
    return sum(isinstance(thing, (Conversation, Socket)) for thing in gc.get_objects())


async def test_nothing_of_a_lost_connection_waits_for_the_collector(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """Twenty connections, each with a word said, lost without one."""
    up = await provider(Speaker().script)
    gate = await gateway(relay(up.url, extra='[websocket]\nresumable_for = "50ms"\n'), ENVIRON)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(20):
            async with talking(gate) as talk:
                await talk.ask("ping")
                talk.lose()
        sessions = gate.app.live.sessions
        await until(lambda: sessions.connections == 0 and sessions.away == 0)
        await until(lambda: alive() == before)
    finally:
        gc.enable()
