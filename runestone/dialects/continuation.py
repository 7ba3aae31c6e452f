"""Going on with a streamed answer that broke off: what another target is asked, and how its stream is joined on.

    what the client has read  ─▶  the text said so far  ─▶  a request that ends with it, as the assistant's own words
    the next target's events  ─▶  under the first answer's id, model and place  ─▶  the same stream of the client

Rules: pure, in the client's dialect alone; only plain text is continued. Tool calls, thoughts, several choices and
answers that had finished cannot be taken up by another model, and are left as they broke.
Absent: usage. What the first target counted is lost with it; the client reads the last target's own count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.core.tokens import estimate_tokens
from runestone.core.upstream import Prefill
from runestone.dialects.dialect import load_object, text
from runestone.dialects.sse import Decoder, Event, encode
from runestone.errors import StreamBroken


class Joiner(Protocol):
    """Turns the next target's events into the rest of the client's stream."""

    def feed(self, event: Event) -> Iterator[bytes]:
        """The bytes of the events that take its place. Raises StreamBroken for one that cannot be written."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """`fields`: the request to go on with. `is_prefilled`: it ends with what was said, to be continued."""

    fields: JsonObject
    is_prefilled: bool
    joiner: Joiner


def continuation(operation: Operation, fields: JsonObject, told: Iterable[bytes]) -> Continuation | None:
    """How to go on after the blocks `told`; None when it cannot be done."""
    decoder = Decoder()
    events = [event for block in told for event in decoder.feed(block)]
    if operation is Operation.MESSAGES:
        return _continue_messages(fields, events)
    if operation is Operation.CHAT:
        return _continue_chat(fields, events)
    if operation is Operation.COMPLETIONS:
        return _continue_completion(fields, events)
    return None


def prefilled(fields: dict[str, Any], prefill: Prefill) -> dict[str, Any]:
    """A chat request whose last message a provider of this kind continues."""
    if prefill is Prefill.PREFIX:
        *before, last = fields["messages"]
        return {**fields, "messages": [*before, {**last, "prefix": True}]}
    if prefill is Prefill.FINAL_MESSAGE:
        return {**fields, "add_generation_prompt": False, "continue_final_message": True}
    return fields


@dataclass(slots=True)
class _Text:
    """The text said so far. `owed`: white space at its end that was not sent up (vendors refuse it there)."""

    parts: list[str] = field(default_factory=list)

    @property
    def sent(self) -> str:
        return "".join(self.parts).rstrip()

    @property
    def owed(self) -> str:
        text = "".join(self.parts)
        return text[len(text.rstrip()) :]


def _continue_chat(fields: dict[str, Any], events: list[Event]) -> Continuation | None:
    head: JsonObject = {}
    words = _Text()
    for choice in _choices_so_far(events, head):
        delta = choice.get("delta")
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name == "content" and isinstance(value, str):
                words.parts.append(value)
            elif name != "role" and value:
                return None
        if _is_beyond(choice):
            return None
    messages = _with_assistant(fields["messages"], words.sent)
    if messages is None:
        return None
    asked = {**_with_less(fields, words.sent), "messages": messages}
    return Continuation(asked, bool(words.sent), _ChunkJoiner("content", head, words.owed if words.sent else ""))


def _continue_completion(fields: dict[str, Any], events: list[Event]) -> Continuation | None:
    head: JsonObject = {}
    said = ""
    for choice in _choices_so_far(events, head):
        said += text(choice.get("text")) or ""
        if _is_beyond(choice):
            return None
    if not isinstance(fields.get("prompt"), str) or (fields.get("echo") and said):
        return None
    # A prompt may end as it likes, and every provider goes on with one.
    asked = {**_with_less(fields, said), "prompt": fields["prompt"] + said}
    return Continuation(asked, False, _ChunkJoiner("text", head, ""))


def _choices_so_far(events: list[Event], head: JsonObject) -> Iterator[dict[str, Any]]:
    """Every choice of the chunks; `head` takes what is the same in all of them. What is no chunk counts as finished."""
    for event in events:
        chunk = load_object(event.data)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            yield {"finish_reason": "unknown"}
            return
        if not head:
            head.update({name: chunk[name] for name in _HEAD if name in chunk})
        yield from choices


def _is_beyond(choice: dict[str, Any]) -> bool:
    """Whether it is another choice than the first, or has finished: then there is nothing to go on with."""
    return bool(choice.get("index") or choice.get("finish_reason"))


_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_PLACE = ("index", "finish_reason", "logprobs")
_LIMITS = ("max_tokens", "max_completion_tokens")


class _ChunkJoiner:
    """Chat chunks (`said` is "content") and text completions ("text"); `head` is that of the first answer."""

    def __init__(self, said: str, head: JsonObject, owed: str) -> None:
        self._said = said
        self._head = head
        self._owed = owed

    def feed(self, event: Event) -> Iterator[bytes]:
        chunk = load_object(event.data)
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            yield encode(event.data, event.name)
            return
        chunk.update(self._head)
        chunk["choices"] = [choice for choice in choices if isinstance(choice, dict) and self._is_news(choice)]
        if chunk["choices"] or chunk.get("usage") or not choices:
            yield encode(_written(chunk), event.name)

    def _is_news(self, choice: dict[str, Any]) -> bool:
        """Whether anything is left of it without the role, which stands in the first answer's first chunk."""
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else choice
        if self._head:
            delta.pop("role", None)
        said = delta.get(self._said)
        if self._owed and isinstance(said, str) and said:
            delta[self._said] = said.removeprefix(self._owed)
            self._owed = ""
        return bool(choice.get("finish_reason")) or any(delta[name] for name in delta if name not in _PLACE)


def _continue_messages(fields: dict[str, Any], events: list[Event]) -> Continuation | None:
    words = _Text()
    is_open = has_begun = False
    for event in events:
        said = load_object(event.data)
        kind = said.get("type")
        if kind == "message_start":
            has_begun = True
        elif kind == "content_block_start" and said.get("index") == 0 and _inner(said, "content_block") == "text":
            is_open = True
        elif kind == "content_block_delta" and _inner(said, "delta") == "text_delta":
            words.parts.append(text(said["delta"].get("text")) or "")
        elif kind != "ping":  # a block that has ended, or the message: then it is not the text that is missing
            return None
    messages = _with_assistant(fields["messages"], words.sent)
    if messages is None:
        return None
    asked = {**_with_less(fields, words.sent), "messages": messages}
    return Continuation(asked, bool(words.sent), _MessagesJoiner(words.owed if words.sent else "", has_begun, is_open))


class _MessagesJoiner:
    """Anthropic's events. A first block of text goes on with the one that is open; any other one closes it."""

    def __init__(self, owed: str, has_begun: bool, is_open: bool) -> None:
        self._owed = owed
        self._has_begun = has_begun
        self._is_open = is_open
        self._shift = 0

    def feed(self, event: Event) -> Iterator[bytes]:
        said = load_object(event.data)
        kind = said.get("type")
        if kind == "message_start" and self._has_begun:
            return
        if kind == "content_block_start" and self._is_open:
            self._is_open = False
            if _inner(said, "content_block") == "text":
                return
            self._shift = 1
            yield encode(orjson.dumps({"type": "content_block_stop", "index": 0}), "content_block_stop")
        elif kind == "message_delta" and self._is_open:  # nothing more was said
            self._is_open = False
            yield encode(orjson.dumps({"type": "content_block_stop", "index": 0}), "content_block_stop")
        if isinstance(said.get("index"), int):
            said["index"] += self._shift
        if self._owed and _inner(said, "delta") == "text_delta" and text(said["delta"].get("text")):
            said["delta"]["text"] = said["delta"]["text"].removeprefix(self._owed)
            self._owed = ""
        yield encode(_written(said) if said else event.data, event.name)


def _written(said: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(said)
    except TypeError:
        raise StreamBroken("the provider sent an event that is nested too deeply") from None


def _inner(said: dict[str, Any], name: str) -> object:
    """The type of the object `name` of an event."""
    inner = said.get(name)
    return inner.get("type") if isinstance(inner, dict) else None


def _with_assistant(messages: list[Any], said: str) -> list[Any] | None:
    """The conversation with the answer so far; None where the client's own last words are no plain text to add to."""
    if not said:
        return messages
    last = messages[-1]
    if last.get("role") != "assistant":
        return [*messages, {"role": "assistant", "content": said}]
    if not isinstance(last.get("content"), str) or last.get("tool_calls"):
        return None
    return [*messages[:-1], {**last, "content": last["content"] + said}]


def _with_less(fields: dict[str, Any], said: str) -> dict[str, Any]:
    """The request with the limit of what is still to be said."""
    used = estimate_tokens(said)
    return {
        name: max(1, value - used) if name in _LIMITS and isinstance(value, int) else value
        for name, value in fields.items()
    }
