"""The events of a stream of the Anthropic dialect, folded into the whole message.

Blocks come one after the other. What `message_delta` says is later than what `message_start` said, and replaces it; of
usage, null replaces nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.dialects.replay.exact import load, refuse

TOOL_USES = ("tool_use", "server_tool_use", "mcp_tool_use")
RELABELS = ("fallback",)
"""Blocks that change the model the message began with."""

_DELTAS = {
    "text_delta": ("text", ("text",)),
    "thinking_delta": ("thinking", ("thinking",)),
    "input_json_delta": ("partial_json", TOOL_USES),
    "citations_delta": ("citation", ("text",)),
    "signature_delta": ("signature", ("thinking",)),
}
"""A kind of delta, the member it carries, and the blocks it may belong to."""
_MEMBERS = {
    "message_start": {"type", "message"},
    "content_block_start": {"type", "index", "content_block"},
    "content_block_delta": {"type", "index", "delta"},
    "content_block_stop": {"type", "index"},
}


class Folded:
    """The message, as far as its events have come."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._content: list[dict[str, Any]] = []
        self._block: _Block | None = None
        self._is_over = False

    def add(self, event: dict[str, Any]) -> None:
        """Takes the next event. Raises Inexact."""
        kind = event.get("type")
        if kind == "ping":
            return
        if kind == "error":
            refuse("an error in the stream")
        if type(kind) is not str or self._is_over or (kind == "message_start") is bool(self._message):
            refuse("events out of order")
        if kind in _MEMBERS and event.keys() - _MEMBERS[kind]:
            refuse(f"{kind} says something unknown")
        if kind == "message_start":
            self._start(event.get("message"))
        elif kind == "content_block_start" and self._block is None:
            self._at(event, len(self._content))
            self._block = _Block(event.get("content_block"))
        elif kind == "content_block_delta" and self._block is not None:
            self._at(event, len(self._content))
            self._block.add(event.get("delta"))
        elif kind == "content_block_stop" and self._block is not None:
            self._at(event, len(self._content))
            self._content.append(self._block.whole())
            self._block = None
        elif kind == "message_delta" and self._block is None:
            self._end(event)
        elif kind == "message_stop" and self._block is None:
            self._is_over = True
        else:
            refuse("an event of no known kind")

    def answer(self) -> dict[str, Any]:
        """The whole message. Raises Inexact when there is none."""
        message = self._message
        if not self._is_over:
            refuse("no end marker")
        if type(message.get("stop_reason")) is not str:
            refuse("the message is not finished")
        message["content"] = self._content
        return message

    def _start(self, message: Any) -> None:
        if type(message) is not dict or message.get("type") != "message" or message.get("content") != []:
            refuse("not a message")
        if type(message.get("usage")) is not dict:
            refuse("no usage")
        self._message = message

    def _at(self, event: dict[str, Any], index: int) -> None:
        if type(event.get("index")) is not int or event["index"] != index:
            refuse("blocks are not in order")

    def _end(self, event: dict[str, Any]) -> None:
        delta, usage = event.get("delta"), event.get("usage")
        if type(delta) is not dict or type(usage) is not dict:
            refuse("message_delta has no delta or no usage")
        counted: dict[str, Any] = self._message["usage"]
        counted.update({name: value for name, value in usage.items() if value is not None})
        beside = {name: value for name, value in event.items() if name not in ("type", "delta", "usage")}
        for name, value in (*delta.items(), *beside.items()):
            if name in ("type", "content", "usage"):
                refuse("message_delta says something unknown")
            if value is not None or self._message.get(name) is None:
                self._message[name] = value


class _Block:
    """One block of the content."""

    __slots__ = ("_is_open", "_parts", "_said")

    def __init__(self, said: Any) -> None:
        if type(said) is not dict or type(said.get("type")) is not str or said["type"] in RELABELS:
            refuse("a block of no known kind")
        self._said: dict[str, Any] = said
        self._parts: dict[str, list[Any]] = {}

    def add(self, delta: Any) -> None:
        kind = delta.get("type") if type(delta) is dict else None
        if kind == "compaction_delta" and self._said["type"] == "compaction" and not self._parts:
            self._parts[kind] = [{name: value for name, value in delta.items() if name != "type"}]
            if self._parts[kind][0].keys() - {"content", "encrypted_content"}:
                refuse("a delta of no known kind")
            return
        member, blocks = _DELTAS.get(kind, ("", ())) if type(kind) is str else ("", ())
        if self._said["type"] not in blocks or delta.keys() != {"type", member}:
            refuse("a delta of no known kind")
        if kind != "citations_delta" and type(delta[member]) is not str:
            refuse("a delta of no known kind")
        self._parts.setdefault(member, []).append(delta[member])

    def whole(self) -> dict[str, Any]:
        said = self._said
        for member, parts in self._parts.items():
            if member == "compaction_delta":
                _complete(said, parts[0])
            elif member == "partial_json":
                self._set_input("".join(parts))
            elif member == "citation":
                self._set("citations", [], parts)
            elif member == "signature":
                if len(parts) > 1:
                    refuse("more than one signature")
                self._set("signature", "", parts[0])
            else:
                self._append(member, "".join(parts))
        return said

    def _set(self, member: str, empty: object, value: Any) -> None:
        """A member that comes in parts opens empty."""
        if self._said.get(member) not in (None, empty):
            refuse(f"{member} opens with something")
        self._said[member] = value

    def _append(self, member: str, more: str) -> None:
        """A text may open with its first words."""
        text = self._said.get(member)
        if text is not None and type(text) is not str:
            refuse(f"{member} is a text and something else")
        self._said[member] = (text or "") + more

    def _set_input(self, told: str) -> None:
        if self._said.get("input") != {}:
            refuse("input opens with something")
        if told:
            self._said["input"] = load(told.encode())


def _complete(block: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Members that opened as null."""
    for name, value in more.items():
        if block.get(name) is not None:
            refuse(f"{name} comes more than once")
        block[name] = value
