"""A gateway that somebody looks at: its admin endpoints, asked from a terminal.

Rule: blocking, and plain http.client: no proxy and no redirect ever sees the key. What fails is one line that says why.
Every wait has a deadline, so that a gateway that has gone is noticed.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from runestone.core.json import JsonObject

PATIENCE = 10.0
"""Seconds to an answer."""
SILENCE = 45.0
"""Seconds a stream may say nothing; a gateway says something every 15."""
LARGEST = 64 * 1024 * 1024
LONGEST = 1024 * 1024
"""Bytes of an answer, and of one line of a stream."""


class LookFailed(Exception):
    """The gateway could not be asked; the message is for whoever sits at the terminal."""


class Remote:
    """`url` as SDKs take it, without /v1; `key` goes as a bearer token."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise LookFailed(f"{url[:200]!r} has a port that is none") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
            raise LookFailed(f"{url[:200]!r} is no address of a gateway, such as http://127.0.0.1:4003")
        self._host, self._port = parts.hostname, port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/")
        self.name = f"{parts.scheme}://{parts.netloc}{self._base}"
        self._headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"} if key is not None else {}

    def ask(self, path: str) -> JsonObject:
        """The answer to a GET. Raises LookFailed."""
        connection = self._connection(PATIENCE)
        try:
            answer = self._get(connection, path)
            told = json.loads(answer.read(LARGEST))
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise self._failed(error) from None
        finally:
            connection.close()
        if not isinstance(told, dict):
            raise LookFailed(f"{self.name} is no gateway of this kind: its {path} is not an object")
        return told

    def follow(self, path: str) -> Iterator[tuple[str, str]]:
        """(event, data) of the server-sent events of a GET, as they come, to the end. Raises LookFailed."""
        connection = self._connection(SILENCE)
        try:
            answer = self._get(connection, path)
            event, data = "message", ""
            while line := answer.readline(LONGEST):
                field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
                if field == "event":
                    event = value
                elif field == "data":
                    data = value
                elif not field and data:
                    yield event, data
                    event, data = "message", ""
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from None
        finally:
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._tls)

    def _get(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", self._base + path, headers=dict(self._headers))
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise LookFailed(f"{self.name} says {answer.status}: {_message(answer.read(LONGEST))}")
        return answer

    def _failed(self, error: Exception) -> LookFailed:
        if isinstance(error, TimeoutError):
            return LookFailed(f"{self.name} does not answer in time")
        if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
            return LookFailed(f"{self.name} has ended the connection")
        if isinstance(error, OSError):
            return LookFailed(f"{self.name} cannot be reached: {error.strerror or error.__class__.__name__}")
        return LookFailed(f"{self.name} is no gateway of this kind: its answer cannot be read")


def shown(value: object, most: int = 300) -> str:
    """`value` as a terminal can show it: one line, and nothing that it would obey."""
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)


def _message(body: bytes) -> str:
    """What an error answer says, in either dialect."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return "and nothing that could be read"
    error = told.get("error") if isinstance(told, dict) else None
    return shown(error.get("message") if isinstance(error, dict) else "and nothing more")
