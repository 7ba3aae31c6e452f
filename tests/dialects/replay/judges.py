"""What a client reads of a stream: the events taken apart plainly, and folded by the vendors' own SDKs.

Rule: models are made as the SDKs make them of an answer, without checking it: servers send more than they know.
"""

from __future__ import annotations

import json
from typing import Any, cast

import anthropic.types.beta as anthropic_types
import openai.types.chat as openai_types
import orjson
from anthropic._models import construct_type as construct_anthropic
from anthropic.lib.streaming._beta_messages import accumulate_event
from openai._models import construct_type as construct_openai
from openai.lib.streaming.chat import ChatCompletionStreamState


def events(stream: bytes) -> list[Any]:
    """The data of every event, and the end marker of OpenAI's as None."""
    found = []
    for event in stream.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if lines:
            found.append(None if lines == ["[DONE]"] else json.loads("\n".join(lines)))
    return found


def written(answer: bytes) -> bytes:
    """The JSON, with its members in one order: 1, 1.0 and true are three things."""
    return orjson.dumps(orjson.loads(answer), option=orjson.OPT_SORT_KEYS)


def plain(model: Any) -> Any:
    """What a model of an SDK holds; what is null and what is not there are the same to its readers."""
    return model.model_dump(exclude_none=True, warnings=False)


def folded_chat(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """OpenAI's SDK's own fold of the chunks, as an answer."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(cast("Any", construct_openai(type_=openai_types.ChatCompletionChunk, value=chunk)))
    folded: dict[str, Any] = plain(state.current_completion_snapshot)
    for choice in folded["choices"]:
        for call in choice["message"].get("tool_calls", ()):
            call.pop("index", None)
            call.get("function", {}).pop("parsed_arguments", None)
    return folded


def read_chat(answer: Any) -> dict[str, Any]:
    """The same of a whole answer."""
    found: dict[str, Any] = plain(construct_openai(type_=openai_types.ChatCompletion, value=answer))
    return found


def folded_message(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Anthropic's SDK's own fold of the events; it drops pings before."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    headers: Any = {}
    for data in told:
        if data["type"] != "ping":
            event: Any = construct_anthropic(type_=cast("Any", anthropic_types.BetaRawMessageStreamEvent), value=data)
            snapshot = accumulate_event(
                event=event, current_snapshot=snapshot, json_bufs=buffers, request_headers=headers
            )
    found: dict[str, Any] = plain(snapshot)
    return found


def read_message(answer: Any) -> dict[str, Any]:
    """The same of a whole answer."""
    found: dict[str, Any] = plain(construct_anthropic(type_=anthropic_types.BetaMessage, value=answer))
    return found
