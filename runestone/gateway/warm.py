"""Answers that are known before anybody asks (see gateway/warm_line.py).

A line takes the way of a call: through the stages that look answers up and keep them, with the line's answer in the
provider's place. So it lies where a later call looks for it, and by the same terms as any other answer.

Rules: a line that is wrong is an error with its number and field, and the others are kept all the same. Calls that run
have their turn in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from runestone.core.answer import Answer, Form, form_of
from runestone.core.call import Call
from runestone.core.directives import Directives
from runestone.core.json import JsonObject
from runestone.core.reply import Reply
from runestone.dialects.replay.forms import is_with_usage
from runestone.errors import BadRequest, RunestoneError
from runestone.gateway.cache import Answers, FromCache, Keys, Tally
from runestone.gateway.items import ItemsFromCache
from runestone.gateway.pipeline import Next, Stage, compose
from runestone.gateway.playback import Playback
from runestone.gateway.store import Store, Terms
from runestone.gateway.warm_line import Line, Reader

MAX_LINES = 100_000
MAX_ERRORS = 20
BREATH = 0.005
"""Seconds of work after which the calls that run have their turn."""

_ANEW = Directives(no_cache=True)


@dataclass(slots=True)
class Warmed:
    """What became of the lines so far."""

    lines: int = 0
    stored: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def fail(self, problem: str) -> None:
        """Notes what is wrong with the line that was read last."""
        self.failed += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(f"line {self.lines}: {problem}")
        else:
            self.errors[-1] = f"and {self.failed - MAX_ERRORS + 1} more"

    def result(self) -> JsonObject:
        """For whoever sent the lines."""
        return {"stored": self.stored, "errors": self.errors}


class Warmup:
    """Keeps the answers of lines in `answers`; `read` understands a line."""

    def __init__(self, answers: Answers, keys: Keys, terms: Terms, read: Reader) -> None:
        self._answers = answers
        self._read = read
        tally = Tally()  # of its own: nobody has asked
        self._stages: tuple[Stage, ...] = (
            FromCache(answers, keys, terms.freshness, tally=tally, playback=_at_once, refresh=_nothing),
            ItemsFromCache(answers, keys, terms.freshness, tally=tally),
            Store(answers, terms),
        )

    async def __call__(self, lines: Iterable[bytes], warmed: Warmed) -> None:
        """Keeps the answers of `lines`, and counts them in `warmed`."""
        began = perf_counter()
        for text in lines:
            warmed.lines += 1
            if warmed.lines > MAX_LINES:
                warmed.fail(f"at most {MAX_LINES} lines are read")
                return
            if not text.strip():
                continue
            try:
                await self._keep(self._read(text))
            except RunestoneError as error:
                warmed.fail(error.message if error.param is None else f"{error.param}: {error.message}")
            else:
                warmed.stored += 1
            if perf_counter() - began > BREATH:
                await asyncio.sleep(0)
                began = perf_counter()

    async def _keep(self, line: Line) -> None:
        for headers in line.headers:
            before = self._answers.stores
            call = Call(
                id="warm-up",
                operation=line.operation,
                body=b"",
                fields=line.fields,
                model=str(line.fields["model"]),
                stream=line.is_stream,
                caller=line.caller,
                headers=headers,
                credential=None,
                started=perf_counter(),
                directives=_ANEW,
                ttl=line.ttl,
                tags=line.tags,
            )
            if form_of(call) is Form.STREAM_WITH_USAGE and not is_with_usage(line.operation, line.sent):
                raise BadRequest("has no usage, and the request asks for it", param="stream")
            reply = await compose(self._stages, partial(_given, line))(call)
            while reply.blocks is not None and await reply.blocks.next():
                pass
            reply.close()
            if self._answers.stores == before:
                raise BadRequest(
                    "is not kept: it calls tools (cache.store_tool_calls), was stopped by a filter, or is too large",
                    param="stream" if line.is_stream else "response",
                )


async def _given(line: Line, call: Call) -> Reply:
    """The answer of the line, in the provider's place."""
    if line.is_stream:
        kept = Answer(call.operation, {}, line.summary, None)
        return Reply(200, [], line.summary, blocks=_at_once(kept, line.sent))
    return Reply(200, [], line.summary, body=line.sent)


def _at_once(answer: Answer, sent: bytes, within: float = 0.0) -> Playback:
    return Playback(answer, sent, 0.0, within)


def _nothing(call: Call, next: Next) -> None:  # noqa: A002
    """Behind nobody's back: what is asked here is asked anew."""
