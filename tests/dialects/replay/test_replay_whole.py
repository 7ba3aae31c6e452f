"""A stream as a whole answer: as providers write streams, and where they cannot be joined."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.core.call import Operation
from runestone.dialects.replay.exact import Inexact
from runestone.dialects.replay.stream import tell
from runestone.dialects.replay.whole import as_answer, has_usage, join, without_usage
from runestone.dialects.sse import encode
from tests.dialects.replay.answers import CHATS, MESSAGES, TEXT, URL_CITATION, mark, message
from tests.dialects.replay.judges import events

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m"}


def stream(*chunks: dict[str, Any], end: bytes = DONE) -> bytes:
    return b"".join(encode(orjson.dumps(chunk)) for chunk in chunks) + end


def chunk(delta: Any = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with one choice; what is unknown stands beside it."""
    return {**HEAD, "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


COUNTED: dict[str, Any] = {**HEAD, "choices": [], "usage": USAGE}


def ended(*chunks: dict[str, Any]) -> bytes:
    """A stream with its finish and usage."""
    return stream(*chunks, chunk(finish="stop"), COUNTED)


def joined(told: bytes, operation: Operation = Operation.CHAT) -> dict[str, Any]:
    answer = as_answer(operation, told)
    assert answer is not None
    found: dict[str, Any] = orjson.loads(answer)
    return found


def said(*deltas: dict[str, Any]) -> dict[str, Any]:
    """The message that these deltas are."""
    found: dict[str, Any] = joined(ended(*map(chunk, deltas)))["choices"][0]["message"]
    return found


def test_the_answer_has_what_the_stream_told() -> None:
    """Head, choice and usage, as the dialect's whole answer has them."""
    first = chunk({"role": "assistant", "content": ""}, system_fingerprint="fp")
    told = stream(first, chunk({"content": "hi"}), chunk(finish="stop"), COUNTED)
    assert joined(told) == {
        "id": "c",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_how_lines_end_does_not_matter(end: bytes) -> None:
    """CRLF, comments, a byte order mark, other fields, and a last event without its blank line."""
    plain = tell(Operation.CHAT, orjson.dumps(CHATS["several choices"]), include_usage=True)
    told = b"\xef\xbb\xbf: OPENROUTER PROCESSING\n\nid: 1\n" + plain.removesuffix(b"\n\n")
    assert joined(told.replace(b"\n", end)) == CHATS["several choices"]


def test_choices_may_come_interleaved() -> None:
    """Every part goes to the choice it names; the choices stand in the order of their index."""
    parts = [events(tell(Operation.CHAT, orjson.dumps(CHATS[name]), include_usage=True))[:-2] for name in CHATS]
    singles = [part for part in parts if {chunk["choices"][0]["index"] for chunk in part} == {0}]
    told = []
    for place in range(max(map(len, singles))):
        for index, part in reversed(list(enumerate(singles))):
            if place < len(part):
                told.append({**HEAD, "choices": [{**part[place]["choices"][0], "index": index}]})
    answer = joined(stream(*told, COUNTED))
    assert len(answer["choices"]) == len(singles) > 10
    alone = [joined(stream(*({**HEAD, "choices": chunk["choices"]} for chunk in part), COUNTED)) for part in singles]
    assert answer["choices"] == [{**one["choices"][0], "index": index} for index, one in enumerate(alone)]


def test_calls_are_joined_by_their_index() -> None:
    """Pieces of parallel calls may alternate; an id or a type said again is the same one; the index does not stay."""
    a = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    b = {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}
    pieces = [(0, '{"x"'), (1, '"y"'), (0, ":1}"), (1, ":2}")]
    later = [{"index": n, "id": "ab"[n], "type": None, "function": {"arguments": text}} for n, text in pieces]
    message = said({"content": None}, *({"tool_calls": [part]} for part in (a, b, *later)))
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y":2}'}},
    ]
    assert message["content"] is None


JOINED: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    ("the role on every delta", [{"role": "assistant", "content": "a"}] * 2, {"role": "assistant", "content": "aa"}),
    ("no role at all", [{"content": "a"}], {"role": "assistant", "content": "a"}),
    ("null before and after", [{"content": None}, {"content": "a"}, {"content": None}], {"content": "a"}),
    ("null alone", [{"content": None, "refusal": None}], {"content": None, "refusal": None}),
    ("empty alone", [{"content": "", "tool_calls": []}, {"tool_calls": None}], {"content": "", "tool_calls": []}),
    ("what is not told", [{"refusal": "no"}], {"refusal": "no"}),
    ("both reasonings", [{"reasoning": "a"}, {"reasoning_content": "b"}], {"reasoning": "a", "reasoning_content": "b"}),
    (
        "calls without an index",
        [{"tool_calls": [{"id": "a"}, {"id": "b"}]}],
        {"tool_calls": [{"id": "a"}, {"id": "b"}]},
    ),
    ("annotations", [{"annotations": [URL_CITATION]}] * 2, {"annotations": [URL_CITATION, URL_CITATION]}),
    ("an unknown member, once", [{"mood": "?"}, {"mood": None}, {"mood": ""}], {"mood": "?"}),
    ("a flag, again", [{"reasoning_encrypted": False}] * 2, {"reasoning_encrypted": False}),
    (
        "a function",
        [{"function_call": {"name": "f"}}, {"function_call": {"arguments": "{"}}, {"function_call": None}],
        {"function_call": {"name": "f", "arguments": "{"}},
    ),
    (
        "reasoning details",
        [{"reasoning_details": [{"index": 0, "type": "t", "format": "f", "text": text}]} for text in "ab"]
        + [
            {"reasoning_details": [{"index": 0, "type": "t", "signature": "s"}, {"index": 0, "type": "e", "data": "d"}]}
        ],
        {
            "reasoning_details": [
                {"index": 0, "type": "t", "format": "f", "text": "ab", "signature": "s"},
                {"index": 0, "type": "e", "data": "d"},
            ]
        },
    ),
]


@pytest.mark.parametrize(("deltas", "expected"), [row[1:] for row in JOINED], ids=[row[0] for row in JOINED])
def test_deltas_join_as_their_members_do(deltas: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    """Texts are appended, lists by index, the rest is taken once."""
    assert said(*deltas) == {"role": "assistant", **expected}


def test_logprobs_are_appended() -> None:
    """Every choice has its own, in order; null is none."""
    first, second = (
        {
            **HEAD,
            "choices": [
                {"index": 0, "delta": {"content": text}, "logprobs": {"content": [mark(text)], "refusal": None}}
            ],
        }
        for text in "ab"
    )
    nothing = {**HEAD, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
    choice = joined(stream(first, second, nothing, COUNTED))["choices"][0]
    assert choice["logprobs"] == {"content": [mark("a"), mark("b")], "refusal": None}
    assert joined(stream(nothing, COUNTED))["choices"][0]["logprobs"] is None


def test_what_chunks_say_of_themselves_is_put_together() -> None:
    """As Azure, Groq, Mistral and llama.cpp write it: an opening that knows nothing yet, objects that grow, padding,
    counts on the way, the time of each chunk, what comes once.
    """
    filtered = {"hate": {"filtered": False}}
    opening = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [filtered]}
    first = chunk({"content": "a"}, x_groq={"id": "r"}, p="abc", obfuscation="x", usage={"total_tokens": 1})
    first["choices"][0]["content_filter_results"] = {}
    second = chunk({"content": "b"}, "stop", created=6, service_tier=None, x_groq={"id": "r", "usage": {}})
    second["choices"][0]["content_filter_results"] = filtered
    last = chunk({"content": ""}, "stop", usage=USAGE, timings={"ms": 1.5}, service_tier="default")
    last["choices"][0]["native_finish_reason"] = "STOP"
    assert joined(stream(opening, first, second, last)) == {
        "id": "c",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "service_tier": "default",
        "prompt_filter_results": [filtered],
        "x_groq": {"id": "r", "usage": {}},
        "timings": {"ms": 1.5},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab"},
                "finish_reason": "stop",
                "content_filter_results": filtered,
                "native_finish_reason": "STOP",
            }
        ],
        "usage": USAGE,
    }


def test_completions_are_joined() -> None:
    """Texts and logprobs of every choice."""
    marks = [{"tokens": [text], "text_offset": [at]} for at, text in enumerate("ab")]
    told = [
        {"id": "c", "object": "text_completion", "choices": [{"index": at, "text": text, "logprobs": marks[n]}]}
        for n, text in enumerate("ab")
        for at in (1, 0)
    ]
    ends = [{"choices": [{"index": at, "text": "", "finish_reason": "stop"}]} for at in (0, 1)]
    answer = joined(stream(*told, *ends, {"choices": [], "usage": USAGE}), Operation.COMPLETIONS)
    both = {"text": "ab", "logprobs": {"tokens": ["a", "b"], "text_offset": [0, 1]}, "finish_reason": "stop"}
    assert answer["choices"] == [{"index": 0, **both}, {"index": 1, **both}]
    assert answer["object"] == "text_completion"


def call(**part: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": 0, **part}]})


def detail(**part: Any) -> dict[str, Any]:
    return chunk({"reasoning_details": [part]})


FINISH = chunk(finish="stop")
REFUSED: list[tuple[str, bytes]] = [
    ("no end marker", b""),
    ("no end marker", stream(FINISH, COUNTED, end=b"")),
    ("after the end", stream(FINISH, COUNTED) + DONE),
    ("no usage", stream(FINISH)),
    ("no usage", stream(FINISH, {**COUNTED, "usage": {}})),
    ("usage is no object", stream(FINISH, {**COUNTED, "usage": 5})),
    ("not finished", stream(chunk({"content": "a"}), COUNTED)),
    ("not finished", stream(FINISH, chunk({"content": "a"}, index=1), COUNTED)),
    ("choices are missing", stream(chunk(finish="stop", index=1), COUNTED)),
    ("choices are missing", stream(COUNTED)),
    ("a chunk without choices", ended({"id": "c"})),
    ("choices are no list", ended({"choices": {}})),
    ("a choice has no index", ended({"choices": [{"delta": {}}]})),
    ("a choice has no index", ended({"choices": [5]})),
    ("a delta is no object", ended({"choices": [{"index": 0, "delta": "a"}]})),
    ("a message in a chunk", ended({"choices": [{"index": 0, "message": {}}]})),
    ("logprobs are no object", ended({"choices": [{"index": 0, "logprobs": []}]})),
    ("content comes more", ended(*[{"choices": [{"index": 0, "logprobs": {"content": "a"}}]}] * 2)),
    ("an error", ended({"error": {"message": "no"}})),
    ("an error", ended({**FINISH, "error": {"message": "no"}})),
    ("an error", encode(b"{}", "error") + ended()),
    ("not JSON", b"data: {\n\n" + ended()),
    ("not an object", b"data: 5\n\n" + ended()),
    ("id changes", ended({**FINISH, "id": "other"})),
    ("another kind", ended({**FINISH, "object": ""}).replace(b"chat.completion.chunk", b"chat.completion")),
    ("finish_reason changes", ended(chunk(finish="length"))),
    ("a changes", ended(chunk(x={"a": 1}), chunk(x={"a": 2}))),
    ("x changes", ended(chunk(x=1), chunk(x=True))),
    ("channel comes more", ended(*[chunk({"channel": "analysis"})] * 2)),
    ("count comes more", ended(*[chunk({"count": 1})] * 2)),
    ("content is a text and", ended(chunk({"content": [{"type": "text"}]}), chunk({"content": "a"}))),
    ("content is of two", ended(chunk({"content": "a"}), chunk({"content": [{"type": "text"}]}))),
    ("tool_calls is of two", ended(call(id="a"), chunk({"tool_calls": "a"}))),
    ("id comes more", ended(call(id="a"), call(id="b"))),
    ("name comes more", ended(*[call(function={"name": "a"})] * 2)),
    ("have no index", ended(call(id="a"), chunk({"tool_calls": [{"id": "b"}]}))),
    ("have no index", ended(*[chunk({"tool_calls": [{"id": "b"}]})] * 2)),
    ("have no index", ended(*[chunk({"tool_calls": [5]})] * 2)),
    ("an index of", ended(chunk({"tool_calls": [{"index": "0"}]}))),
    ("an index of", ended(detail(index=0, type=[]))),
    ("not in order", ended(chunk({"tool_calls": [{"index": 1}, {"index": 0}]}))),
    ("data comes more", ended(*[detail(index=0, data="A")] * 2)),
    ("annotations comes more", ended(chunk({"annotations": [1]}), chunk({"annotations": 1}))),
]


@pytest.mark.parametrize(("why", "told"), REFUSED, ids=[f"{row[0]} {n}" for n, row in enumerate(REFUSED)])
def test_what_cannot_be_joined_is_not(why: str, told: bytes) -> None:
    """A stream that could mean two answers, or none, is refused, with the reason."""
    with pytest.raises(Inexact, match=why):
        join(Operation.CHAT, told)
    assert as_answer(Operation.CHAT, told) is None


def test_a_completion_has_text() -> None:
    """A chat stream is no stream of completions."""
    with pytest.raises(Inexact, match="no text"):
        join(Operation.COMPLETIONS, ended().replace(b"chat.completion.chunk", b"text_completion"))


# -- Anthropic


def event(kind: str, **members: Any) -> bytes:
    return encode(orjson.dumps({"type": kind, **members}), kind)


def delta(kind: str, index: int = 0, **members: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **members})


def opened(index: int = 0, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


BEGUN = message(stop_reason=None, usage={"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": None})
START = event("message_start", message=BEGUN)
CLOSE = event("content_block_stop", index=0)
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9, "input_tokens": None})
STOP = event("message_stop")


def block(*told: bytes) -> dict[str, Any]:
    """The block that these events are."""
    answer = joined(START + b"".join(told) + CLOSE + END + STOP, Operation.MESSAGES)
    found: dict[str, Any] = answer["content"][0]
    return found


def test_a_message_is_what_its_last_events_say() -> None:
    """Pings say nothing; `message_delta` may come again, and null in its usage replaces nothing."""
    ping = event("ping")
    again = event(
        "message_delta",
        delta={"stop_reason": "pause_turn", "stop_sequence": None, "container": {"id": "c"}},
        usage={"output_tokens": 10, "server_tool_use": {"web_search_requests": 1}},
        context_management={"applied_edits": []},
    )
    told = ping + START + ping + opened(type="text", text="") + ping + CLOSE + END + again + STOP + ping
    assert joined(told, Operation.MESSAGES) == {
        **BEGUN,
        "content": [{"type": "text", "text": ""}],
        "stop_reason": "pause_turn",
        "container": {"id": "c"},
        "usage": {
            "input_tokens": 1,
            "output_tokens": 10,
            "cache_read_input_tokens": None,
            "server_tool_use": {"web_search_requests": 1},
        },
        "context_management": {"applied_edits": []},
    }


BLOCKS: list[tuple[str, tuple[bytes, ...], dict[str, Any]]] = [
    ("a text that opens with words", (opened(type="text", text="a"), delta("text_delta", text="b")), {"text": "ab"}),
    (
        "citations",
        (opened(type="text", text=""), delta("citations_delta", citation={"a": 1})),
        {"citations": [{"a": 1}]},
    ),
    (
        "no signature at first",
        (opened(type="thinking", thinking=""), delta("signature_delta", signature="s")),
        {"thinking": "", "signature": "s"},
    ),
    ("an empty input", (opened(type="tool_use", input={}), delta("input_json_delta", partial_json="")), {"input": {}}),
    (
        "an input",
        (
            opened(type="tool_use", input={}),
            *(delta("input_json_delta", partial_json=text) for text in ('{"a"', ": 1}")),
        ),
        {"input": {"a": 1}},
    ),
    ("a whole input", (opened(type="server_tool_use", input={"a": 1}),), {"input": {"a": 1}}),
    (
        "a compaction",
        (opened(type="compaction", content=None), delta("compaction_delta", content="x", encrypted_content=None)),
        {"content": "x", "encrypted_content": None},
    ),
    ("a block nobody knows", (opened(type="hologram", depth=3),), {"depth": 3}),
]


@pytest.mark.parametrize(("told", "expected"), [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS])
def test_blocks_are_what_their_deltas_say(told: tuple[bytes, ...], expected: dict[str, Any]) -> None:
    """Every kind of delta goes to the member it is of."""
    found = block(*told)
    assert {name: found[name] for name in expected} == expected


OPEN = opened(type="text", text="")
TOOL = opened(type="tool_use", input={})
THINK = opened(type="thinking", thinking="", signature="")
SIGN = delta("signature_delta", signature="s")
COMPACT = opened(type="compaction", content=None)
WORD = delta("text_delta", text="a")
BROKEN: list[tuple[str, bytes]] = [
    ("no end marker", b""),
    ("no end marker", START + END),
    ("out of order", OPEN + START + END + STOP),
    ("out of order", START + START + END + STOP),
    ("out of order", START + END + STOP + END),
    ("not finished", START + STOP),
    ("no known kind", START + OPEN + END + STOP),
    ("no known kind", START + OPEN + OPEN + CLOSE + END + STOP),
    ("no known kind", START + CLOSE + END + STOP),
    ("no known kind", START + WORD + END + STOP),
    ("no known kind", START + event("news") + END + STOP),
    ("out of order", event("news", x=1)),
    ("an error", START + event("error", error={"message": "no"})),
    ("not a message", event("message_start", message={})),
    ("not a message", event("message_start", message=message(TEXT))),
    ("no usage", event("message_start", message={**BEGUN, "usage": None})),
    ("something unknown", event("message_start", message=BEGUN, x=1)),
    ("something unknown", START + event("message_delta", delta={"content": []}, usage={}) + STOP),
    ("no delta or", START + event("message_delta", delta={"stop_reason": "end_turn"}) + STOP),
    ("not in order", START + opened(1, type="text", text="") + END + STOP),
    ("not in order", START + OPEN + delta("text_delta", 1, text="a") + CLOSE + END + STOP),
    ("no known kind", START + opened(type="fallback") + CLOSE + END + STOP),
    ("no known kind", START + OPEN + delta("text_delta", text="a", x=1) + CLOSE + END + STOP),
    ("no known kind", START + OPEN + delta("text_delta", text=5) + CLOSE + END + STOP),
    ("no known kind", START + OPEN + delta("news", text="a") + CLOSE + END + STOP),
    ("no known kind", START + TOOL + WORD + CLOSE + END + STOP),
    ("no known kind", START + COMPACT + delta("compaction_delta", content="a", x=1) + CLOSE + END + STOP),
    ("no known kind", START + COMPACT + delta("compaction_delta", content="a") * 2 + CLOSE + END + STOP),
    ("not JSON", START + TOOL + delta("input_json_delta", partial_json='{"a": "cut o') + CLOSE + END + STOP),
    ("not an object", START + TOOL + delta("input_json_delta", partial_json="[1]") + CLOSE + END + STOP),
    ("more than one", START + THINK + SIGN + SIGN + CLOSE + END + STOP),
    ("opens with", START + opened(type="thinking", thinking="", signature="x") + SIGN + CLOSE + END + STOP),
    (
        "opens with",
        START
        + opened(type="tool_use", input={"a": 1})
        + delta("input_json_delta", partial_json="{}")
        + CLOSE
        + END
        + STOP,
    ),
    ("text and something", START + opened(type="text", text=5) + WORD + CLOSE + END + STOP),
]


@pytest.mark.parametrize(("why", "told"), BROKEN, ids=[f"{row[0]} {n}" for n, row in enumerate(BROKEN)])
def test_what_cannot_be_folded_is_not(why: str, told: bytes) -> None:
    """Events that are not a message, or not in its order, are refused, with the reason."""
    with pytest.raises(Inexact, match=why):
        join(Operation.MESSAGES, told)
    assert as_answer(Operation.MESSAGES, told) is None


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.MESSAGES])
def test_a_stream_that_is_cut_is_no_answer(operation: Operation) -> None:
    """Wherever it was cut, up to the end marker."""
    answer = CHATS["several choices"] if operation is Operation.CHAT else MESSAGES["parallel tool calls"]
    told = tell(operation, orjson.dumps(answer), include_usage=True)
    end = len(told.rstrip(b"\n"))
    assert as_answer(operation, told[:end]) is not None
    assert all(as_answer(operation, told[:at]) is None for at in range(0, end, 7))


# -- usage


def test_usage_that_was_asked_for_is_taken_out() -> None:
    """Its chunk is gone, and the member from all others, which stay as they are otherwise."""
    chunks = [chunk({"content": "a"}, usage=None), chunk({"content": '"usage"'}), chunk(finish="stop", usage=USAGE)]
    plain = [{name: value for name, value in each.items() if name != "usage"} for each in chunks]
    assert without_usage(b": hi\n\n" + stream(*chunks, COUNTED)) == b": hi\n\n" + stream(*plain)
    named = encode(orjson.dumps(chunks[0]), "chunk")
    assert without_usage(named + stream(COUNTED)) == encode(orjson.dumps(plain[0]), "chunk") + DONE


@pytest.mark.parametrize(
    "told",
    [
        stream(chunk({"content": "a"}), chunk(finish="stop")),
        stream(chunk({"content": "a"}, usage=None), chunk(finish="stop", usage=USAGE)),
        stream(chunk({"content": "a"}), {"x": {"usage": USAGE}}).replace(b"\n", b"\r\n"),
        b"data: {\n\n",
    ],
    ids=["none", "counted without being asked", "elsewhere", "no stream"],
)
def test_a_stream_without_a_chunk_for_usage_stays_as_it_is(told: bytes) -> None:
    """Byte for byte."""
    assert without_usage(told) == told


def test_usage_is_not_taken_out_of_what_is_no_stream_of_chunks() -> None:
    """What is not understood is refused."""
    assert without_usage(b'data: {"usage"\n\n') is None
    assert without_usage(b'data: {"n": 123456789012345678901234, "usage": null}\n\n' + stream(COUNTED)) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (stream(FINISH, COUNTED), True),
        (stream(FINISH, COUNTED).replace(b"\n", b"\r\n"), True),
        (stream(FINISH, COUNTED, end=b""), True),
        (stream({**FINISH, "usage": USAGE}), True),
        (stream({**FINISH, "usage": USAGE}, chunk(), end=b": bye\n\n" + DONE), True),
        (stream(FINISH), False),
        (stream({**FINISH, "usage": None}), False),
        (stream(chunk({"content": '"usage":{"a":1}'}), FINISH), False),
        (stream({**FINISH, "x_groq": {"usage": USAGE}}), False),
        (b'data: {"usage":{\n\n', False),
        (b"", False),
        (b"\n\n\n\n", False),
    ],
)
def test_whether_a_stream_tells_its_usage_is_seen_at_its_end(told: bytes, expected: bool) -> None:
    """In a chunk of its own or in the last choice's; not null, not in a text, not of somebody else."""
    assert has_usage(told) is expected
