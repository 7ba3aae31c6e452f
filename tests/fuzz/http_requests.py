"""Requests that are well, and what can be made wrong with them, on the way from their first byte to the last.

Rule: strategies only; what becomes of them is in the tests. Bytes here mean what they mean to HTTP/1.1 (RFC 9112).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.fuzz.strategies import cuts
from tests.gateway import ENVIRON

CHAT = b'{"model":"simulated","messages":[{"role":"user","content":"hi"}]}'
UP = CHAT.replace(b"simulated", b"m")
STREAM = CHAT[:-1] + b',"stream":true}'
MESSAGES = b'{"model":"simulated","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'
BATCH = b'{"requests":[{"body":' + CHAT + b'},{"url":"/v1/embeddings","body":{"model":"simulated","input":"x"}}]}'


@dataclass(frozen=True)
class Request:
    """One, in parts; `end` is how its lines end."""

    method: bytes
    target: bytes
    headers: tuple[bytes, ...] = ()
    body: bytes | None = None
    version: bytes = b"HTTP/1.1"
    end: bytes = b"\r\n"

    def bytes(self) -> bytes:
        """As they are sent."""
        first = (
            b" ".join((self.method, self.target, self.version)) if self.version else self.method + b" " + self.target
        )
        return self.end.join((first, b"Host: x", *self.headers)) + 2 * self.end + (self.body or b"")


TYPED, LENGTH = (b"Content-Type: application/json",), b"Content-Length: %d"
CHIEF = b"Authorization: Bearer " + ENVIRON["UP_KEY"].encode()
HANDSHAKE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def posting(path: bytes, body: bytes, *headers: bytes) -> Request:
    return Request(b"POST", path, (*TYPED, *headers, LENGTH % len(body)), body)


def asking(*paths: bytes, headers: tuple[bytes, ...] = ()) -> list[Request]:
    return [Request(b"GET", path, headers) for path in paths]


GOOD = posting(b"/v1/chat/completions", CHAT).bytes()

WELL = [
    posting(b"/v1/chat/completions", CHAT),
    posting(b"/v1/chat/completions", UP),
    posting(b"/v1/chat/completions", STREAM),
    posting(b"/v1/chat/completions", STREAM, b"x-runestone-resumable: true"),
    posting(b"/openai/deployments/simulated/chat/completions?api-version=1", CHAT),
    posting(b"/v1/messages", MESSAGES),
    posting(b"/v1/messages", MESSAGES.replace(b"simulated", b"m")),
    posting(b"/v1/messages/count_tokens", MESSAGES),
    posting(b"/v1/completions", b'{"model":"simulated","prompt":"hi"}'),
    posting(b"/v1/embeddings", b'{"model":"simulated","input":["hi"]}'),
    posting(b"/v1/batch", BATCH),
    posting(b"/admin/cache/clear", b'{"model":"m"}', CHIEF),
    posting(b"/admin/cache/warm", b'{"model":"m"}', CHIEF),
    Request(b"DELETE", b"/v1/streams/x"),
    Request(b"OPTIONS", b"/v1/models", (b"Origin: https://page.example", b"Access-Control-Request-Method: GET")),
    *asking(b"/v1/models", b"/v1/models/simulated", b"/v1/streams/x", b"/nothing", b"/runestone.js", b"/openapi.json"),
    *asking(b"/health", b"/health/ready", b"/metrics", b"/admin/state", b"/ws"),
    *asking(b"/admin/state?calls=2", b"/admin/providers", b"/admin/cache", b"/admin/tail", headers=(CHIEF,)),
    *asking(b"/ws", headers=HANDSHAKE),
    *asking(b"/ws", headers=(*HANDSHAKE, b"Sec-WebSocket-Protocol: runestone, runestone.key.x")),
]


# -- what a head is made of


def some(words: bytes) -> st.SearchStrategy[bytes]:
    """One of the words between the bars."""
    return st.sampled_from(words.split(b" | "))


NAMES = st.sampled_from(
    b"""
    content-type content-encoding x-request-id authorization x-api-key cache-control traceparent tracestate
    x-runestone-timeout x-runestone-tags x-runestone-cache-ttl x-runestone-resumable origin expect connection upgrade
    last-event-id idempotency-key anthropic-version anthropic-beta accept sec-websocket-key sec-websocket-version
    sec-websocket-protocol if-none-match range cookie te access-control-request-method x-forwarded-for host keep-alive
    trailer date
    """.split()
)
VALUES = (
    some(b"\xff | \xc3\xa9 | 5s | 0s | -1 | true | only-if-cached | no-store, max-age=0 | close | upgrade | h2c")
    | some(b"keep-alive, Upgrade | 100-continue | application/json; charset=x | application/\xff | gzip | identity | *")
    | some(
        b'bytes=0-1 | Bearer \xff | Basic eDp5 | runestone, runestone.key.\xff | websocket | null | GET | \x7f | W/"x"'
    )
    | some(
        b"https://page.example | http://[::1 | dGhlIHNhbXBsZSBub25jZQ== | %0d%0aX-Evil: 1 | a=1,b=2 | http://localhost:1"
    )
    | st.sampled_from([b"", b"1" * 300, b"x" * 17_000, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
    | st.binary(max_size=6)
)
LINES = (
    st.builds(lambda name, value: name + b": " + value, NAMES, VALUES)
    | some(b"x : y |  x: y | : y | x | x: y\r\n z | x\x00: y | x: \x00 | x: y\rX-Evil: 1 | x: y\nX-Evil: 1 | \xff: 1")
    | some(b"Content-Length: 5 | Content-Length: 99999999999999999999 | Content-Length: -1 | Content-Length: 5, 5")
    | some(b"Transfer-Encoding: chunked | Transfer-Encoding: identity | Transfer-Encoding: gzip | Host: y")
    | st.just(b"x" * 20_000 + b": 1")
)
METHODS = some(b"GET | POST | PUT | PATCH | TRACE | CONNECT | OPTIONS | QUERY | get | G E T | PRI | ")
PATHS = (
    some(
        b"* | / | // | //x/y | /%ff | /\xff | http://x/v1/models | http://[::1/x | ? | x:80 | @ | http://:x@/ | */x | "
    )
    | some(b"/%00%0d%0aX-Evil:%201 | /v1/models/%0d%0aX-Evil:%201 | /openai/deployments/%0d%0aX-Evil:%201/completions")
    | some(b"/v1/models/\x00 | /v1/models?x=%ff&x | /v1/../admin/state | /v1/models#x | /v1/models;x | /v1/models/a/b")
    | some(b"/admin/tail | /v1/streams/%2e%2e | /v1/chat/completions/ | /\xc3\xa9 | /admin/state?calls=%ff")
    | st.just(b"/v1/models/" + b"x" * 17_000)
)
VERSIONS = some(b"HTTP/1.0 | HTTP/1.1 | HTTP/2.0 | HTTP/0.9 | HTTP/9.9 | http/1.1 | HTTP/1.1  | ")


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Up to three things wrong with one that is well."""
    request = draw(st.sampled_from(WELL))
    for _ in range(draw(st.integers(0, 3))):
        request = draw(st.sampled_from(CHANGES))(draw, request)
    return request


def _more(draw: st.DrawFn, request: Request) -> Request:
    at, line = draw(st.integers(0, len(request.headers))), draw(LINES)
    return replace(request, headers=(*request.headers[:at], line, *request.headers[at:]))


def _less(draw: st.DrawFn, request: Request) -> Request:
    at = draw(st.integers(0, len(request.headers)))
    return replace(request, headers=request.headers[:at] + request.headers[at + 1 :])


def _again(draw: st.DrawFn, request: Request) -> Request:
    return replace(request, headers=request.headers + request.headers[draw(st.integers(0, 2)) :])


def _chunked(draw: st.DrawFn, request: Request) -> Request:
    """The body in chunks, some of which are none."""
    parts = draw(cuts(request.body or b"x", most=2))
    said = b"".join(b"%x%b\r\n%b%b" % (len(part), draw(EXTENSIONS), part, draw(ENDS)) for part in parts if part)
    headers = tuple(line for line in request.headers if not line.startswith(b"Content-Length"))
    return replace(request, headers=(*headers, b"Transfer-Encoding: chunked"), body=said + draw(LAST))


EXTENSIONS = st.just(b"") | st.sampled_from([b";a=b", b";" + b"x" * 17_000, b" ", b"\xff", b"0" * 20, b"g", b"\n"])
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"", b"x\r\n"])
LAST = st.sampled_from(
    [b"0\r\n\r\n"] * 4
    + [b"0\r\nX-Trailer: 1\r\n\r\n", b"", b"0\r\n", b"0\n\n", b"-1\r\n\r\n", b"ffffffffffffffff\r\nx", b"fffffff\r\n"]
)

CHANGES = [
    _more,
    _more,
    _more,
    _less,
    _again,
    _chunked,
    lambda draw, request: replace(request, method=draw(METHODS)),
    lambda draw, request: replace(request, target=draw(PATHS)),
    lambda draw, request: replace(request, version=draw(VERSIONS)),
    lambda draw, request: replace(request, end=draw(st.sampled_from([b"\n", b"\r", b"\r\n\r\n"]))),
    lambda draw, request: replace(request, body=draw(st.binary(max_size=20) | st.just(b"x" * 200_000))),
]


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Requests one behind the other; something before, between or in them; or not all of it."""
    said = [request.bytes() for request in draw(st.lists(requests(), min_size=1, max_size=3))]
    between = draw(st.sampled_from([b""] * 8 + [b"\r\n", b"\r\n\r\n", b"\x00", b"\x16\x03\x01\x02\x00"]))
    data = between.join(said) if draw(st.booleans()) else between + b"".join(said)
    how = draw(st.integers(0, 7))
    if how == 0:
        return data[: draw(st.integers(0, len(data)))]
    if how == 1:
        at = draw(st.integers(0, min(len(data), 400)))
        return data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at + draw(st.integers(0, 2)) :]
    return data


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CL, TE = b"Content-Length: %d", b"Transfer-Encoding: chunked"
PAIRS = st.sampled_from(
    [
        (CL % 4, TE),
        (TE, CL % 4),
        (CL % 4, CL % 40),
        (CL % 40, CL % 4),
        (b"Content-Length: 4, 40",),
        (b"Content-Length: +4",),
        (b"Content-Length: 0x4",),
        (b"Content-Length: 4 4",),
        (b"Content-Length: 4\x0b",),
        (b"Content-Length : 4",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: identity, chunked", CL % 4),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding\x0b: chunked",),
        (b"Transfer-Encoding: \x0bchunked",),
        (b" Transfer-Encoding: chunked",),
        (b"X: y\r\n Transfer-Encoding: chunked",),
        (b"X: y\rTransfer-Encoding: chunked",),
        (b"X: y\nTransfer-Encoding: chunked", CL % 4),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"transfer-encoding: gzip", CL % 4),
    ]
)
