"""A batch as its client writes and reads it: one line for each call, one line for what became of it.

Rule: pure. What is wrong with the batch is found here at once, what is wrong with one line when its turn has come, so
that it fails alone. What a provider wrote goes into a line as it is, once it is known to be JSON: nothing in it can
change the line around it.
Deliberately absent: files, `completion_window` and whatever else lets OpenAI's own batches take a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.dialects.dialect import Dialect, Types, check_types
from runestone.dialects.relay import load_answer
from runestone.dialects.sse import Event, encode
from runestone.errors import BadRequest, MethodNotAllowed, NotFound, ProviderRefused, RunestoneError

MAX_LINES = 1000
MAX_ID = 200
"""Characters of a `custom_id`."""
MAX_CONCURRENCY = 100
CHAT = "/v1/chat/completions"

OPERATIONS = {
    CHAT: Operation.CHAT,
    "/v1/embeddings": Operation.EMBEDDINGS,
    "/v1/completions": Operation.COMPLETIONS,
    "/v1/messages": Operation.MESSAGES,
    # the same for clients whose base URL has no /v1
    "/chat/completions": Operation.CHAT,
    "/embeddings": Operation.EMBEDDINGS,
    "/completions": Operation.COMPLETIONS,
}
_TYPES: Types = {"requests": (list,), "max_concurrency": (int,), "stream": (bool,)}
_END = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Line:
    """One call of a batch, as it was written."""

    index: int
    custom_id: str
    url: str
    method: str
    body: object

    def asked(self) -> tuple[Operation, JsonObject]:
        """What is asked, and with which fields. Raises what the endpoint alone would have: NotFound, MethodNotAllowed,
        BadRequest.
        """
        operation = OPERATIONS.get(self.url)
        if operation is None:
            raise NotFound(f"there is nothing at {self.url[:200]}; a batch can ask {', '.join(list(OPERATIONS)[:4])}")
        if self.method != "POST":
            raise MethodNotAllowed(f"{self.method[:20]} is not allowed on {self.url}; use POST")
        if not isinstance(self.body, dict):
            raise BadRequest("the body must be a JSON object")
        return operation, self.body


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked: the lines, how many at a time, and whether they are answered as events."""

    lines: tuple[Line, ...]
    concurrency: int
    stream: bool


def read_batch(fields: JsonObject, concurrency: int) -> Batch:
    """The batch that `fields` ask for; `concurrency` where they do not say. Raises BadRequest for what is no batch."""
    check_types(fields, _TYPES)
    asked, most = fields.get("requests"), fields.get("max_concurrency")
    if not isinstance(asked, list) or not asked:
        raise BadRequest(f"'requests' {'is missing' if asked is None else 'must not be empty'}", param="requests")
    if len(asked) > MAX_LINES:
        raise BadRequest(f"'requests' holds {len(asked)} items, and may hold {MAX_LINES}", param="requests")
    if not isinstance(most, int):
        most = concurrency
    elif not 1 <= most <= MAX_CONCURRENCY:
        raise BadRequest(f"'max_concurrency' must be from 1 to {MAX_CONCURRENCY}", param="max_concurrency")
    stream = fields.get("stream") is True
    first: dict[str, int] = {}
    lines = tuple(_line(index, entry) for index, entry in enumerate(asked))
    for line in lines:
        here = f"requests[{line.index}]"
        if first.setdefault(line.custom_id, line.index) != line.index:
            other = f"requests[{first[line.custom_id]}]"
            raise BadRequest(f"'{here}.custom_id' is that of '{other}' too", param=f"{here}.custom_id")
        if not stream and isinstance(line.body, dict) and line.body.get("stream") is True:
            raise BadRequest(
                f"'{here}.body.stream' needs a batch that streams itself: give \"stream\": true beside 'requests'",
                param=f"{here}.body.stream",
            )
    return Batch(lines, most, stream)


def _line(index: int, entry: object) -> Line:
    here = f"requests[{index}]"
    if not isinstance(entry, dict):
        raise BadRequest(f"'{here}' must be an object", param=here)
    custom_id = _text(entry, "custom_id", here) or str(index)
    if len(custom_id) > MAX_ID:
        raise BadRequest(f"'{here}.custom_id' is longer than {MAX_ID} characters", param=f"{here}.custom_id")
    url, method = _text(entry, "url", here) or CHAT, _text(entry, "method", here) or "POST"
    return Line(index, custom_id, url, method, entry.get("body"))


def _text(entry: JsonObject, name: str, here: str) -> str | None:
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise BadRequest(f"'{here}.{name}' must be a non-empty string", param=f"{here}.{name}")
    return value


def answered(line: Line, request_id: str, status: int, body: bytes | None, retry_after: int | None = None) -> bytes:
    """What the endpoint alone would have answered; no body stands for a stream that was told event by event."""
    response: JsonObject = {
        "status_code": status,
        "request_id": request_id,
        "body": _embedded(body) if body is not None else None,
    }
    if retry_after is not None:
        response["retry_after"] = retry_after
    return _written(line, {"response": response, "error": None})


def _embedded(body: bytes) -> object:
    """A provider's answer as it is; what is not quite JSON would make all that stands around it none."""
    return orjson.Fragment(body) if _is_json(body) else load_answer(body)


def broken(line: Line, request_id: str, dialect: Dialect, failure: RunestoneError) -> bytes:
    """The last of a stream that broke off, as its dialect says why."""
    said = orjson.loads(dialect.error(failure, request_id))
    return _written(line, {"response": None, "error": said["error"]})


def chunks(line: Line, events: Iterable[Event]) -> list[bytes]:
    """The events of a stream. Its end marker is none: what became of a line says its last one."""
    told = []
    for event in events:
        if event.data == _END:
            continue
        chunk = orjson.Fragment(event.data) if _is_json(event.data) else event.data.decode("utf-8", "replace")
        told.append(_written(line, {"event": event.name, "chunk": chunk} if event.name else {"chunk": chunk}))
    return told


def refusal(dialect: Dialect, request_id: str, failure: RunestoneError) -> bytes:
    """The body of a failure: the provider's own where it gave one that can be read."""
    if isinstance(failure, ProviderRefused) and failure.body is not None and _is_json(failure.body):
        return failure.body
    return dialect.error(failure, request_id)


def whole(identity: str, lines: Sequence[bytes], failed: int) -> bytes:
    """The answer as one JSON object."""
    counts = {"total": len(lines), "succeeded": len(lines) - failed, "failed": failed}
    data = [orjson.Fragment(line) for line in lines]
    return orjson.dumps({"object": "batch", "id": identity, "data": data, "counts": counts})


def events(lines: Iterable[bytes]) -> bytes:
    """The lines as server-sent events. A line break in them is the provider's, and between two tokens: a space."""
    return b"".join(encode(line.replace(b"\r", b" ").replace(b"\n", b" ")) for line in lines)


def last_event() -> bytes:
    """Says that every line has been told."""
    return encode(_END)


def _written(line: Line, more: JsonObject) -> bytes:
    return orjson.dumps({"custom_id": line.custom_id, "index": line.index, **more})


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
