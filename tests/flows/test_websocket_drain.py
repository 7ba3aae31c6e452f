"""A gateway that ends says so: 1001, to the idle at once, to the busy when their streams are done, or cut."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.talk import Flood, Raw, Speaker, question, talking, text_of
from tests.gateway import ENVIRON, NOTHING_SAVED, relay
from tests.process import serve
from tests.provider import FakeProvider


def served(up: FakeProvider, drain: str = "20s", extra: str = "[websocket]\nport = 0\n") -> str:
    provider = f'[providers.up]\nkind = "openai-compatible"\nbase_url = "{up.url}/v1"\nmodels = ["m"]\n'
    return f'server.drain = "{drain}"\npool.warmup = 0\nrouting.retries = 0\n{provider}{extra}{NOTHING_SAVED}'


async def test_idle_clients_go_at_once_and_busy_ones_when_they_are_done(
    provider: StartProvider, tmp_path: Path
) -> None:
    """A stream that runs has its end, and what is asked meanwhile is refused; then 1001 for this one too, and the
    process ends well.
    """
    speaker = Speaker()
    up = await provider(speaker.script)
    async with serve(served(up), tmp_path) as gate, talking(gate) as idle, talking(gate) as busy:
        one = await busy.start("one")
        speaker.say("one", "a")
        await busy.wait("stream:chunk")
        gate.signal(signal.SIGTERM)
        assert await idle.closed() == 1001
        for event in ("chat:stream", "chat:message"):
            assert await busy.refused(event, question("late")) == "service_unavailable"
        with pytest.raises((aiohttp.ClientError, OSError)):
            async with talking(gate):
                pass
        assert (await busy.control("pause", one))["event"] == "stream:paused"
        await busy.control("resume", one)
        speaker.say("one", "b")
        speaker.end("one")
        await busy.wait("stream:complete")
        assert text_of(busy.heard, one) == "ab"
        assert await busy.closed() == 1001
        assert await gate.ended() == 0
    assert speaker.asked == ["one"]


async def test_what_outlasts_the_drain_is_cut_and_told_so(provider: StartProvider, tmp_path: Path) -> None:
    """`stream:error` for streams, paused ones too, `error` for whole answers, then 1001; a client that reads nothing,
    and one that is away, hold nobody up; the provider is rid of all of them.
    """
    speaker, flood = Speaker(), Flood(20_000_000)
    up, fast = await provider(speaker.script), await provider(flood.script)
    more = f'[providers.fast]\nkind = "openai-compatible"\nbase_url = "{fast.url}/v1"\n[websocket]\nport = 0\n'
    async with (
        serve(served(up, "300ms", more), tmp_path) as gate,
        talking(gate) as talk,
        talking(gate) as away,
        Raw.connected(gate, buffer=4096) as mute,
    ):
        one, two = await talk.start("one"), await talk.start("two")
        await talk.control("pause", two)
        await talk.say("chat:message", question("whole"), "mine")
        await away.start("three")
        await until(lambda: len(up.requests) == 4)
        away.lose()
        await mute.say("chat:stream", question(model="fast/m"))
        await until(lambda: flood.sent > 1_000_000)
        gate.signal(signal.SIGTERM)
        assert await talk.closed() == 1001
        ends = {told["payload"]["stream_id"]: told for told in talk.heard if told["event"] == "stream:error"}
        assert ends.keys() == {one, two}
        assert {told["payload"]["error"]["code"] for told in ends.values()} == {"service_unavailable"}
        (error,) = [told for told in talk.heard if told["event"] == "error"]
        assert (error["ref"], error["payload"]["code"]) == ("mine", "service_unavailable")
        assert await gate.ended() == 0
        await until(lambda: up.open == 0 and fast.open == 0)


async def test_who_comes_while_it_drains_hears_1001(gateway: StartGateway, provider: StartProvider) -> None:
    """A connection that was accepted in the last moment; and a session cannot be resumed any more."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as gone, talking(gate) as busy:
        gone.lose()
        await busy.start("one")
        await until(lambda: gate.app.live.sessions.away == 1)
        gate.app.live.sessions.drain()
        assert gate.app.live.sessions.away == 0
        async with talking(gate, greeted=False) as late:
            assert await late.closed() == 1001
        speaker.end("one")
        await busy.wait("stream:complete")
        assert await busy.closed() == 1001


async def test_sessions_of_a_process_that_was_killed_are_lost(provider: StartProvider, tmp_path: Path) -> None:
    """The next process says so, and goes on with the new session."""
    speaker = Speaker()
    up = await provider(speaker.script)
    async with serve(served(up), tmp_path) as gate, talking(gate) as talk:
        await talk.start("one")
        await until(lambda: speaker.asked == ["one"])
        gate.signal(signal.SIGKILL)
        assert await gate.ended() == -signal.SIGKILL
        await until(lambda: speaker.gone == {"one"})
    async with serve(served(up), tmp_path) as gate, talking(gate) as again:
        assert (await again.resume(talk.session, talk.seq))["event"] == "session:lost"
        assert (await again.ask("ping"))["event"] == "pong"


@dataclass
class At:
    url: str


async def test_the_second_port_is_the_same(provider: StartProvider, tmp_path: Path) -> None:
    """`websocket.port`: sessions are found through either."""
    speaker = Speaker()
    up = await provider(speaker.script)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with serve(served(up, extra=f"[websocket]\nport = {port}\n"), tmp_path) as gate:
        async with talking(At(f"http://127.0.0.1:{port}")) as talk:
            stream_id = await talk.start("one")
            speaker.say("one", "a")
            await talk.wait("stream:chunk")
            talk.lose()
        async with talking(gate) as again:
            assert (await again.resume(talk.session, talk.seq))["event"] == "session:resumed"
            speaker.end("one")
            await again.wait("stream:complete")
            assert text_of([*talk.heard, *again.heard], stream_id) == "a"
