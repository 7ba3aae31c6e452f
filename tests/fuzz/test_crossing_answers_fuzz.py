"""For any bytes a provider answers with: the client reads a valid answer of its dialect, or a ProviderFailed that can
be told in it; nothing else is raised, and what the record is told are texts that UTF-8 can say and numbers that can be.

For any sound answer: it crosses with the same words, calls, end and tokens; and what was signed comes back signed when
a client sends the answer back as it was.
"""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import event, given
from hypothesis import strategies as st

from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.core.summary import Summary
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.dialects.dialect import Passage
from runestone.dialects.passage import DIALECTS, Traits, passage
from runestone.errors import ProviderError, ProviderFailed
from tests.dialects.crossing.seeds import CHAT_ANSWERS, ERRORS, MESSAGES_ANSWERS, REFUSALS
from tests.fuzz.conversations import CHAT_ANSWER, MESSAGES_ANSWER
from tests.fuzz.effort import effort
from tests.fuzz.judges import judge_completion, judge_message
from tests.fuzz.strategies import DEEP, JSON, ODD, deep_json, spoiled

ALL = frozenset(operation.value for operation in Operation)
CROSSINGS = [(Operation.CHAT, "anthropic"), (Operation.MESSAGES, "openai")]
RELAYS = [(Operation.CHAT, "openai"), (Operation.MESSAGES, "anthropic")]

NOT_QUITE = {
    b'"@nan"': b"NaN",
    b'"@inf"': b"-Infinity",
    b'"@huge"': b"9" * 30,
    b'"@more"': b"1e999",
    b"@half": b"\\ud83d",  # half of a sign, as servers write it that cut a text between two tokens
    b"@bytes": b"\xff",
}
"""What some servers write that is not quite JSON, by what stands for it."""
VALUES = ODD | DEEP | JSON | st.sampled_from(["@nan", "@inf", "@huge", "@more", "@half", "x@half", "@bytes"])
SOUND = {"openai": CHAT_ANSWER, "anthropic": MESSAGES_ANSWER}
SEEDS = {"openai": [*CHAT_ANSWERS, *ERRORS, *REFUSALS], "anthropic": [*MESSAGES_ANSWERS, *ERRORS]}
ANSWERS = {
    dialect: st.one_of(spoiled(SEEDS[dialect], VALUES), sound, sound.flatmap(lambda one: spoiled([one], VALUES)))
    for dialect, sound in SOUND.items()
}


@st.composite
def bodies(draw: st.DrawFn, dialect: str) -> bytes:
    """An answer as it may come: wrong in places, or not quite JSON, or cut, or other bytes."""
    how = draw(st.integers(0, 19))
    if how == 0:
        return draw(st.binary(max_size=20))
    body = deep_json(draw(ANSWERS[dialect if how != 1 else "openai"]))
    for word, written in NOT_QUITE.items():
        body = body.replace(word, written)
    if how == 2:
        return body[: draw(st.integers(0, len(body)))]
    return draw(st.sampled_from([b"\xef\xbb\xbf", b" ", b"\x00"])) + body if how == 3 else body


def call(operation: Operation) -> Call:
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    return Call(
        "r",
        operation,
        body,
        orjson.loads(body),
        "m",
        stream=False,
        caller=ANONYMOUS,
        headers={},
        credential=None,
        started=0,
    )


def assert_sound(summary: Summary) -> None:
    """What records are made of."""
    for said in (summary.response_id, summary.model, summary.finish_reason):
        assert said is None or (type(said) is str and said)
        (said or "").encode()
    counts = (summary.input_tokens, summary.output_tokens, summary.cached_tokens, summary.cache_write_tokens)
    assert all(count is None or (type(count) is int and 0 <= count < 2**55) for count in counts)


def assert_can_be_told(error: ProviderError) -> None:
    for dialect in DIALECTS.values():
        assert orjson.loads(dialect.error(error, "r"))
        assert dialect.error_event(error, "r").endswith(b"\n\n")


@given(st.data(), st.sampled_from(CROSSINGS + RELAYS))
@effort(120)
def test_any_answer_is_one_or_is_the_providers_failure(data: st.DataObject, way: tuple[Operation, str]) -> None:
    """Crossed or relayed, as a whole answer of 200."""
    operation, dialect = way
    body = data.draw(bodies(dialect))
    given_passage: Passage = passage(call(operation), "m", Traits(dialect=dialect, operations=ALL), "up", 0)
    try:
        answer = given_passage.answer(body)
    except ProviderFailed as error:
        event("failed")
        assert_can_be_told(error)
    else:
        event("answered")
        if way in RELAYS:
            assert answer == body, "bytes pass as they are"
        elif operation is Operation.CHAT:
            judge_completion(orjson.loads(answer))
        else:
            judge_message(orjson.loads(answer))
    assert_sound(given_passage.summary)


@given(bodies("openai") | bodies("anthropic"), st.sampled_from([400, 401, 404, 429, 500, 529]))
@effort(80)
def test_any_refusal_can_be_told(body: bytes, status: int) -> None:
    """Whatever stands in a provider's error, the client reads an error of its own dialect."""
    for dialect in DIALECTS.values():
        refusal = dialect.read_error(status, body)
        assert refusal.message
        assert_can_be_told(refusal)


# -- what is promised of sound ones

TO_CHAT = {"max_tokens": "length", "refusal": "content_filter"}
TO_MESSAGES = {"length": "max_tokens", "content_filter": "refusal", "model_length": "model_context_window_exceeded"}


@given(MESSAGES_ANSWER)
@effort(100)
def test_a_message_says_the_same_to_a_chat_client(answer: dict[str, Any]) -> None:
    """Words, thoughts, calls, the end, tokens."""
    summary = Summary()
    crossed = answer_to_chat(answer, created=1, summary=summary)
    (choice,) = crossed["choices"]
    said, content = choice["message"], answer["content"]
    assert (said["content"] or "") == "".join(block["text"] for block in content if block["type"] == "text")
    thoughts = "".join(block["thinking"] for block in content if block["type"] == "thinking")
    assert said.get("reasoning_content", "") == thoughts
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in said.get("tool_calls", ())
    ]
    assert calls == [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    stop = answer["stop_reason"]
    meant = TO_CHAT.get(stop) or ("tool_calls" if stop == "tool_use" and calls else "stop")
    assert choice["finish_reason"] == meant
    usage = answer["usage"]
    prompt = usage["input_tokens"] + sum(
        usage.get(name, 0) for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
    assert (crossed["usage"]["prompt_tokens"], crossed["usage"]["completion_tokens"]) == (
        prompt,
        usage["output_tokens"],
    )


@given(MESSAGES_ANSWER)
@effort(60)
def test_what_was_signed_comes_back_signed(answer: dict[str, Any]) -> None:
    """A chat client that sends the message back as it was gives every signed and sealed block back, as it was."""
    crossed = answer_to_chat(answer, created=1, summary=Summary())
    said = crossed["choices"][0]["message"]
    asked = {"messages": [{"role": "user", "content": "hi"}, said, {"role": "user", "content": "and?"}]}
    body = request_to_messages(asked, model="claude-opus-4-7", default_max_tokens=9)
    turns = [turn["content"] for turn in body["messages"] if turn["role"] == "assistant"]
    back = [block for turn in turns if isinstance(turn, list) for block in turn if "thinking" in block["type"]]
    signed = [
        block
        for block in answer["content"]
        if (block["type"] == "thinking" and block["signature"]) or block["type"] == "redacted_thinking"
    ]
    assert back == signed


@given(CHAT_ANSWER)
@effort(100)
def test_a_completion_says_the_same_to_a_messages_client(answer: dict[str, Any]) -> None:
    """Words, calls, the end, tokens."""
    crossed = answer_to_messages(answer, summary=Summary())
    (choice,), content = answer["choices"], crossed["content"]
    said = choice["message"]
    spoken = "".join(block["text"] for block in content if block["type"] == "text")
    assert spoken == (said["content"] or "") + (said.get("refusal") or "")
    calls = [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    assert calls == [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in said.get("tool_calls", ())
    ]
    finish = choice["finish_reason"]
    meant = TO_MESSAGES.get(finish) or (
        "tool_use"
        if calls
        else "refusal"
        if said.get("refusal") and finish != "tool_calls" and finish != "function_call"
        else "end_turn"
    )
    assert crossed["stop_reason"] == meant
    usage = crossed["usage"]
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    assert (prompt, usage["output_tokens"]) == (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
