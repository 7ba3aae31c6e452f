"""Recorded exchanges with real providers, carried across: what the other side's SDK reads must say what the provider
said.

Rule: the expectation is written here a second time, from the recorded bytes, without the code under test.

What chat has no place for, and is left out: server tools' calls and results (their text stays), citations, and every
choice but the first. Recorded answers of those kinds are checked like all others, for what remains.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic.types as anthropic_types
import openai.types.chat as openai_types
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError

from runestone.core.summary import Summary
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.request_to_chat import request_to_chat
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.dialects.crossing.stream_to_chat import StreamToChat
from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.errors import BadRequest, ProviderFailed, StreamBroken

FOLDER = Path(os.environ.get("RUNESTONE_TRAFFIC") or Path(__file__).resolve().parents[4] / "shared" / "traffic")
FILE = FOLDER / "real_traffic.jsonl.gz"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the recorded traffic is not beside the checkout")

COMPLETION = TypeAdapter(openai_types.ChatCompletion)
CHUNK = TypeAdapter(openai_types.ChatCompletionChunk)
MESSAGE = TypeAdapter(anthropic_types.Message)
EVENT: TypeAdapter[Any] = TypeAdapter(anthropic_types.RawMessageStreamEvent)
CHAT_BODY = TypeAdapter(CompletionCreateParamsNonStreaming)
MESSAGES_BODY = TypeAdapter(MessageCreateParamsNonStreaming)

TO_CHAT = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "refusal": "content_filter",
}
TO_MESSAGES = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


@pytest.fixture(scope="module")
def traffic() -> list[dict[str, Any]]:
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [exchange for line in lines if (exchange := json.loads(line))["api"] in ("chat", "messages")]


def tell(line: str) -> None:
    print(f"\n{line}")  # noqa: T201 - how much was checked is what `pytest -s` is asked for here


def whole(traffic: list[dict[str, Any]], api: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for exchange in traffic:
        if exchange["api"] == api and exchange["status"] == 200 and not exchange["stream"]:
            try:
                yield exchange["id"], json.loads(exchange["resp"])
            except json.JSONDecodeError:
                continue  # some recordings kept a part of the body


def streams(traffic: list[dict[str, Any]], api: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    for exchange in traffic:
        if exchange["api"] == api and exchange["status"] == 200 and exchange["stream"]:
            yield exchange, exchange["resp"].encode()


def events(data: bytes) -> list[str]:
    """The data of every event, written down plainly."""
    text = data.decode().replace("\r\n", "\n")
    found = []
    for event in text.split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if lines:
            found.append("\n".join(lines))
    return found


def one_by_one(data: bytes, stream: StreamToChat | StreamToMessages) -> bytes:
    text = data.replace(b"\r\n", b"\n")
    return b"".join(stream.feed(event + b"\n\n") for event in text.split(b"\n\n") if event)


def said(pieces: Iterable[Any]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def content_text(content: Any) -> str:
    if isinstance(content, list):  # Mistral
        return said(part.get("text") for part in content if part.get("type") == "text")
    if isinstance(content, dict):  # Cloudflare Workers AI
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return content or ""


# -- Anthropic answered, a chat client reads


def messages_said(answer: dict[str, Any]) -> dict[str, Any]:
    content, usage = answer["content"], answer["usage"]
    calls = [(block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    reason = TO_CHAT[answer["stop_reason"]]
    prompt = [
        usage.get(name) or 0 for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    ]
    return {
        "text": said(block["text"] for block in content if block["type"] == "text"),
        "thinking": said(block["thinking"] for block in content if block["type"] == "thinking"),
        "sealed": [block.get("signature") or block.get("data") for block in content if "thinking" in block["type"]],
        "calls": calls,
        "reason": "stop" if reason == "tool_calls" and not calls else reason,
        "usage": (sum(prompt), usage["output_tokens"]),
    }


def chat_said(completion: openai_types.ChatCompletion) -> dict[str, Any]:
    choice, usage = completion.choices[0], completion.usage
    extra = choice.message.model_extra or {}
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return {
        "text": choice.message.content or "",
        "thinking": extra.get("reasoning_content") or "",
        "sealed": [detail.get("signature") or detail.get("data") for detail in extra.get("reasoning_details") or []],
        "calls": [
            (call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or []
        ],
        "reason": choice.finish_reason,
        "usage": (usage.prompt_tokens, usage.completion_tokens),
    }


def test_every_messages_answer_reads_as_a_chat_completion(traffic: list[dict[str, Any]]) -> None:
    """Text, thinking with its signatures, calls, stop reason and usage of every recorded Messages answer survive."""
    checked = 0
    for name, answer in whole(traffic, "messages"):
        if "usage" not in answer:
            continue  # count_tokens
        summary = Summary()
        crossed = answer_to_chat(answer, created=1_700_000_000, summary=summary)
        completion = COMPLETION.validate_json(json.dumps(crossed), strict=True)
        assert chat_said(completion) == messages_said(answer), name
        assert (summary.input_tokens, summary.output_tokens) == messages_said(answer)["usage"]
        checked += 1
    tell(f"messages answers to chat: {checked}")
    assert checked > 400


def folded(data: list[str]) -> dict[str, Any] | None:
    """The answer of a recorded Messages stream, None for one that does not end."""
    blocks: dict[int, dict[str, Any]] = {}
    answer: dict[str, Any] = {}
    for event in map(json.loads, data):
        kind = event["type"]
        if kind == "message_start":
            answer = {**event["message"]}
        elif kind == "content_block_start":
            blocks[event["index"]] = {**event["content_block"], "json": ""}
        elif kind == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            for target, source in (("text", "text"), ("thinking", "thinking"), ("json", "partial_json")):
                block[target] = block.get(target, "") + delta.get(source, "")
            block["signature"] = delta.get("signature") or block.get("signature")
        elif kind == "message_delta":
            answer["stop_reason"] = event["delta"]["stop_reason"]
            usage = {**answer["usage"], **{k: v for k, v in event["usage"].items() if v is not None}}
            answer["usage"] = usage
    for block in blocks.values():
        if block["type"] == "tool_use" and block["json"]:
            block["input"] = json.loads(block["json"])
    answer["content"] = list(blocks.values())
    return (
        answer if '"message_stop"' in (data[-1] if data else "") or any('"message_stop"' in d for d in data) else None
    )


def test_every_messages_stream_reads_as_chat_chunks(traffic: list[dict[str, Any]]) -> None:
    """Whole and event by event, every recorded Messages stream becomes chunks OpenAI's SDK folds into the same
    answer.
    """
    checked: Counter[str] = Counter()
    for exchange, data in streams(traffic, "messages"):
        stream = StreamToChat(created=1_700_000_000, include_usage=True)
        out = stream.feed(data)
        answer = folded(events(data))
        if answer is None:
            with pytest.raises(StreamBroken):
                stream.finish()
            assert b"[DONE]" not in out
            checked["cut short in the recording"] += 1
            continue
        out += stream.finish()
        twin = StreamToChat(created=1_700_000_000, include_usage=True)
        assert one_by_one(data, twin) + twin.finish() == out, exchange["id"]
        chunks = events(out)
        assert chunks.pop() == "[DONE]"
        state = ChatCompletionStreamState()
        heads = set()
        for text in chunks:
            chunk = CHUNK.validate_json(text, strict=True)
            heads.add((chunk.id, chunk.created, chunk.model, chunk.object))
            state.handle_chunk(chunk)
        assert len(heads) == 1
        # get_final_completion is this snapshot, but raises for an answer cut by the token limit
        completion = COMPLETION.validate_json(state.current_completion_snapshot.model_dump_json(warnings=False))
        assert chat_said(completion) == messages_said(answer), exchange["id"]
        assert stream.started == bool(any(b.get("text") or b["type"] == "tool_use" for b in answer["content"]))
        checked["streams"] += 1
    tell(f"messages streams to chat: {dict(checked)}")
    assert checked["streams"] > 100


# -- a chat provider answered, an Anthropic client reads


def completion_said(message: dict[str, Any], finish: str, usage: dict[str, Any]) -> dict[str, Any]:
    calls = []
    for call in message.get("tool_calls") or (
        [{"function": message["function_call"]}] if message.get("function_call") else []
    ):
        arguments = call["function"].get("arguments") or "{}"
        parsed = arguments if isinstance(arguments, dict) else json.loads(arguments)
        calls.append((call["function"]["name"], {} if parsed is None else parsed))
    reason = (
        "tool_use"
        if calls and finish in ("stop", "tool_calls", "function_call")
        else TO_MESSAGES.get(finish, "end_turn")
    )
    if message.get("refusal") and reason == "end_turn":
        reason = "refusal"
    return {
        "text": content_text(message.get("content")) + (message.get("refusal") or ""),
        "calls": calls,
        "reason": reason,
        "usage": (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0),
    }


def message_said(message: anthropic_types.Message) -> dict[str, Any]:
    usage = message.usage
    prompt = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return {
        "text": said(block.text for block in message.content if block.type == "text"),
        "calls": [(block.name, block.input) for block in message.content if block.type == "tool_use"],
        "reason": message.stop_reason,
        "usage": (prompt, usage.output_tokens),
    }


def test_every_chat_answer_reads_as_a_message(traffic: list[dict[str, Any]]) -> None:
    """Text, calls, stop reason and usage of the first choice of every recorded chat answer survive."""
    checked: Counter[str] = Counter()
    for name, answer in whole(traffic, "chat"):
        summary = Summary()
        if answer.get("error") or not answer.get("choices"):
            with pytest.raises(ProviderFailed):
                answer_to_messages(answer, summary=summary)
            checked["errors with status 200"] += 1
            continue
        choice = answer["choices"][0]
        try:
            expected = completion_said(choice["message"], choice["finish_reason"], answer.get("usage") or {})
        except json.JSONDecodeError:
            crossed = answer_to_messages(answer, summary=summary)
            assert crossed["stop_reason"] == "max_tokens", name
            assert not [block for block in crossed["content"] if block["type"] == "tool_use"]
            checked["arguments cut by the token limit"] += 1
            continue
        except KeyError:
            assert choice["message"]["tool_calls"][0]["type"] == "custom", name
            checked["calls of custom tools, which are refused in requests"] += 1
            continue
        message = MESSAGE.validate_json(json.dumps(answer_to_messages(answer, summary=summary)), strict=True)
        assert message_said(message) == expected, name
        checked["answers"] += 1
    tell(f"chat answers to messages: {dict(checked)}")
    assert checked["answers"] > 800


def folded_chat(data: list[str]) -> tuple[dict[str, Any], str | None, dict[str, Any]]:
    """Message, finish_reason and usage of the first choice of a recorded chat stream."""
    message: dict[str, Any] = {"content": "", "refusal": "", "tool_calls": []}
    finish, usage = None, {}
    calls: dict[int, dict[str, Any]] = {}
    for text in data:
        if text == "[DONE]":
            break
        chunk = json.loads(text)
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or []:
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            message["content"] += content_text(delta.get("content"))
            message["refusal"] += delta.get("refusal") or ""
            for position, call in enumerate(delta.get("tool_calls") or []):
                function = calls.setdefault(call.get("index", position), {"name": "", "arguments": ""})
                function["name"] = function["name"] or call["function"].get("name") or ""
                function["arguments"] += call["function"].get("arguments") or ""
            finish = choice.get("finish_reason") or finish
            if choice.get("native_finish_reason") in ("max_output_tokens", "length"):
                finish = "length"  # OpenRouter says tool_calls of a call that was cut
    message["tool_calls"] = [{"function": calls[index]} for index in sorted(calls)]
    return message, finish, usage


def test_every_chat_stream_reads_as_messages_events(traffic: list[dict[str, Any]]) -> None:
    """Whole and event by event, every recorded chat stream becomes events Anthropic's SDK folds into the same
    answer.
    """
    checked: Counter[str] = Counter()
    for exchange, data in streams(traffic, "chat"):
        given = events(data)
        if not given:
            checked["not an event stream in the recording"] += 1
            continue
        ends_with_done = "[DONE]" in given
        stream = StreamToMessages(model="fallback", ends_with_done=ends_with_done)
        out = stream.feed(data)
        if stream.failure is not None:
            with pytest.raises(type(stream.failure)):
                stream.finish()
            assert b"message_stop" not in out
            checked["error in the stream"] += 1
            continue
        message, finish, usage = folded_chat(given)
        if finish is None:
            with pytest.raises(StreamBroken):
                stream.finish()
            checked["cut short in the recording"] += 1
            continue
        out += stream.finish()
        twin = StreamToMessages(model="fallback", ends_with_done=ends_with_done)
        assert one_by_one(data, twin) + twin.finish() == out, exchange["id"]
        read = message_said(accumulated(events(out)))
        try:
            expected = completion_said(message, finish, usage)
        except json.JSONDecodeError:
            assert read["reason"] == "max_tokens", exchange["id"]
            checked["arguments cut by the token limit"] += 1
            continue
        assert read == expected, exchange["id"]
        checked["streams"] += 1
    tell(f"chat streams to messages: {dict(checked)}")
    assert checked["streams"] > 300


def accumulated(data: list[str]) -> anthropic_types.Message:
    """Anthropic's own fold of the events, each of which is valid, with one block open at a time."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    opened: list[int] = []
    for text in data:
        event = EVENT.validate_json(text, strict=True)
        if event.type == "content_block_start":
            opened.append(event.index)
            assert opened == [event.index], "two blocks are open"
        elif event.type == "content_block_delta":
            assert opened == [event.index]
        elif event.type == "content_block_stop":
            opened.remove(event.index)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    assert not opened
    return MESSAGE.validate_json(snapshot.model_dump_json(warnings=False), strict=True)


# -- requests


def requests(traffic: list[dict[str, Any]], api: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for exchange in traffic:
        if exchange["api"] != api or exchange["status"] != 200:
            continue
        try:
            body = json.loads(exchange["req"])
        except json.JSONDecodeError:
            continue
        if "messages" in body:
            yield exchange["id"], body


def without_numbers(param: str | None) -> str:
    assert param, "a refusal names its field"
    return "".join(sign for sign in param if not sign.isdigit())


# Anthropic's SDK no longer lists them, since its newest models take none; the API does.
SAMPLING = ("temperature", "top_p", "top_k")


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def exhaust(value: Any) -> None:
    """Pydantic checks what is declared Iterable only when it is walked."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            exhaust(item)


def test_every_chat_request_crosses_or_names_what_does_not(traffic: list[dict[str, Any]]) -> None:
    """A recorded chat request becomes a body Anthropic's SDK would take, or a 400 that names a field."""
    outcome: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for name, fields in requests(traffic, "chat"):
        before = json.dumps(fields)
        try:
            body = request_to_messages(fields, model="claude-sonnet-4-6", default_max_tokens=4096)
        except BadRequest as error:
            outcome["refused"] += 1
            refused[without_numbers(error.param)] += 1
            continue
        finally:
            assert json.dumps(fields) == before, "the client's fields are not ours to change"
        try:
            exhaust(MESSAGES_BODY.validate_python(without(body, "stream", *SAMPLING), extra="forbid"))
        except ValidationError as error:
            pytest.fail(f"{name}: {error}")
        turns = [turn["role"] for turn in body["messages"]]
        assert all(a != b for a, b in pairwise(turns)), "neighbours share a turn"
        outcome["crossed"] += 1
    tell(f"chat requests to messages: {dict(outcome)}; refused: {refused.most_common(40)}")
    assert outcome["crossed"] > 1000


def test_every_messages_request_crosses_or_names_what_does_not(traffic: list[dict[str, Any]]) -> None:
    """A recorded Messages request becomes a body OpenAI's SDK would take, or a 400 that names a field."""
    outcome: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for name, fields in requests(traffic, "messages"):
        before = json.dumps(fields)
        try:
            body = request_to_chat(fields, model="gpt-4o", max_tokens_field="max_completion_tokens")
        except BadRequest as error:
            outcome["refused"] += 1
            refused[without_numbers(error.param)] += 1
            continue
        finally:
            assert json.dumps(fields) == before, "the client's fields are not ours to change"
        try:
            exhaust(CHAT_BODY.validate_python(without(body, "stream"), extra="forbid"))
        except ValidationError as error:
            pytest.fail(f"{name}: {error}")
        outcome["crossed"] += 1
    tell(f"messages requests to chat: {dict(outcome)}; refused: {refused.most_common(40)}")
    assert outcome["crossed"] > 400
