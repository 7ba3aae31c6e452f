"""A whole answer of the OpenAI dialect as chunks, in OpenAI's way: for each choice the role first, then its texts in
pieces, its tool calls, and the finish reason in a delta of its own.

Source: https://platform.openai.com/docs/api-reference/chat-streaming and the recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runestone.core.call import Operation
from runestone.dialects.replay.exact import cut, dump, is_empty, refuse
from runestone.dialects.replay.joined import MESSAGE, OBJECTS, PADDING, REASONING
from runestone.dialects.replay.shapes import Pieces
from runestone.dialects.sse import encode

_EVERYWHERE = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "provider")
"""Members that stand in every chunk. All others stand in the first: there SDKs keep what they do not know."""
_MOST_REPEATED = 2_048
"""Bytes of these: names, not a megabyte a thousand times over."""
_TEXTS = (*REASONING, "content", "refusal")
_ARGUMENTS = {"function": "arguments", "custom": "input"}


def chunks(operation: Operation, answer: dict[str, Any], *, include_usage: bool) -> Iterator[bytes]:
    """The stream, event by event. Raises Inexact."""
    usage, choices = answer.get("usage"), answer.get("choices")
    if answer.get("error") or type(choices) is not list or not choices:
        refuse("not an answer")
    if include_usage and not usage:
        refuse("no usage")
    if usage is not None and type(usage) is not dict:
        refuse("usage is no object")
    if any(name in answer for name in PADDING):
        refuse("padding, which is not told again")
    head = _head(operation, answer)
    counted = {"usage": None} if include_usage else {}
    more = {name: value for name, value in answer.items() if name not in {*head, "choices", "usage", "object"}}
    for index, choice in enumerate(choices):
        if type(choice) is not dict or type(choice.get("index")) is not int or choice["index"] != index:
            refuse("choices are not in order")
        for told in _chat_choice(choice) if operation is Operation.CHAT else _completion_choice(choice):
            yield encode(dump({**head, **more, "choices": [{"index": index, **told}], **counted}))
            more = {}
    if include_usage:
        yield encode(dump({**head, "choices": [], "usage": usage}))
    yield b"data: [DONE]\n\n"


def _head(operation: Operation, answer: dict[str, Any]) -> dict[str, Any]:
    """What stands in every chunk."""
    in_chunks, in_answers = OBJECTS[operation]
    head = {}
    for name in _EVERYWHERE:
        value = answer.get(name)
        if name in answer and not isinstance(value, list | dict):
            head[name] = value
    if "object" in answer:
        if answer["object"] != in_answers:
            refuse("an object of another kind")
        head["object"] = in_chunks
    if len(dump(head)) > _MOST_REPEATED:
        refuse("too much to stand in every chunk")
    return head


def _completion_choice(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The choice in parts; each has what a choice of a chunk has, but its index."""
    text, finish, logprobs, more = choice.get("text"), *_end(choice, "text")
    if "text" not in choice or not (text is None or type(text) is str):
        refuse("text is no text")
    unmarked = {name: None for name in ("logprobs",) if name in choice}
    if logprobs is not None:
        yield {"text": text, "logprobs": logprobs, "finish_reason": None}
    else:
        for piece in cut(text or ""):
            yield {"text": piece, **unmarked, "finish_reason": None}
    yield {"text": text and "", **unmarked, "finish_reason": finish, **more}


def _chat_choice(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """See _completion_choice."""
    message, finish, logprobs, more = choice.get("message"), *_end(choice, "message")
    if type(message) is not dict or type(message.get("role")) is not str or not message["role"]:
        refuse("not a message")
    if "delta" in choice:
        refuse("a message and a delta")
    _check_details(message.get("reasoning_details"))
    unmarked = {name: None for name in ("logprobs",) if name in choice}
    for delta in _deltas(message, is_cut=logprobs is None):
        if logprobs is not None and _is_marked(message, delta):
            yield {"delta": delta, "logprobs": logprobs, "finish_reason": None}
        else:
            yield {"delta": delta, **unmarked, "finish_reason": None}
    yield {"delta": {}, **unmarked, "finish_reason": finish, **more}


def _is_marked(message: dict[str, Any], delta: dict[str, Any]) -> bool:
    """Whether this is the delta that has the choice's logprobs: that of its content, or else of its first text."""
    for name in ("content", "refusal", *REASONING):
        if message.get(name) and type(message[name]) is str:
            return bool(delta.get(name))
    return "role" in delta


def _end(choice: dict[str, Any], said: str) -> tuple[str, dict[str, Any] | None, dict[str, Any]]:
    """Finish reason, logprobs, and the members that stand beside the finish reason."""
    finish, logprobs = choice.get("finish_reason"), choice.get("logprobs")
    if type(finish) is not str or not finish:
        refuse("a choice is not finished")
    if logprobs is not None and type(logprobs) is not dict:
        refuse("logprobs are no object")
    known = ("index", "finish_reason", "logprobs", said)
    return finish, logprobs, {name: value for name, value in choice.items() if name not in known}


def _deltas(message: dict[str, Any], *, is_cut: bool) -> Iterator[dict[str, Any]]:
    """The message in parts: role and what is empty; texts; what comes whole; calls."""
    content = message.get("content")
    if isinstance(content, dict | int | float):
        refuse("content is no text")
    opening = {"role": message["role"]}
    for name, value in message.items():
        if is_empty(value):
            opening[name] = value
        elif name in ("content", "refusal") and type(value) is str:
            opening[name] = ""
    yield opening
    for name in _TEXTS:
        text = message.get(name)
        if text and type(text) is str:
            for piece in cut(text) if is_cut else (text,):
                yield {name: piece}
    calls, function = message.get("tool_calls"), message.get("function_call")
    done = {name for name in _TEXTS if type(message.get(name)) is str} | {"role", "tool_calls", "function_call"}
    more = {name: value for name, value in message.items() if name not in done and not is_empty(value)}
    if more:
        yield more
    if not is_empty(calls):
        yield from _calls(calls)
    if not is_empty(function):
        for part in _call({"function": function}):
            yield {"function_call": part["function"]}


def _check_details(details: Any) -> None:
    """Raises Inexact where items would be taken for parts of one."""
    joined = Pieces(MESSAGE)
    joined.add({"reasoning_details": details})
    if joined.whole()["reasoning_details"] != details:
        refuse("reasoning_details have an index twice")


def _calls(calls: Any) -> Iterator[dict[str, Any]]:
    if type(calls) is not list:
        refuse("tool_calls are no list")
    for index, call in enumerate(calls):
        if type(call) is not dict or "index" in call:
            refuse("a tool call has an index")  # stands in every delta, so no stream can say that the answer had it
        for part in _call(call):
            yield {"tool_calls": [{"index": index, **part}]}


def _call(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A call in parts: all but its arguments, then these in pieces."""
    opening = dict(call)
    told: list[tuple[str, str, str]] = []
    for name, texts in _ARGUMENTS.items():
        said = call.get(name)
        if said is None:
            continue
        if type(said) is not dict or (texts in said and type(said[texts]) is not str):
            refuse("arguments are no text")
        if texts in said:
            opening[name] = {**said, texts: ""}
            told.append((name, texts, said[texts]))
    yield opening
    for name, texts, text in told:
        for piece in cut(text):
            yield {name: {texts: piece}}
