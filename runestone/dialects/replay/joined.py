"""The chunks of a stream of the OpenAI dialect, joined to the whole answer; choices may come interleaved.

Usage is the last that was told (some servers count as they go). `created` is the first: some write the time of each
chunk. `object` names what it is, so it is the whole answer's. All else must not change from chunk to chunk.
"""

from __future__ import annotations

from typing import Any

from runestone.core.call import Operation
from runestone.dialects.replay.exact import refuse
from runestone.dialects.replay.shapes import Items, Pieces, Shape, append, state

OBJECTS = {
    Operation.CHAT: ("chat.completion.chunk", "chat.completion"),
    Operation.COMPLETIONS: ("text_completion", "text_completion"),
}
"""What a chunk is called, and a whole answer."""
PADDING = ("obfuscation", "p")
"""What OpenAI and Mistral fill chunks up with, to hide how long their texts are."""
REASONING = ("reasoning_content", "reasoning")

_FUNCTION = Shape(texts=frozenset({"arguments"}))
_CALL = Shape(
    facts=frozenset({"index", "id", "type"}),
    objects={"function": _FUNCTION, "custom": Shape(texts=frozenset({"input"}))},
)
_DETAIL = Shape(texts=frozenset({"text", "summary"}), facts=frozenset({"index", "id", "type", "format"}))
MESSAGE = Shape(
    texts=frozenset({"content", "refusal", *REASONING}),
    facts=frozenset({"role"}),
    objects={"function_call": _FUNCTION},
    lists={"tool_calls": Items(_CALL), "reasoning_details": Items(_DETAIL, ("index", "type"), keeps_index=True)},
    appended=frozenset({"annotations"}),
)
_COMPLETION = Shape(texts=frozenset({"text"}))
_FIRST = ("id", "object", "created", "model")


class Joined:
    """The answer, as far as its chunks have come."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._facts: dict[str, Any] = {}
        self._usage: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        """Takes the next chunk. Raises Inexact."""
        for name, value in chunk.items():
            if name == "choices":
                self._add_choices(value)
            elif name == "usage":
                if value is not None and type(value) is not dict:
                    refuse("usage is no object")
                self._usage = value or self._usage
            elif name == "created":
                self._facts[name] = self._facts.get(name) or value
            elif name == "error" and value:
                refuse("an error in the stream")
            elif name not in PADDING:
                state(self._facts, name, value)
        if "choices" not in chunk:
            refuse("a chunk without choices")

    def answer(self) -> dict[str, Any]:
        """The whole answer. Raises Inexact when there is none."""
        facts, choices = self._facts, self._choices
        if self._usage is None:
            refuse("no usage")
        if not choices or sorted(choices) != list(range(len(choices))):
            refuse("choices are missing")
        in_chunks, in_answers = OBJECTS[self._operation]
        if "object" in facts:
            if facts["object"] != in_chunks:
                refuse("an object of another kind")
            facts["object"] = in_answers
        answer = {name: facts.pop(name) for name in _FIRST if name in facts}
        answer["choices"] = [choices[index].whole(index) for index in range(len(choices))]
        answer["usage"] = self._usage
        return {**answer, **facts}

    def _add_choices(self, choices: Any) -> None:
        if type(choices) is not list:
            refuse("choices are no list")
        for choice in choices:
            index = choice.get("index") if type(choice) is dict else None
            if type(index) is not int:
                refuse("a choice has no index")
            if index not in self._choices:
                self._choices[index] = _Choice("delta" if self._operation is Operation.CHAT else "text")
            self._choices[index].add(choice)


class _Choice:
    """One choice. Its text comes in the member `said`."""

    __slots__ = ("_facts", "_logprobs", "_said", "_text")

    def __init__(self, said: str) -> None:
        self._said = said
        self._text = Pieces(MESSAGE if said == "delta" else _COMPLETION)
        self._facts: dict[str, Any] = {}
        self._logprobs: dict[str, Any] | None = None

    def add(self, choice: dict[str, Any]) -> None:
        if "message" in choice and self._said == "delta":
            refuse("a message in a chunk")
        for name, value in choice.items():
            if name == self._said:
                self._add_text(value)
            elif name == "logprobs":
                self._add_logprobs(value)
            elif name != "index":
                state(self._facts, name, value)

    def whole(self, index: int) -> dict[str, Any]:
        facts, said = self._facts, self._text.whole()
        finish = facts.pop("finish_reason", None)
        if type(finish) is not str or not finish:
            refuse("a choice is not finished")
        choice: dict[str, Any] = {"index": index}
        if self._said == "delta":
            choice["message"] = {"role": said.pop("role", None) or "assistant", **said}
        elif "text" in said:
            choice["text"] = said["text"]
        else:
            refuse("a choice has no text")
        if "logprobs" in facts:
            choice["logprobs"] = facts.pop("logprobs") or self._logprobs
        return {**choice, "finish_reason": finish, **facts}

    def _add_text(self, value: Any) -> None:
        if self._said == "text":
            self._text.add({"text": value})
        elif type(value) is dict:
            self._text.add(value)
        elif value is not None:
            refuse("a delta is no object")

    def _add_logprobs(self, value: Any) -> None:
        self._facts["logprobs"] = None
        if value is None:
            return
        if type(value) is not dict:
            refuse("logprobs are no object")
        if self._logprobs is None:
            self._logprobs = {}
        for name, marks in value.items():
            append(self._logprobs, name, marks)
