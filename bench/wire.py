"""What is said on the wire: one chat request as an SDK writes it, one answer, one stream of 100 events.

Rule: bytes are made once, before anything is measured; sizes and fields are those of real OpenAI traffic.
Absent: variety. Every call is the same, so that rounds differ only by the server.
"""

from __future__ import annotations

import orjson

MODEL = "bench-model"
EVENTS = 100
EVENTS_A_SECOND = 50
HELD_INTERVAL = 2  # seconds between two events of a stream that is only held
DONE = b"data: [DONE]\n\n"
CHAT_PATH = "/v1/chat/completions"
KEY = "sk-bench-0123456789abcdefghijklmnopqrstuvwxyz"

# A paced event carries the moment it was sent, in nanoseconds of the system-wide monotonic clock, as its text:
# inside the content, where even a gateway that rewrites events must keep it.
STAMP = b'"content":"@'
STAMP_DIGITS = 20

_ID = "chatcmpl-CkT3v0mYw1xQ8rZpL5nB7dHs2JfGa"
_CREATED = 1_754_000_000
_USAGE = {
    "prompt_tokens": 214,
    "completion_tokens": 97,
    "total_tokens": 311,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_SYSTEM = (
    "You are the support assistant of a small bicycle shop. Answer in the customer's language, briefly and kindly. "
    "Never promise a delivery date that is not in the order data. If a repair is safety relevant (brakes, fork, "
    "steering), tell the customer not to ride and to come by. Prices are in euros and include tax."
)
_TURNS = [
    ("user", "Hello! My rear brake squeals since last week and I have a tour planned on Saturday."),
    (
        "assistant",
        "That is annoying right before a tour. Is it a rim brake or a disc brake, and did you change the pads?",
    ),
    ("user", "A disc brake. I did change the pads two weeks ago, and it rained a lot since then. What should I check?"),
]
_TEXT = " Most squealing discs are only dirty after rain so clean the rotor with alcohol and bed the new pads in"
_WORDS = _TEXT.split()


def chat_body(*, stream: bool, events: int | None = None) -> bytes:
    """A chat request of about 1 KB, compact JSON; `events` asks a paced provider for that many (as `max_tokens`)."""
    messages = [{"role": "system", "content": _SYSTEM}, *({"role": role, "content": text} for role, text in _TURNS)]
    body: dict[str, object] = {"messages": messages, "model": MODEL, "temperature": 0.2, "user": "customer-4711"}
    body["max_tokens"] = events if events is not None else 256
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return orjson.dumps(body)


def request(path: str, port: int, body: bytes) -> bytes:
    """A POST with the headers the official Python SDK sends."""
    head = (
        f"POST {path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Accept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\n"
        "Accept: application/json\r\n"
        "Content-Type: application/json\r\n"
        "User-Agent: OpenAI/Python 1.99.1\r\n"
        "X-Stainless-Lang: python\r\n"
        "X-Stainless-Package-Version: 1.99.1\r\n"
        "X-Stainless-OS: Linux\r\n"
        "X-Stainless-Arch: x64\r\n"
        "X-Stainless-Runtime: CPython\r\n"
        "X-Stainless-Runtime-Version: 3.11.7\r\n"
        "X-Stainless-Async: async:asyncio\r\n"
        "X-Stainless-Retry-Count: 0\r\n"
        "X-Stainless-Read-Timeout: 600\r\n"
        f"Authorization: Bearer {KEY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer() -> bytes:
    """A chat completion of about 1 KB."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": " ".join(_WORDS * 4),
        "refusal": None,
        "annotations": [],
    }
    return orjson.dumps(
        {
            "id": _ID,
            "object": "chat.completion",
            "created": _CREATED,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
        }
    )


def event(delta: dict[str, object], finish: str | None = None) -> bytes:
    """One `chat.completion.chunk` as an SSE event, about 200 bytes."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _sse({"choices": [choice]})


def usage_event() -> bytes:
    """The chunk `include_usage` asks for: no choices, the usage of the whole call."""
    return _sse({"choices": [], "usage": _USAGE})


def events() -> list[bytes]:
    """The 100 events of a fast stream; `DONE` follows them."""
    words = [_WORDS[i % len(_WORDS)] for i in range(EVENTS - 3)]
    first = event({"role": "assistant", "content": "", "refusal": None})
    return [first, *(event({"content": " " + word}) for word in words), event({}, "stop"), usage_event()]


def stamped_event() -> tuple[bytes, bytes]:
    """A content event around its stamp: what comes before the digits and what comes after them."""
    before, _, after = event({"content": "@" + "#" * STAMP_DIGITS}).partition(b"#" * STAMP_DIGITS)
    return before, after


def chunk(payload: bytes) -> bytes:
    """`payload` as one chunk of chunked transfer coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _sse(fields: dict[str, object]) -> bytes:
    head = {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED, "model": MODEL}
    return b"data: " + orjson.dumps({**head, "system_fingerprint": "fp_44709d6fcb", **fields}) + b"\n\n"
