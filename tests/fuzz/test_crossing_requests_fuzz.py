"""For any JSON a client sends: it crosses to a body that is valid in the provider's dialect, or is refused by a
BadRequest that names the field; nothing else is raised, and the client's own fields are left as they were.

For any sound request: it crosses, or is refused for a reason that docs/crossing.md gives; no text, call or result is
lost or reordered but as that page says; and what has crossed once crosses back and again to the same.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import orjson
from hypothesis import assume, event, given
from hypothesis import strategies as st

from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.dialects.body import parse_object
from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS
from runestone.dialects.crossing.request_to_chat import request_to_chat
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.dialects.passage import Traits, client_dialect, passage
from runestone.errors import BadRequest
from tests.dialects.crossing.seeds import CHAT_REQUESTS, MESSAGES_REQUESTS
from tests.fuzz.conversations import CHAT_REQUEST, MESSAGES_REQUEST
from tests.fuzz.effort import effort
from tests.fuzz.judges import judge_chat_request, judge_messages_request
from tests.fuzz.strategies import DEEP, JSON, ODD, deep_json, json_of, nested, spoiled

MODELS = st.sampled_from(["claude-opus-4-7", "claude-sonnet-4-5", "claude-3-5-haiku", "m"])
WORDS = sorted(
    {
        word
        for name in (*CHAT_FIELDS, *MESSAGES_FIELDS)
        for word in name.replace("[", ".").replace("]", "").split(".")
        if word
    }
    | {"user", "assistant", "tool", "system", "developer", "reasoning.text", "reasoning.encrypted", "base64", "url"}
)
WORD = st.sampled_from(WORDS)
WILD = st.dictionaries(
    WORD,
    json_of(WORD, st.none() | st.booleans() | st.integers(-1, 3) | WORD | st.text(max_size=3)),
    max_size=5,
)
READABLE = st.just(nested(200))
"""As deep as a request may be when it comes here."""
CHAT = st.one_of(
    CHAT_REQUEST, spoiled(CHAT_REQUESTS), CHAT_REQUEST.flatmap(lambda sound: spoiled([sound], ODD | READABLE))
)
MESSAGES = st.one_of(
    MESSAGES_REQUEST,
    spoiled(MESSAGES_REQUESTS),
    MESSAGES_REQUEST.flatmap(lambda sound: spoiled([sound], ODD | READABLE)),
)


def to_messages(fields: dict[str, Any], model: str = "claude-opus-4-7") -> dict[str, Any]:
    return request_to_messages(fields, model=model, default_max_tokens=4096)


def to_chat(fields: dict[str, Any], reasoning_field: str | None = None) -> dict[str, Any]:
    return request_to_chat(fields, model="m", max_tokens_field="max_tokens", reasoning_field=reasoning_field)


def frozen(fields: Any) -> str:
    """All of it, whatever its depth."""
    return repr(fields)


@given(CHAT | st.tuples(WILD, CHAT).map(lambda both: {**both[0], **both[1]}) | WILD, MODELS)
@effort(80)
def test_any_chat_request_crosses_or_is_refused_by_name(fields: dict[str, Any], model: str) -> None:
    """What Anthropic is sent is valid; what is refused is named."""
    before = frozen(fields)
    body, refusal = None, None
    try:
        body = to_messages(fields, model)
    except BadRequest as error:
        refusal = error
    assert frozen(fields) == before, "the client's fields are not ours to change"
    event("refused" if body is None else "crossed")
    if body is None:
        assert refusal is not None
        assert refusal.param
    else:
        judge_messages_request(body)


@given(MESSAGES | st.tuples(WILD, MESSAGES).map(lambda both: {**both[0], **both[1]}) | WILD, st.booleans())
@effort(80)
def test_any_messages_request_crosses_or_is_refused_by_name(fields: dict[str, Any], demands_thoughts: bool) -> None:
    """What a chat provider is sent is valid; what is refused is named."""
    before = frozen(fields)
    body, refusal = None, None
    try:
        body = to_chat(fields, "reasoning_content" if demands_thoughts else None)
    except BadRequest as error:
        refusal = error
    assert frozen(fields) == before, "the client's fields are not ours to change"
    event("refused" if body is None else "crossed")
    if body is None:
        assert refusal is not None
        assert refusal.param
    else:
        judge_chat_request(body)


ALL = frozenset(operation.value for operation in Operation)


@given(
    spoiled([CHAT_REQUESTS[0], MESSAGES_REQUESTS[0]], ODD | DEEP | JSON),
    st.sampled_from([Operation.CHAT, Operation.MESSAGES]),
)
@effort(60)
def test_a_passage_is_made_or_refused(fields: dict[str, Any], operation: Operation) -> None:
    """As the gateway does it: what is sent is JSON that can be read, whatever the depth of what came."""
    traits = Traits(dialect="anthropic" if operation is Operation.CHAT else "openai", operations=ALL)
    refusal = None
    try:
        read = parse_object(deep_json(fields))
        client_dialect(operation).check(operation, read)
        asked = Call(
            "r", operation, b"", read, "m", stream=False, caller=ANONYMOUS, headers={}, credential=None, started=0
        )
        orjson.loads(passage(asked, "m", traits, "up", 0).request())
    except BadRequest as error:
        refusal = error
    assert refusal is None or refusal.param or refusal.message.startswith("the body")


# -- what is promised of sound ones


def chat_texts(body: dict[str, Any]) -> list[str]:
    """Every text of a chat conversation, in order, without blanks and without what belongs to nobody's words."""
    found = []
    for message in body["messages"]:
        content = message.get("content")
        parts = [content] if isinstance(content, str) else [part.get("text") for part in content or ()]
        found += [(message["role"], part) for part in [*parts, message.get("refusal")] if part and part.strip()]
    return found  # type: ignore[return-value]


def words(content: Any) -> list[str]:
    """The texts of a Messages content."""
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content or () if block["type"] == "text"]


def crossed(fields: dict[str, Any]) -> dict[str, Any]:
    """The body; a request that says nothing but blanks is refused, and not looked at."""
    body, refused = {}, None
    try:
        body = to_messages(fields)
    except BadRequest as error:
        refused = error.param
    assert refused in (None, "messages", "stop")
    assume(refused is None)
    return body


@given(CHAT_REQUEST)
@effort(80)
def test_a_sound_chat_request_loses_no_word(fields: dict[str, Any]) -> None:
    """All texts, in order and by speaker; all calls with their arguments; all results with their calls."""
    body = crossed(fields)
    messages = fields["messages"]
    for roles, found in (
        (("system", "developer"), words(body.get("system"))),
        (
            ("assistant",),
            [text for turn in body["messages"] if turn["role"] == "assistant" for text in words(turn["content"])],
        ),
        (("user",), [text for turn in body["messages"] if turn["role"] == "user" for text in words(turn["content"])]),
    ):
        meant = [text for role, text in chat_texts(fields) if role in roles]
        assert [text.rstrip() for text in found] == [text.rstrip() for text in meant]
    blocks = [block for turn in body["messages"] if isinstance(turn["content"], list) for block in turn["content"]]
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
    uses = [block for block in blocks if block["type"] == "tool_use"]
    assert [(use["name"], use["input"]) for use in uses] == [
        (call["name"], json.loads(call["arguments"])) for call in calls
    ]
    results = [block for block in blocks if block["type"] == "tool_result"]
    assert len(results) == sum(message["role"] == "tool" for message in messages)
    given_ids = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    assert all(
        (call["tool_call_id"] == identity) <= (result["tool_use_id"] == use["id"])
        for use, identity in zip(uses, given_ids, strict=True)
        for result, call in zip(results, [message for message in messages if message["role"] == "tool"], strict=True)
    ), "a result lost its call"


@given(CHAT_REQUEST)
@effort(60)
def test_what_has_crossed_crosses_back_and_again_to_the_same(fields: dict[str, Any]) -> None:
    """Nothing is worn off by going to and fro: the second crossing is the first."""
    first = crossed({name: value for name, value in fields.items() if name not in ("reasoning_effort", "user")})
    assume(not any(_has(first, kind) for kind in ("document", "image", "thinking", "redacted_thinking")))
    again = to_messages(to_chat(deepcopy(first)))
    assert _without_marks(again) == _without_marks(first)


def _has(body: dict[str, Any], kind: str) -> bool:
    return f"'type': '{kind}'" in repr(body["messages"])


def _without_marks(body: dict[str, Any]) -> dict[str, Any]:
    """Without what chat has no place for: cache marks; where one text ends and the next begins in a turn."""
    turns = []
    for turn in body["messages"]:
        content = turn["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        kept: list[Any] = [
            {name: value for name, value in block.items() if name != "cache_control"}
            for block in blocks
            if block["type"] != "text"
        ]
        for block in kept:
            if block["type"] == "tool_result":
                block["content"] = "\n".join(words(block.get("content")))
        turns.append((turn["role"], "".join(words(blocks)).rstrip(), kept))
    system = "\n".join(words(body.get("system")))
    rest = {name: value for name, value in body.items() if name not in ("messages", "system", "tools", "stream")}
    return {"turns": turns, "system": system, **rest}


@given(MESSAGES_REQUEST)
@effort(80)
def test_a_sound_messages_request_loses_no_word(fields: dict[str, Any]) -> None:
    """All texts of the user and the assistant, in order; all calls; all results, each behind the turn it answers."""
    body = to_chat(fields)
    uses = [
        (block["id"], block["name"], block["input"])
        for turn in fields["messages"]
        if isinstance(turn["content"], list)
        for block in turn["content"]
        if block["type"] == "tool_use"
    ]
    calls = [call for message in body["messages"] for call in message.get("tool_calls", ())]
    assert uses == [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
    said = "".join(
        text for turn in fields["messages"] if turn["role"] == "assistant" for text in words(turn["content"])
    )
    assert said == "".join(message["content"] or "" for message in body["messages"] if message["role"] == "assistant")
    asked = [text for turn in fields["messages"] if turn["role"] == "user" for text in words(turn["content"])]
    heard = [
        text
        for message in body["messages"]
        if message["role"] == "user"
        for text in ([message["content"]] if isinstance(message["content"], str) else words(message["content"]))
    ]
    left = iter(heard)
    assert all(any(text == found for found in left) for text in asked), "a text of the user is lost"
    results = [
        block["tool_use_id"]
        for turn in fields["messages"]
        if isinstance(turn["content"], list)
        for block in turn["content"]
        if block["type"] == "tool_result"
    ]
    assert results == [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]
