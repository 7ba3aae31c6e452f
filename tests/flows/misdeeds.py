"""What providers do wrong, as a table: the misdeed, what an honest error for it looks like, and who is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from tests.flows.drill import WHOLE
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.provider import Script, Seen, Wire

TTFT = 'routing.retries = 0\nrouting.ttft_timeout = "400ms"\n'
BOOM = {"error": {"message": "boom", "type": "server_error", "code": None}}
ERROR_EVENT = b'data: {"error":{"message":"boom","type":"server_error","code":500}}\n\n'
THROTTLED = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A misdeed, and what a client sees of it that has nobody else to ask.

    `said`: the provider's own events that stand before the error; `retry_after`: the header; `breaker`: its state after
    five calls; `keeps`: whether connections outlive it; `is_unseen`: whether another target can hide it.
    """

    name: str
    script: Script
    stream: bool = False
    status: int = 502
    type: str = "api_error"
    code: str | int = "provider_error"
    says: str = ""
    said: bytes = b""
    retry_after: str | None = None
    breaker: float = 2.0
    keeps: bool = False
    is_unseen: bool = True
    patience: str = ""

    def more(self, seconds: float = 0.2) -> str:
        """The lines of the configuration that it needs: a deadline that does not take minutes to pass."""
        return deadline(self.patience, seconds) if self.patience else ""


def deadline(name: str, seconds: float) -> str:
    """The configuration of one timeout."""
    return f'[routing.timeouts]\n{name} = "{seconds * 1000:.0f}ms"\n'


def raw(*pieces: bytes, ends: bool = False) -> Script:
    """Sends these bytes, each piece after the one before has been read; then closes, or waits for the gateway to."""

    async def script(seen: Seen, wire: Wire) -> None:
        for piece in pieces:
            await wire.send(piece)
            await asyncio.sleep(0.02)  # the gateway reads in this very loop, before a timer is looked at
        if ends:
            wire.close()
        else:
            await wire.left(30)

    return script


def whole(body: bytes | dict[str, Any], status: int = 200, **headers: str) -> Script:
    """A whole answer; the connection stays open."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer(body, status=status, headers=named)

    return script


def stream(*events: bytes, ends: bool = True) -> Script:
    """A stream of these events, ended as HTTP ends one, or never."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for event in events:
            await wire.chunk(event)
        if ends:
            await wire.end_stream()
        else:
            await wire.left(30)

    return script


def trickle(head: bytes, piece: bytes) -> Script:
    """`head` at once, then `piece` again and again, always sooner than a wait between two bytes would end."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.send(head)
        while not wire.reader.at_eof():
            await wire.send(piece)
            await asyncio.sleep(0.02)

    return script


HEAD = b"HTTP/1.1 200 OK\r\n"
JSON_HEAD = HEAD + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
EVENTS_HEAD = HEAD + b"Content-Type: text/event-stream\r\n"
CHUNKED = EVENTS_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ONE_EVENT = b"%x\r\n%b\r\n" % (len(ROLE), ROLE)

HANGS = [
    *(
        Drill(
            name=f"hangs, {'stream' if streamed else 'json'}",
            script=raw(),
            stream=streamed,
            status=504,
            code="timeout",
            says="timeout (first_byte)",
            patience="first_byte",
        )
        for streamed in (False, True)
    ),
    Drill(
        name="hangs in the head",
        script=raw(HEAD + b"Content-Ty"),
        status=504,
        code="timeout",
        says="timeout (first_byte)",
        patience="first_byte",
    ),
    Drill(
        name="hangs in the body",
        script=raw(JSON_HEAD + b'{"choices": ['),
        status=504,
        code="timeout",
        says="timeout (between_bytes)",
        patience="between_bytes",
    ),
    Drill(
        name="hangs before the first event",
        script=stream(ROLE[:20], ends=False),
        stream=True,
        status=504,
        code="timeout",
        says="timeout (between_bytes)",
        patience="between_bytes",
    ),
    Drill(
        name="hangs in the stream",
        script=stream(ROLE, ends=False),
        stream=True,
        status=200,
        code="timeout",
        says="timeout (between_bytes)",
        said=ROLE,
        is_unseen=False,
        patience="between_bytes",
    ),
]
TRICKLES = [
    Drill(
        name="trickles its head",
        script=trickle(HEAD, b"X-A: b\r\n"),
        status=504,
        code="timeout",
        says="timeout (first_byte)",
        patience="first_byte",
    ),
    Drill(
        name="trickles its body",
        script=trickle(JSON_HEAD, b" "),
        status=504,
        code="timeout",
        says="timeout (total)",
        is_unseen=False,  # the deadline is the whole call's, so nobody else can be asked
        patience="total",
    ),
    Drill(
        name="trickles one event",
        script=trickle(CHUNKED + b"6\r\ndata: \r\n", b"1\r\n \r\n"),
        stream=True,
        status=504,
        code="timeout",
        says="timeout (total)",
        is_unseen=False,
        patience="total",
    ),
]
GARBAGE = [
    Drill(name="answers a page", script=whole(b"<html>hello</html>"), says="not JSON", keeps=True),
    Drill(name="answers a list", script=whole(b"[1, 2]"), says="not a JSON object", keeps=True),
    Drill(name="answers another object", script=whole({"hello": 1}), says="not one of the OpenAI dialect", keeps=True),
    Drill(name="answers nothing", script=whole(b""), says="not JSON", keeps=True),
    Drill(name="speaks something else", script=raw(b"SSH-2.0-OpenSSH_9.6\r\n"), says="not an HTTP answer"),
    Drill(name="sends noise", script=raw(bytes(range(256)) * 8), says="not an HTTP answer"),
    Drill(name="lies about the length", script=raw(HEAD + b"Content-Length: -5\r\n\r\n{}"), says="not an HTTP answer"),
    Drill(
        name="breaks the first chunk",
        script=raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
        says="not an HTTP answer",
    ),
    Drill(
        name="breaks the chunks",
        script=raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n{}\r\n"),
        says="before the answer was complete",
        patience="between_bytes",
    ),
    Drill(name="streams a page", script=stream(b"<html>hello</html>"), stream=True, says="end marker", keeps=True),
    Drill(name="streams nothing", script=stream(), stream=True, says="end marker", keeps=True),
    Drill(
        name="breaks the chunks of a stream",
        script=raw(CHUNKED + ONE_EVENT, b"zz\r\n"),
        stream=True,
        status=200,
        says="before the answer was complete",
        said=ROLE,
        is_unseen=False,
        patience="between_bytes",
    ),
    Drill(
        name="streams events that say nothing",
        script=stream(b"data: garbage\n\n"),
        stream=True,
        status=200,
        says="end marker",
        said=b"data: garbage\n\n",
        keeps=True,
        is_unseen=False,
    ),
    Drill(
        name="ends without a marker",
        script=stream(ROLE + chunk({"content": "hello"}) + STOP),
        stream=True,
        status=200,
        says="end marker",
        said=WHOLE.removesuffix(DONE),
        keeps=True,
        is_unseen=False,
    ),
]
ERRORS_IN_A_200 = [
    Drill(name="an error in a 200", script=whole(BOOM), says="answered 200 with an error: boom", keeps=True),
    Drill(
        name="an error in a 200 for a stream",
        script=whole(BOOM),
        stream=True,
        says="answered 200 with an error: boom",
        keeps=True,
    ),
    Drill(
        name="an error event in a stream",
        script=stream(ROLE, ERROR_EVENT),
        stream=True,
        status=200,
        type="server_error",
        code=500,  # the provider's own event passes as it is
        says="boom",
        said=ROLE,
        keeps=True,
        is_unseen=False,
    ),
]
REFUSALS = [
    Drill(
        name=f"429, {'told when' if told else 'not told when'}, {'stream' if streamed else 'json'}",
        script=whole(THROTTLED, 429, **({"retry_after": "60"} if told else {})),
        stream=streamed,
        status=429,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        says="slow down",
        retry_after="60" if told else None,
        breaker=0.0,
        keeps=True,
    )
    for told in (True, False)
    for streamed in (False, True)
]
OVERLOADS = [
    Drill(
        name=f"{status}, {'told when' if told else 'not told when'}",
        script=whole(BOOM, status, **({"retry_after": "60"} if told else {})),
        says=f"status {status}: boom",
        retry_after="60" if told else None,
        keeps=True,
    )
    for status in (529, 503)
    for told in (True, False)
]
DRILLS = [*HANGS, *TRICKLES, *GARBAGE, *ERRORS_IN_A_200, *REFUSALS, *OVERLOADS]
