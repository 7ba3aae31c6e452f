"""One record of every call, when it is over for the client, whatever its end; and nobody pays for an observer."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

import pytest

from runestone.core.call import ANONYMOUS, Call, Caller, Operation, Target
from runestone.core.record import CLIENT_CLOSED, Record
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.errors import BadRequest, InternalError, ProviderRefused, ProviderTimeout, StreamBroken, Unavailable
from runestone.gateway.meter import Meter

SUMMARY = Summary(input_tokens=3, output_tokens=5, finish_reason="stop")


def call_of(*, stream: bool = False, caller: Caller = ANONYMOUS) -> Call:
    return Call("id-1", Operation.CHAT, b"{}", {}, "m", stream, caller, {}, None, perf_counter())


class Blocks:
    """A stream whose first content came a quarter of a second after the call began."""

    def __init__(self, call: Call) -> None:
        self.first_token: float | None = call.started + 0.25

    async def next(self) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is open."""


async def answered(call: Call) -> Reply:
    call.target, call.attempts, call.waited = Target("p", "m-up"), 2, 0.5
    return Reply(200, [], SUMMARY, body=b"{}")


async def refused(call: Call) -> Reply:
    raise BadRequest("no")


async def test_a_record_is_made_when_the_reply_is_closed() -> None:
    """Not when the head is known: a call is over when the last byte has gone."""
    records: list[Record] = []
    reply = await Meter([records.append])(call_of(), answered)
    assert records == []
    reply.close()
    reply.close()
    assert len(records) == 1


async def test_a_record_says_who_asked_what_of_whom() -> None:
    """Everything an observer may need, and nothing of the contents."""
    records: list[Record] = []
    reply = await Meter([records.append])(call_of(caller=Caller(name="team")), answered)
    reply.close()
    (record,) = records
    assert (record.id, record.operation, record.stream, record.model) == ("id-1", Operation.CHAT, False, "m")
    assert (record.provider, record.target_model, record.attempts, record.caller) == ("p", "m-up", 2, "team")
    assert (record.status, record.error, record.source) == (200, None, None)
    assert (record.summary, record.waited, record.first_token) == (SUMMARY, 0.5, None)


async def test_waiting_for_a_provider_is_not_our_time() -> None:
    """`head` is the time to the head less the time waited; `duration` is all of it."""
    records: list[Record] = []
    call = call_of()
    call.started -= 2.0
    reply = await Meter([records.append])(call, answered)
    assert call.head is not None
    reply.close()
    (record,) = records
    assert record.head == call.head
    assert 1.5 <= record.head < 2.5
    assert record.head + record.waited <= record.duration


async def test_the_first_token_is_measured_from_the_request() -> None:
    """Of a stream; whole answers have none."""
    records: list[Record] = []
    call = call_of(stream=True)

    async def streamed(call: Call) -> Reply:
        return Reply(200, [], SUMMARY, blocks=Blocks(call))

    (await Meter([records.append])(call, streamed)).close()
    assert records[0].first_token == pytest.approx(0.25)


def provider_refused(code: str | None) -> ProviderRefused:
    return ProviderRefused("no", status=429, type="rate_limit_error", code=code)


@pytest.mark.parametrize(
    ("error", "status", "code", "source"),
    [
        (BadRequest("x"), 400, "bad_request", "client"),
        (provider_refused("slow_down"), 429, "slow_down", "provider"),
        (provider_refused(None), 429, "rate_limit_error", "provider"),
        (ProviderTimeout("x"), 504, "timeout", "provider"),
        (Unavailable("x"), 503, "service_unavailable", "gateway"),
        (InternalError("x"), 500, "internal_error", "gateway"),
        (KeyError("x"), 500, "internal_error", "gateway"),
        (asyncio.CancelledError(), CLIENT_CLOSED, "client_closed", "client"),
    ],
)
async def test_a_failure_before_the_head_has_a_record_at_once(
    error: BaseException, status: int, code: str, source: str
) -> None:
    """The status the client sees, a word for what went wrong, and who is to blame; and the error goes on its way."""
    records: list[Record] = []

    async def fail(call: Call) -> Reply:
        raise error

    with pytest.raises(type(error)):
        await Meter([records.append])(call_of(), fail)
    (record,) = records
    assert (record.status, record.error, record.source) == (status, code, source)
    assert record.head is None
    assert record.summary == Summary()


@pytest.mark.parametrize(
    ("error", "status", "code", "source"),
    [
        (StreamBroken("x"), 200, "provider_error", "provider"),
        (ProviderTimeout("x"), 200, "timeout", "provider"),
        (KeyError("x"), 200, "internal_error", "gateway"),
        (ConnectionResetError(), CLIENT_CLOSED, "client_closed", "client"),
        (asyncio.CancelledError(), CLIENT_CLOSED, "client_closed", "client"),
    ],
)
async def test_a_failure_behind_the_head_keeps_the_status_that_was_sent(
    error: BaseException, status: int, code: str, source: str
) -> None:
    """The client saw 200; the record says what became of it. A client that left is no failure of ours."""
    records: list[Record] = []
    reply = await Meter([records.append])(call_of(), answered)
    reply.close(error)
    (record,) = records
    assert (record.status, record.error, record.source) == (status, code, source)
    assert record.summary == SUMMARY


async def test_observers_are_told_in_order() -> None:
    """Each gets the same record."""
    heard: list[tuple[str, Record]] = []
    observers = [lambda record: heard.append(("first", record)), lambda record: heard.append(("second", record))]
    (await Meter(observers)(call_of(), answered)).close()
    assert [name for name, _ in heard] == ["first", "second"]
    assert heard[0][1] is heard[1][1]


async def test_an_observer_that_fails_costs_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """The call and the other observers do not notice."""
    records: list[Record] = []

    def broken(record: Record) -> None:
        raise ValueError("out of ink")

    with caplog.at_level(logging.ERROR, "runestone.meter"):
        reply = await Meter([broken, records.append])(call_of(), answered)
        reply.close()
        with pytest.raises(BadRequest):
            await Meter([broken, records.append])(call_of(), refused)
    assert [record.status for record in records] == [200, 400]
    assert [line.getMessage() for line in caplog.records] == ["an observer failed"] * 2


async def test_the_reply_passes_untouched() -> None:
    """The meter watches; the answer is the one that came from further in."""
    made: list[Reply] = []

    async def remember(call: Call) -> Reply:
        made.append(await answered(call))
        return made[0]

    assert await Meter([])(call_of(), remember) is made[0]
