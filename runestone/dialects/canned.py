"""A text as an answer of a model, for whoever answers in its place. No token is counted: none was spent."""

from __future__ import annotations

import orjson

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.errors import BadRequest


def canned(operation: Operation, model: str, text: str, identity: str, now: int) -> bytes:
    """The whole answer; `now` in seconds since 1970. Raises BadRequest for an operation without a text."""
    usage: JsonObject = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    answer: JsonObject
    if operation is Operation.MESSAGES:
        answer = {
            "id": f"msg_{identity}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
    elif operation is Operation.CHAT:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        answer = _completion(f"chatcmpl-{identity}", "chat.completion", model, now, choice, usage)
    elif operation is Operation.COMPLETIONS:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
        answer = _completion(f"cmpl-{identity}", "text_completion", model, now, choice, usage)
    else:
        raise BadRequest(f"{operation.value} is not answered by a text")
    return orjson.dumps(answer)


def _completion(identity: str, kind: str, model: str, now: int, choice: JsonObject, usage: JsonObject) -> JsonObject:
    return {"id": identity, "object": kind, "created": now, "model": model, "choices": [choice], "usage": usage}
