"""Going on with a stream that broke off: what is asked next, and how the second stream joins the first."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.core.call import Operation
from runestone.core.upstream import Prefill
from runestone.dialects.continuation import Continuation, continuation, prefilled
from runestone.dialects.sse import Decoder, encode

ASK: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def chunk(delta: dict[str, Any], identity: str = "one", **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return encode(orjson.dumps({"id": identity, "created": 1, "model": "x", "choices": [choice]}))


def event(kind: str, **more: Any) -> bytes:
    return encode(orjson.dumps({"type": kind, **more}), kind)


def text_delta(text: str, index: int = 0) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


START = event("message_start", message={"id": "msg_1", "content": []})
OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
CLOSE = event("content_block_stop", index=0)
STOP = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}) + event("message_stop")


def joined(how: Continuation, stream: bytes) -> list[dict[str, Any]]:
    """The events the client reads of the second stream."""
    out = b"".join(part for found in Decoder().feed(stream) for part in how.joiner.feed(found))
    return [orjson.loads(found.data) for found in Decoder().feed(out) if found.data != b"[DONE]"]


def chat(*told: bytes, **more: Any) -> Continuation | None:
    return continuation(Operation.CHAT, {**ASK, **more}, told)


def test_the_next_target_is_given_what_was_said() -> None:
    """The text so far ends the conversation as the assistant's words, and the limit is what is left of it."""
    how = chat(chunk({"role": "assistant", "content": ""}), chunk({"content": "Rivers "}), chunk({"content": "run"}))
    assert how is not None
    assert how.is_prefilled
    assert how.fields["messages"] == [*ASK["messages"], {"role": "assistant", "content": "Rivers run"}]
    assert how.fields["max_tokens"] == 98


def test_the_second_stream_goes_on_in_the_first() -> None:
    """Same id and model, no second role; text, finish and usage of the second."""
    how = chat(chunk({"role": "assistant"}), chunk({"content": "Rivers"}))
    assert how is not None
    usage = encode(orjson.dumps({"id": "two", "choices": [], "usage": {"total_tokens": 9}}))
    second = (
        chunk({"role": "assistant", "content": ""}, "two")
        + chunk({"role": "assistant", "content": " run"}, "two")
        + chunk({}, "two", finish_reason="stop")
        + usage
        + b"data: [DONE]\n\n"
    )
    events = joined(how, second)
    assert [found["id"] for found in events] == ["one", "one", "one"]
    assert events[0]["choices"][0]["delta"] == {"content": " run"}
    assert events[1]["choices"][0]["finish_reason"] == "stop"
    assert events[2]["usage"] == {"total_tokens": 9}


def test_white_space_at_the_end_is_not_said_twice() -> None:
    """Vendors refuse a beginning that ends with it: it is not sent up, and taken off what comes back."""
    how = chat(chunk({"content": "Rivers \n"}))
    assert how is not None
    assert how.fields["messages"][-1]["content"] == "Rivers"  # type: ignore[index]
    assert joined(how, chunk({"content": " \nrun"}))[0]["choices"][0]["delta"]["content"] == "run"


def test_before_the_first_word_the_question_is_simply_asked_again() -> None:
    """Nothing was said, so nothing is to be continued; the role has been read already."""
    how = chat(chunk({"role": "assistant", "content": ""}))
    assert how is not None
    assert not how.is_prefilled
    assert how.fields["messages"] == ASK["messages"]
    assert joined(how, chunk({"role": "assistant", "content": "Hi"}))[0]["choices"][0]["delta"] == {"content": "Hi"}


def test_the_clients_own_beginning_is_continued_too() -> None:
    """A conversation that ended with the assistant's words: what was said is added to them."""
    how = chat(chunk({"content": "b"}), messages=[*ASK["messages"], {"role": "assistant", "content": "a"}])
    assert how is not None
    assert how.fields["messages"] == [*ASK["messages"], {"role": "assistant", "content": "ab"}]


@pytest.mark.parametrize(
    "told",
    [
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "x"}, index=1),
        chunk({}, finish_reason="stop"),
        b"data: [DONE]\n\n",
        b"data: nonsense\n\n",
        encode(orjson.dumps({"choices": ["x"]})),
    ],
    ids=["tool call", "thought", "second choice", "finished", "done", "no JSON", "no choice"],
)
def test_only_plain_text_is_continued(told: bytes) -> None:
    """What another model cannot take up is left as it broke."""
    assert chat(chunk({"content": "x"}), told) is None


def test_a_text_completion_goes_on_from_its_prompt() -> None:
    """Any provider can: prompt and text so far are one prompt. Not with several prompts, nor behind an echo."""
    told = encode(orjson.dumps({"id": "one", "choices": [{"index": 0, "text": "Rivers "}]}))
    how = continuation(Operation.COMPLETIONS, {"prompt": "Tell. ", "max_tokens": 50}, [told])
    assert how is not None
    assert (how.fields["prompt"], how.is_prefilled) == ("Tell. Rivers ", False)
    second = encode(orjson.dumps({"id": "two", "choices": [{"index": 0, "text": "run", "finish_reason": None}]}))
    assert joined(how, second)[0] == {"id": "one", "choices": [{"index": 0, "text": "run", "finish_reason": None}]}
    assert continuation(Operation.COMPLETIONS, {"prompt": ["a", "b"]}, [told]) is None
    assert continuation(Operation.COMPLETIONS, {"prompt": "a", "echo": True}, [told]) is None


def messages(*told: bytes) -> Continuation | None:
    return continuation(Operation.MESSAGES, ASK, told)


def test_a_message_goes_on_in_its_open_block() -> None:
    """One message_start, one block, one end."""
    how = messages(START, OPEN, text_delta("Rivers "))
    assert how is not None
    assert how.fields["messages"] == [*ASK["messages"], {"role": "assistant", "content": "Rivers"}]
    events = joined(how, START + OPEN + text_delta(" run") + CLOSE + STOP)
    assert [found["type"] for found in events] == [
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["delta"]["text"] == "run"


def test_another_kind_of_block_closes_the_open_one() -> None:
    """The second target calls a tool: the text ends, and the tool's block has the next index."""
    how = messages(START, OPEN, text_delta("Let me look"))
    assert how is not None
    tool = event("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "f"})
    events = joined(how, START + tool + CLOSE + STOP)
    assert [(found["type"], found.get("index")) for found in events[:3]] == [
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_stop", 1),
    ]


def test_a_message_with_nothing_more_to_say_is_ended() -> None:
    """No block came: the open one is closed before the message ends."""
    how = messages(START, OPEN, text_delta("All of it."))
    assert how is not None
    kinds = [found["type"] for found in joined(how, START + STOP)]
    assert kinds == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize(
    "told",
    [
        event("content_block_start", index=0, content_block={"type": "thinking"}),
        event("content_block_start", index=1, content_block={"type": "text"}),
        CLOSE,
        event("message_stop"),
    ],
    ids=["thinking", "second block", "closed block", "ended"],
)
def test_only_a_message_of_plain_text_is_continued(told: bytes) -> None:
    """As in chat."""
    assert messages(START, told) is None


def test_providers_are_asked_in_their_own_way() -> None:
    """Mistral marks the message, vLLM the request, the others neither."""
    fields = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert prefilled(fields, Prefill.MESSAGE) == fields
    assert prefilled(fields, Prefill.PREFIX)["messages"][-1] == {"role": "assistant", "content": "a", "prefix": True}
    assert prefilled(fields, Prefill.FINAL_MESSAGE) == {
        **fields,
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
