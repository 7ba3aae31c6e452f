"""What a server has sent over a connection, taken apart as strictly as a client may."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [\x20-\x7e]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e\x80-\xff \t]*?)[ \t]*")


class Malformed(AssertionError):
    """What no client could read."""


@dataclass
class Answer:
    """`is_whole`: its end has come."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool = True

    def header(self, name: str) -> str:
        """Its value, "" where it is not there. Raises Malformed where it is there twice."""
        found = [value for given, value in self.headers if given == name]
        if len(found) > 1:
            raise Malformed(f"{name} stands twice: {found}")
        return found[0] if found else ""


def answers(data: bytes, *, to_head: bool = False) -> list[Answer]:
    """All of them; the last may be cut. With `to_head` the answers to HEAD, which have no body. Raises Malformed."""
    found = []
    while data:
        head, border, rest = data.partition(b"\r\n\r\n")
        if not border:
            raise Malformed(f"a head without an end: {data[:200]!r}")
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise Malformed(f"no status line: {first[:200]!r}")
        headers = []
        for line in lines:
            match = _HEADER.fullmatch(line)
            if match is None:
                raise Malformed(f"no header: {line[:200]!r}")
            headers.append((match[1].decode().lower(), match[2].decode("latin-1")))
        answer = Answer(int(status[1]), headers, b"")
        data = _body(answer, rest, is_empty=to_head)
        found.append(answer)
    return found


def _body(answer: Answer, data: bytes, *, is_empty: bool) -> bytes:
    """Reads its body; what follows."""
    length, coding = answer.header("content-length"), answer.header("transfer-encoding")
    if length and coding:
        raise Malformed("two lengths")
    if is_empty or answer.status < 200 or answer.status in (204, 304):
        return data
    if coding:
        if coding != "chunked":
            raise Malformed(f"a coding that was not asked for: {coding}")
        return _chunks(answer, data)
    if not length:
        answer.body = data  # to the end of the connection
        return b""
    if not re.fullmatch(r"[0-9]+", length):
        raise Malformed(f"no length: {length}")
    answer.body = data[: int(length)]
    answer.is_whole = len(answer.body) == int(length)
    return data[int(length) :]


def _chunks(answer: Answer, data: bytes) -> bytes:
    while True:
        size, border, rest = data.partition(b"\r\n")
        if not border:
            answer.is_whole = False
            return b""
        if not re.fullmatch(rb"[0-9a-fA-F]+", size):
            raise Malformed(f"no chunk: {size[:50]!r}")
        count = int(size, 16)
        if len(rest) < count + 2:
            answer.body += rest[:count]
            answer.is_whole = False
            return b""
        if rest[count : count + 2] != b"\r\n":
            raise Malformed("a chunk of another length")
        answer.body += rest[:count]
        data = rest[count + 2 :]
        if count == 0:
            return data
