"""One attempt: the request in the provider's dialect out, its answer in the client's dialect back.

Rule: everything that is not an answer becomes an error here; what leaves as a Reply has a head the client can be shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from time import perf_counter, time

from runestone.core.call import Call, Target
from runestone.core.reply import Reply
from runestone.core.resilience import Pace
from runestone.core.summary import Summary
from runestone.core.upstream import Upstream, UpstreamReply, UpstreamRequest
from runestone.dialects.beginning import begins_with_error, find_error, says_something
from runestone.dialects.dialect import Passage
from runestone.dialects.pace import tokens_in
from runestone.dialects.passage import DIALECTS, Traits, client_dialect, counted_here, passage, provider_operation
from runestone.dialects.sse import Cutter
from runestone.errors import BadRequest, ProviderError, ProviderFailed, ProviderTimeout, StreamBroken, Unavailable

EVENT_STREAM = "text/event-stream"
LINGER = 0.1
"""Seconds a provider has to end its connection behind the end of its stream, so that it can be kept."""


class Send:
    """The end of the chain. `upstreams` and `traits` by provider name."""

    def __init__(self, upstreams: Mapping[str, Upstream], traits: Mapping[str, Traits]) -> None:
        self._upstreams = upstreams
        self._traits = traits

    async def __call__(self, call: Call) -> Reply:
        target = call.target
        if target is None:
            raise Unavailable("no target was chosen")
        traits = self._traits[target.provider]
        counted = counted_here(call, traits)
        if counted is not None:
            return Reply(200, [("x-runestone-estimate", "true")], Summary(), body=counted)
        way = _passage(call, target, traits)
        operation = provider_operation(call.operation, traits.dialect)
        request = UpstreamRequest(
            path=DIALECTS[traits.dialect].path(operation),
            body=way.request(),
            headers=call.headers if operation is call.operation else {},
            credential=call.credential,
            stream=call.stream,
            deadline=call.deadline,
            context=call.context if call.trace is None else call.trace.context(call.span),
            progress=call.progress,
        )
        upstream = self._upstreams[target.provider]
        call.progress.stage = "provider"
        before = perf_counter()
        care = call.resilience
        try:
            asked = _ask(call, upstream, request, way, traits)
            reply = await (_in_time(care.ttft_timeout, asked) if call.stream and care.ttft_timeout else asked)
            if care.pace is not None and call.has_next and isinstance(reply.blocks, UpstreamBlocks):
                await reply.blocks.prove(care.pace)
            call.progress.stage = "streaming" if call.stream else "gateway"
            return reply
        finally:
            call.waited += perf_counter() - before


def _passage(call: Call, target: Target, traits: Traits) -> Passage:
    try:
        return passage(call, target.model, traits, target.provider, time())
    except BadRequest as error:
        error.elsewhere = True  # this target cannot be asked that; the next one may speak the client's dialect
        raise


async def _in_time(seconds: float, reply: Awaitable[Reply]) -> Reply:
    try:
        async with asyncio.timeout(seconds):
            return await reply
    except TimeoutError:
        raise ProviderTimeout(f"timeout (ttft): no first event within {seconds:g} s") from None


async def _ask(call: Call, upstream: Upstream, request: UpstreamRequest, way: Passage, traits: Traits) -> Reply:
    answer = await upstream.send(request)
    try:
        return await _reply(call, answer, way, traits)
    except BaseException as error:
        answer.close()
        _clean(error, answer)
        raise


def _clean(error: BaseException, answer: UpstreamReply) -> None:
    """Takes our credentials out of what a provider says of an error, wherever in its answer it says it."""
    if isinstance(error, ProviderError):
        error.message = answer.redact(error.message)
        error.type = answer.redact(error.type)
        error.code = answer.redact(error.code) if error.code is not None else None
        error.param = answer.redact(error.param) if error.param is not None else None


async def _reply(call: Call, answer: UpstreamReply, way: Passage, traits: Traits) -> Reply:
    if answer.status != 200:
        raise await _refusal(call, answer, traits)
    if call.stream:
        if answer.content_type in (EVENT_STREAM, ""):
            blocks = UpstreamBlocks(answer, way)
            await blocks.begin(hold=call.has_next)
            return Reply(200, answer.headers, way.summary, blocks=blocks)
        way.answer(await _read(answer))  # says so itself when it is an error in the guise of an answer
        raise ProviderFailed("the provider answered a streamed call with a whole answer")
    data = await _read(answer)
    came = perf_counter()
    body = way.answer(data)
    answer.close()
    call.waited -= perf_counter() - came  # to read an answer is our own time, not the provider's
    return Reply(200, answer.headers, way.summary, body=body)


async def _read(answer: UpstreamReply) -> bytes:
    """The whole body; one that is cut has told the client nothing yet, so another attempt may mend it."""
    try:
        return await answer.read()
    except StreamBroken as broken:
        raise ProviderFailed(broken.message) from None


async def _refusal(call: Call, answer: UpstreamReply, traits: Traits) -> ProviderError:
    """The error an answer other than 200 stands for: a 4xx stays what it is, the rest is the provider's failure."""
    body = await _read(answer)
    answer.close()
    dialect = DIALECTS[traits.dialect]
    refused = dialect.read_error(answer.status, body)
    if 400 <= answer.status < 500:
        refused.retry_after = answer.retry_after
        refused.headers = answer.headers
        if dialect is client_dialect(call.operation) and body[:1] in (b"{", b"["):
            refused.body = body
        return refused
    said = f": {refused.message}" if body and answer.status >= 500 else ""
    failed = ProviderFailed(f"the provider answered with status {answer.status}{said}", retry_after=answer.retry_after)
    failed.provider_status = answer.status
    return failed


class UpstreamBlocks:
    """A provider's stream as the client's blocks (see Blocks)."""

    __slots__ = ("_answer", "_cutter", "_ended", "_first", "_way", "first_token")

    def __init__(self, answer: UpstreamReply, way: Passage) -> None:
        self._answer = answer
        self._way = way
        self._cutter = Cutter()
        self._ended = False
        self._first = b""
        self.first_token: float | None = None

    async def begin(self, *, hold: bool) -> None:
        """Waits for the first event: a stream that says nothing, or begins with an error, is a failed attempt, and not
        a broken answer. `hold`s comments before it back, so that another target can still answer; with nobody left to
        ask they pass, and keep the client's connection alive.
        """
        held = b""
        try:
            while block := await self.next():
                held = held + block if held else block
                if says_something(block) or not hold:
                    break
        except StreamBroken as broken:
            raise ProviderFailed(broken.message) from None
        error = begins_with_error(held)
        if error is not None:
            raise ProviderFailed(error)
        self._first = held

    async def prove(self, pace: Pace) -> None:
        """Holds back what comes until the stream has shown its pace. Raises ProviderError, and is closed, if it fails
        or is too slow: the client has heard nothing, so another target may still answer.
        """
        held: list[bytes] = []
        missing = pace.tokens
        try:
            async with asyncio.timeout(pace.window):
                while missing > 0 and (block := await self.next()):
                    held.append(block)
                    missing -= tokens_in(block)
        except TimeoutError:
            self.close()
            few = f"fewer than {pace.tokens_per_second:g} tokens a second in the first {pace.window:g} s"
            raise ProviderTimeout(f"timeout (pace): {few}") from None
        except StreamBroken as broken:
            self.close()
            raise ProviderFailed(broken.message) from None
        except BaseException:
            self.close()
            raise
        self._first = b"".join(held)
        error = find_error(self._first)
        if error is not None:
            self.close()
            raise ProviderFailed(error.message)

    async def next(self) -> bytes:
        first = self._first
        if first:
            self._first = b""
            return first
        way = self._way
        try:
            while not self._ended:
                if way.failure is not None and not way.failure.told:
                    raise way.failure
                data = await (self._rest() if way.complete else self._answer.read_some())
                if not data:
                    self._ended = True
                    return self._last()
                block = self._cutter.feed(data)
                if not block:
                    continue
                out = way.feed(block)
                if self.first_token is None and way.started:
                    self.first_token = perf_counter()
                if out:
                    return out
        except ProviderError as error:
            _clean(error, self._answer)
            raise
        return b""

    def close(self) -> None:
        self._answer.close()

    async def _rest(self) -> bytes:
        """What may follow the end marker, or the provider's own end; a provider that holds on is not waited for."""
        try:
            async with asyncio.timeout(LINGER):
                return await self._answer.read_some()
        except (TimeoutError, ProviderError):
            return b""

    def _last(self) -> bytes:
        """The rest at a clean end. An event without its closing blank line counts only if the stream is complete
        with it.
        """
        tail = self._cutter.tail
        rest = self._way.feed(tail) if tail else b""
        try:
            return rest + self._way.finish()
        except ProviderError as error:
            if rest:  # the provider's own error event stands in what is held back, so the client has not read it
                error.told = False
            raise
