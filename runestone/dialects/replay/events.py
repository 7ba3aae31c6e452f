"""A whole message of the Anthropic dialect as events, in Anthropic's way: what is known before the first word in
`message_start`, block after block, and what is known after the last in `message_delta`.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming and the recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runestone.dialects.replay.exact import cut, dump, refuse
from runestone.dialects.replay.folded import RELABELS, TOOL_USES
from runestone.dialects.sse import encode

_STOPS = ("stop_reason", "stop_sequence", "stop_details")
_IN_DELTA = (*_STOPS, "container")
_BESIDE_DELTA = ("context_management",)
_OUTPUT = ("output_tokens_details", "server_tool_use", "iterations")
"""Usage that is not known before the end."""


def events(message: dict[str, Any]) -> Iterator[bytes]:
    """The stream, event by event. Raises Inexact."""
    content, usage = message.get("content"), message.get("usage")
    if message.get("type") != "message" or type(content) is not list or type(usage) is not dict:
        refuse("not a message")
    if type(message.get("stop_reason")) is not str:
        refuse("the message is not finished")
    output = usage.get("output_tokens")
    if type(output) is not int:
        refuse("no usage")
    dump(message)  # an input can be nested deeper alone than inside of its message
    late = {name: message[name] for name in _BESIDE_DELTA if message.get(name) is not None}
    start = {name: value for name, value in message.items() if name not in late}
    start["content"] = []
    for name in _STOPS:
        if name in start:
            start[name] = None
    if start.get("container") is not None:
        del start["container"]
    start["usage"] = {name: value for name, value in usage.items() if name not in _OUTPUT or value is None}
    start["usage"]["output_tokens"] = min(output, 1)
    yield _event("message_start", message=start)
    for index, block in enumerate(content):
        yield from _block(index, block)
    delta = {name: message[name] for name in _IN_DELTA if name in message}
    counted = {name: value for name, value in usage.items() if value is not None}
    yield _event("message_delta", delta=delta, usage=counted, **late)
    yield _event("message_stop")


def _event(kind: str, **members: object) -> bytes:
    return encode(dump({"type": kind, **members}), kind)


def _block(index: int, block: Any) -> Iterator[bytes]:
    if type(block) is not dict or type(block.get("type")) is not str or block["type"] in RELABELS:
        refuse("a block of no known kind")
    opening = dict(block)
    deltas = list(_DELTAS[block["type"]](block, opening)) if block["type"] in _DELTAS else []
    yield _event("content_block_start", index=index, content_block=opening)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _text(block: dict[str, Any], opening: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Citations come before the text they are of, as Anthropic sends them."""
    text, citations = block.get("text"), block.get("citations")
    if type(text) is not str or not (citations is None or type(citations) is list):
        refuse("a text block without text")
    opening["text"] = ""
    if citations:
        opening["citations"] = []
        for citation in citations:
            yield {"type": "citations_delta", "citation": citation}
    for piece in cut(text):
        yield {"type": "text_delta", "text": piece}


def _thinking(block: dict[str, Any], opening: dict[str, Any]) -> Iterator[dict[str, Any]]:
    thinking, signature = block.get("thinking"), block.get("signature")
    if type(thinking) is not str or not (signature is None or type(signature) is str):
        refuse("a thinking block without thinking")
    opening["thinking"] = ""
    for piece in cut(thinking):
        yield {"type": "thinking_delta", "thinking": piece}
    if signature:
        opening["signature"] = ""
        yield {"type": "signature_delta", "signature": signature}


def _tool_use(block: dict[str, Any], opening: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if type(block.get("input")) is not dict:
        refuse("input is no object")
    if block["input"]:
        opening["input"] = {}
        for piece in cut(dump(block["input"]).decode()):
            yield {"type": "input_json_delta", "partial_json": piece}


def _compaction(block: dict[str, Any], opening: dict[str, Any]) -> Iterator[dict[str, Any]]:
    said = {name: block[name] for name in ("content", "encrypted_content") if block.get(name) is not None}
    if said:
        opening.update(dict.fromkeys(said))
        yield {"type": "compaction_delta", **said}


_DELTAS = {
    "text": _text,
    "thinking": _thinking,
    "compaction": _compaction,
    **dict.fromkeys(TOOL_USES, _tool_use),
}
"""Blocks that come in parts: their deltas, leaving in the opening what is not in them. All others open whole."""
