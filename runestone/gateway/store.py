"""Keeps answers that come back, for gateway/cache.py to find: once for each provider call, whoever reads it.

Never kept: errors, streams that did not end as their dialect says, what a client cut short, answers that a content
filter stopped, tool calls (unless asked for: they act on a world that moves on), and what is larger than `max_entry`.
Rule: costs a stream one append a block; what must be known of an answer is read from its bytes once, at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import perf_counter

from runestone.core.answer import Answer, Form, form_of
from runestone.core.cache import Entry
from runestone.core.call import Call
from runestone.core.directives import stored
from runestone.core.reply import Blocks, Reply
from runestone.core.summary import Summary
from runestone.dialects import embeddings
from runestone.dialects.finished import is_finished
from runestone.dialects.replay.forms import is_with_usage
from runestone.gateway.cache import Answers, Freshness
from runestone.gateway.pipeline import Next

_TOOLS = re.compile(
    rb'"tool_calls"\s*:\s*\[\s*\{|"function_call"\s*:\s*\{|"type"\s*:\s*"(?:tool_use|server_tool_use|mcp_tool_use)"'
)
_FILTERED = re.compile(
    rb'(?i)"(?:finish_reason|stop_reason)"\s*:\s*"(?:content_filter|refusal|safety|recitation|error)"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is kept, and for how long. `max_entry` in bytes."""

    freshness: Freshness
    max_entry: int
    tool_calls: bool = False
    paced: bool = False
    """Whether it is noted when each block of a stream came."""
    anything: bool = False
    """Whether an answer may be anything that JSON can say, as those of programs are (runestone/cache.py)."""


class Store:
    """The stage, around one provider call."""

    def __init__(self, answers: Answers, terms: Terms) -> None:
        self._answers = answers
        self._terms = terms

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        reply = await next(call)
        if call.fingerprint is None or reply.status != 200:
            return reply
        if reply.blocks is not None:
            reply.blocks = Recorded(reply, reply.blocks, call, self, self._terms)
        elif reply.body is not None and (
            self._keep_items(call, reply.body) if call.items else self.keep(call, reply.body, reply.summary, ())
        ):
            call.cache_headers = tuple((name, stored(value)) for name, value in call.cache_headers)
        return reply

    def keep(self, call: Call, sent: bytes, summary: Summary, pace: tuple[tuple[float, int], ...]) -> bool:
        """Keeps a whole answer, or a whole stream, if the terms allow it."""
        form = form_of(call)
        if call.fingerprint is None or not self._is_kept(call, form, sent):
            return False
        forms = {form: sent}
        if form is Form.STREAM and is_with_usage(call.operation, sent):
            forms[Form.STREAM_WITH_USAGE] = sent  # some providers count without being asked
        return keep(self._answers, self._terms, call, call.fingerprint, forms, summary, pace)

    def _keep_items(self, call: Call, sent: bytes) -> bool:
        """Keeps the answer to each item of an embeddings call."""
        asked = embeddings.items(call.fields) or []
        parts = embeddings.split(sent, asked)
        if parts is not None and len(asked) == 1:
            parts = [sent]  # as it came
        if parts is None or len(sent) > self._terms.max_entry * len(call.items):
            return False
        kept = False
        for key, part in zip(call.items, parts, strict=True):
            kept |= keep(self._answers, self._terms, call, key, {Form.WHOLE: part}, embeddings.summary_of(part))
        return kept

    def _is_kept(self, call: Call, form: Form, sent: bytes) -> bool:
        terms = self._terms
        if len(sent) > terms.max_entry:
            return False
        if terms.anything:
            return True
        if _FILTERED.search(sent) or (not terms.tool_calls and _TOOLS.search(sent)):
            return False
        return form is not Form.WHOLE or is_finished(call.operation, sent)


def keep(
    answers: Answers,
    terms: Terms,
    call: Call,
    key: bytes,
    forms: dict[Form, bytes],
    summary: Summary,
    pace: tuple[tuple[float, int], ...] = (),
) -> bool:
    """Puts an answer to `call` under `key`; False when it does not fit."""
    if call.ttl == 0:
        return False
    freshness, now = terms.freshness, perf_counter()
    expires = now + (freshness.ttl if call.ttl is None else call.ttl)
    wishes = call.directives
    beyond = max(
        freshness.stale_while_revalidate,
        freshness.stale_if_error,
        wishes.stale_while_revalidate or 0.0,
        wishes.stale_if_error or 0.0,
    )
    entry = Entry(
        Answer(call.operation, forms, summary, call.target, pace),
        size=sum(map(len, set(forms.values()))) + 24 * len(pace),
        stored=now,
        expires=expires,
        gone=expires + beyond,
        owner=call.caller.name,
        model=call.model,
        tags=call.tags,
    )
    return answers.put(key, entry, now)


class Recorded:
    """The blocks of a stream, kept as they pass (see Blocks)."""

    __slots__ = ("_began", "_blocks", "_call", "_kept", "_pace", "_reply", "_size", "_store", "_terms")

    def __init__(self, reply: Reply, blocks: Blocks, call: Call, store: Store, terms: Terms) -> None:
        self._reply: Reply | None = reply  # its summary is that of whoever ends the stream
        self._blocks = blocks
        self._call = call
        self._store = store
        self._terms = terms
        self._kept: list[bytes] | None = []
        self._pace: list[tuple[float, int]] = []
        self._size = 0
        self._began = 0.0

    @property
    def first_token(self) -> float | None:
        """See Blocks."""
        return self._blocks.first_token

    async def next(self) -> bytes:
        """See Blocks."""
        block = await self._blocks.next()
        kept, reply = self._kept, self._reply
        if kept is None or reply is None:
            return block
        if block:
            self._size += len(block)
            if self._terms.paced:
                now = perf_counter()
                self._began = self._began or now
                self._pace.append((now - self._began, self._size))
            kept.append(block)
            if self._size > self._terms.max_entry:
                self._kept = None
        else:
            self._kept = None
            self._store.keep(self._call, b"".join(kept), reply.summary, tuple(self._pace))
        return block

    def close(self) -> None:
        self._blocks.close()
        self._reply = None  # which holds this: nothing of a stream waits for the collector
