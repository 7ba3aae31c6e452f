"""For any bytes a client sends, in any pieces, however it leaves: it reads answers in well-formed HTTP, each with the
contract's error object where it is a refusal, or its connection is closed; never a 500, nor any other 5xx that the docs
name no reason for. What was sent comes back in no header. A request whose length can be read in two ways is refused and
its connection closed; what stands in its body is no request. A connection that says nothing more is ended. After all
that the server answers the next request, holds nothing of those before, and the log has no error.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import orjson
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.fuzz.answers import Answer, answers
from tests.fuzz.effort import effort
from tests.fuzz.house import House, open_house, turns
from tests.fuzz.http_requests import GOOD, PAIRS, SMUGGLED, TYPED, Request, conversations
from tests.fuzz.strategies import cuts
from tests.provider import Seen, Wire

CONFIG = """
[websocket]
port = 0
[cache]
enabled = true
[[auth.keys]]
name = "chief"
key = "env:UP_KEY"
admin = true
"""
QUIET = 12.0
"""Seconds in which a new connection must have said something."""
LONG = 200.0
"""Seconds after which nobody waits for anything."""
SETTLED = 30
SWITCHED = re.compile(rb"HTTP/1\.[01] 101 ")


# -- the client


class Client:
    """One connection."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._sock = socket.socket()
        self._sock.setblocking(False)
        self.data = b""
        self.is_closed = False

    async def send(self, parts: list[bytes]) -> None:
        """In these pieces, as far as they are taken."""
        loop = self._house.loop
        await loop.sock_connect(self._sock, ("127.0.0.1", self._house.port))
        for part in parts:
            try:
                await loop.sock_sendall(self._sock, part)
            except OSError:
                break
            await turns(3)

    async def read(self) -> None:
        """What is there now, and whether that is all."""
        await turns(SETTLED)
        while not self.is_closed:
            try:
                part = self._sock.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            self.data += part
            self.is_closed = not part
            await turns(2)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def say_no_more(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)


def talk(house: House, parts: list[bytes], how: str) -> tuple[bytes, bool]:
    """Sends it all: what it reads, and whether that is all it will ever read."""
    with Client(house) as client:
        house.run(client.send(parts))
        house.run(client.read())
        if how == "end":
            client.say_no_more()
            house.run(client.read())
        if how != "leave" and not (
            SWITCHED.search(client.data) or b"text/event-stream" in client.data
        ):  # which may last
            for _ in range(100):  # threads may take a moment, and only then time begins to pass for what they said
                if client.is_closed:
                    break
                house.pass_time(QUIET)
                house.pass_time(LONG)
                house.run(client.read())
                house.run(asyncio.sleep(0 if client.is_closed else 0.01))
        return client.data, client.is_closed


def judge(answer: Answer, sent: bytes) -> None:
    """What holds of every answer."""
    status = answer.status
    if status >= 500:
        assert status == 504, answer
        assert b"only-if-cached" in sent or b"x-runestone-timeout" in sent, answer
    assert not any(name == "x-evil" for name, _ in answer.headers), "what was sent became a header"
    if status >= 400 and answer.is_whole and answer.body:
        assert answer.header("content-type").startswith("application/json"), answer
        error = orjson.loads(answer.body)["error"]
        assert error["type"]
        assert error["message"]
        assert "Traceback" not in error["message"]
    if status == 405:
        assert answer.header("allow")


def is_well(house: House) -> None:
    """The next request is answered, and nothing is left of those before."""
    with Client(house) as client:
        house.run(client.send([GOOD]))
        house.run(client.read())
        (answer,) = answers(client.data)
        assert answer.status == 200
    house.pass_time(LONG)
    house.clients_are_gone()


async def script(seen: Seen, wire: Wire) -> None:
    """The provider of `m`."""
    await wire.answer({"id": "c", "choices": [{"index": 0, "message": {"content": "so"}, "finish_reason": "stop"}]})


@pytest.fixture(scope="module")
def open_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all that is tried."""
    with open_house(tmp_path_factory.mktemp("http"), script, CONFIG) as opened:
        yield opened


HOWS = st.sampled_from(["wait", "end", "leave"])


@given(st.data(), conversations(), HOWS)
@effort(100)
def test_any_bytes_are_answered_or_end_the_connection(
    open_for_all: House, data: st.DataObject, sent: bytes, how: str
) -> None:
    """And the server is as it was."""
    house = open_for_all
    house.begin()
    said, is_over = talk(house, data.draw(cuts(sent, most=3)) if len(sent) < 5000 else [sent], how)
    switched = SWITCHED.search(said)
    if switched is not None:
        event("a websocket")
        said = said[: said.index(b"\r\n\r\n", switched.start()) + 4]
    elif how != "leave" and b"text/event-stream" not in said:
        assert is_over, "it is left open for ever"
    for answer in answers(said, to_head=sent.startswith(b"HEAD")):
        event(f"{answer.status // 100}xx")
        judge(answer, sent)
    is_well(house)


@given(st.data(), PAIRS, st.sampled_from([b"0\r\n\r\n", b"4\r\nabcd\r\n0\r\n\r\n", b""]), HOWS)
@effort(30)
def test_a_length_of_two_meanings_is_refused(
    open_for_all: House, data: st.DataObject, pair: tuple[bytes, ...], body: bytes, how: str
) -> None:
    """What one server takes for a body another would take for a request: nobody's answer may come of it."""
    house = open_for_all
    house.begin()
    sent = Request(b"POST", b"/v1/chat/completions", (*TYPED, *pair), body + SMUGGLED).bytes()
    said, is_over = talk(house, data.draw(cuts(sent, most=2)), how)
    assert b"/smuggled" not in said
    (answer,) = answers(said)
    assert answer.status == 400
    judge(answer, sent)
    assert is_over or how == "leave"
    is_well(house)
