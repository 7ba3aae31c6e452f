"""Whole answers as vendors write them, each with what a stream could lose.

Rule: data only. Every one can be told in a stream; the tests tell it, join it, break it.
"""

from __future__ import annotations

from typing import Any

LONG = (
    "Rivers run to the sea, and the sea is not full. " * 4 + "\n\nNaïve “quotes”, 北京, 👩‍👩‍👧 and a \\ are said too."
)
USAGE = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49, "completion_tokens_details": None}


def mark(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}


def chat(*messages: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion; a message's `choice` is what stands beside it."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", **{k: v for k, v in message.items() if k != "choice"}},
            "logprobs": None,
            "finish_reason": finish,
            **message.get("choice", {}),
        }
        for index, message in enumerate(messages)
    ]
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m"}
    return {**head, "choices": choices, "usage": USAGE, "system_fingerprint": None, **more}


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


OPENAI: dict[str, Any] = {"content": LONG, "refusal": None, "annotations": []}
CALLS = [call("weather", '{"city": "Zürich", "days": [1, 2, 3], "unit": "celsius"}'), call("time", "{}"), call("x", "")]
URL_CITATION = {
    "type": "url_citation",
    "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 5},
}
DETAILS = [
    {"type": "reasoning.text", "index": 0, "text": LONG, "signature": "sig", "format": "anthropic-claude-v1"},
    {"type": "reasoning.encrypted", "index": 0, "data": "AAAA", "id": "rs_1"},
    {"type": "reasoning.text", "index": 1, "text": "again", "signature": None},
]

CHATS: dict[str, dict[str, Any]] = {
    "as OpenAI writes it": chat(OPENAI, service_tier="default", system_fingerprint="fp_1"),
    "several choices": chat(OPENAI, {"content": "short", "refusal": None}, {"content": "", "refusal": None}),
    "finished in different ways": chat(OPENAI, {"content": "cut o", "choice": {"finish_reason": "length"}}),
    "parallel tool calls": chat({"content": None, "refusal": None, "tool_calls": CALLS}, finish="tool_calls"),
    "text and tool calls": chat({**OPENAI, "tool_calls": CALLS[:1]}, {**OPENAI, "tool_calls": CALLS[1:]}),
    "no content member": chat({"tool_calls": CALLS}, finish="tool_calls"),
    "a custom tool": chat({"content": None, "tool_calls": [{"id": "c", "type": "custom", "custom": {"input": LONG}}]}),
    "the old function call": chat({"content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}),
    "a call with more": chat(
        {"content": "", "tool_calls": [{**CALLS[0], "extra_content": {"google": {"thought_signature": "s"}}}]}
    ),
    "reasoning_content": chat({"content": LONG, "reasoning_content": LONG[::-1]}, model="deepseek-reasoner"),
    "reasoning with details": chat(
        {"content": "42", "refusal": None, "reasoning": LONG, "reasoning_details": DETAILS}, provider="Anthropic"
    ),
    "empty reasoning": chat({"content": "42", "reasoning": "", "reasoning_details": [], "reasoning_content": None}),
    "a refusal": chat({"content": None, "refusal": "I'm sorry, I cannot help with that request, today or ever."}),
    "logprobs": chat({**OPENAI, "choice": {"logprobs": {"content": [mark(LONG), mark("!")], "refusal": None}}}),
    "logprobs of a refusal": chat(
        {"content": None, "refusal": "No, no.", "choice": {"logprobs": {"content": None, "refusal": [mark("No")]}}}
    ),
    "logprobs of all there is": chat(
        {
            "content": LONG,
            "reasoning_content": LONG,
            "choice": {"logprobs": {"content": [mark("a")], "reasoning_content": [mark("b")]}},
        }
    ),
    "logprobs of nothing": chat({"content": None, "tool_calls": CALLS, "choice": {"logprobs": {"content": []}}}),
    "annotations": chat({"content": "cited", "annotations": [URL_CITATION, URL_CITATION]}),
    "audio": chat({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": LONG, "expires_at": 1}}),
    "Mistral's parts": chat({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "hi"}]}),
    "members nobody knows": chat(
        {"content": "x", "colour": "red", "n": 0, "ok": True, "choice": {"content_filter_results": {"hate": {}}}},
        {"content": "y", "choice": {"native_finish_reason": "STOP", "stop_reason": None, "token_ids": []}},
        citations=["u"],
        x_groq={"id": "r"},
        timings={"ms": 1.5},
        prompt_filter_results=[],
    ),
    "a bare server": {
        "choices": [{"index": 0, "message": {"role": "model", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"total_tokens": 2},
    },
}


def completion(*choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "m",
        "usage": USAGE,
        "choices": [{"index": index, "finish_reason": "stop", **choice} for index, choice in enumerate(choices)],
    }


MARKS = {"tokens": ["a", "b"], "token_logprobs": [None, -1.5], "top_logprobs": None, "text_offset": [0, 1]}

COMPLETIONS: dict[str, dict[str, Any]] = {
    "one text": completion({"text": LONG, "logprobs": None}),
    "several": completion({"text": LONG, "logprobs": None}, {"text": "", "logprobs": None}, {"text": "ab"}),
    "with logprobs": completion({"text": LONG, "logprobs": MARKS}, {"text": "b", "logprobs": None}),
    "with more": completion({"text": "a", "stop_reason": 5, "prompt_logprobs": None, "token_ids": [1]}),
    "null text": completion({"text": None, "logprobs": {}}),
}


def message(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 345,
            "service_tier": "standard",
            "server_tool_use": None,
        },
        **more,
    }


def tool_use(name: str, given: Any, kind: str = "tool_use", **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": f"toolu_{name}", "name": name, "input": given, **more}


TEXT = {"type": "text", "text": LONG}
THINKING = {"type": "thinking", "thinking": LONG[::-1], "signature": "EqQBCgIYAhIkY" * 9}
CITATIONS = [
    {"type": "char_location", "cited_text": "the sea", "document_index": 0, "document_title": None}
    | {"start_char_index": 14, "end_char_index": 21, "file_id": None},
    {"type": "web_search_result_location", "cited_text": "x", "url": "u", "title": "t", "encrypted_index": "E"},
]
SEARCH = [
    tool_use("web_search", {"query": "how long is the Rhine, in kilometres"}, "server_tool_use"),
    {
        "type": "web_search_tool_result",
        "tool_use_id": "toolu_web_search",
        "content": [
            {"type": "web_search_result", "title": "t", "url": "u", "encrypted_content": "A", "page_age": None}
        ],
    },
]
INPUT = {"city": "Zürich", "days": [1, 2.5, -3e-7], "deep": {"a": {"b": [None, True, {}]}}, "note": LONG, "": ""}
COUNTED = {
    "input_tokens": 5,
    "output_tokens": 9,
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
}

MESSAGES: dict[str, dict[str, Any]] = {
    "a text": message(TEXT),
    "nothing": message(),
    "an empty text": message({"type": "text", "text": ""}),
    "a stop sequence": message(TEXT, stop_reason="stop_sequence", stop_sequence="\n\nHuman:"),
    "thinking": message(THINKING, TEXT, stop_details=None),
    "sealed thinking": message({"type": "redacted_thinking", "data": "EmwK"}, {**THINKING, "thinking": ""}, TEXT),
    "thinking unsigned": message({"type": "thinking", "thinking": "hm"}, {**THINKING, "signature": ""}, TEXT),
    "parallel tool calls": message(TEXT, tool_use("a", INPUT), tool_use("b", {}), stop_reason="tool_use"),
    "a call with its caller": message(tool_use("a", INPUT, caller={"type": "direct"}), stop_reason="tool_use"),
    "citations": message({**TEXT, "citations": CITATIONS}, {**TEXT, "citations": None}, {**TEXT, "citations": []}),
    "a search": message(*SEARCH, TEXT, usage=COUNTED),
    "a remote tool": message(tool_use("m", INPUT, "mcp_tool_use", server_name="s")),
    "a compaction": message({"type": "compaction", "content": LONG, "encrypted_content": None}, TEXT),
    "a container": message(TEXT, container={"id": "c", "expires_at": "2026-01-01T00:00:00Z"}),
    "no container": message(TEXT, container=None, context_management={"applied_edits": []}),
    "a refusal": message(stop_reason="refusal", stop_details={"type": "refusal", "category": None}),
    "few tokens": message(TEXT, usage={"input_tokens": 1, "output_tokens": 0, "output_tokens_details": None}),
    "thinking counted": message(
        THINKING, usage={"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 8}}
    ),
    "members nobody knows": message({"type": "hologram", "depth": 3}, {**TEXT, "colour": "red"}, mood={"a": [1]}),
}
