"""Everything that can go wrong for a client.

    ClientError
    ├─ Refused          the gateway said no: `status`, `code`, `type`, `param`, `retry_after`, `close_code`
    ├─ ConnectionLost   nobody answers, and waiting was given up; or the session or the client is closed
    ├─ SessionLost      the gateway knows the session no more: what was waiting in it is lost, the session goes on anew
    ├─ StreamFailed     a stream ended before its end: `code`, `type`; what came before the failure has been told
    │   └─ Overrun      its text was not read, and more came than may wait
    ├─ QueueFull        more messages wait to be sent than may; nothing was sent
    ├─ TooLarge         a message is larger than this side or the other takes
    └─ TimedOut         a deadline passed (a TimeoutError as well)

Rule: these hold what the gateway said and what was asked for, never a key or a header: an error of aiohttp, which knows
the request, is never chained to one of them.
"""

from __future__ import annotations

import copy
from typing import TypeVar


class ClientError(Exception):
    """What `runestone.client` raises. `message` is for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(ClientError):
    """The gateway answered with an error object, or closed the connection for good.

    `status` is HTTP's (None over a WebSocket), `close_code` a WebSocket's; `retry_after` in seconds. What the gateway
    did not say is None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the vendors' field name
        param: str | None = None,
        retry_after: float | None = None,
        close_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        self.close_code = close_code


class ConnectionLost(ClientError):
    """There is no connection, and none is sought any more."""


class SessionLost(ClientError):
    """The session that this belonged to is over at the gateway; the message ends with what the gateway said."""


class StreamFailed(ClientError):
    """A stream that ended before its end. `code` and `type` are the gateway's, as over HTTP."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the vendors' field name
    ) -> None:
        super().__init__(message)
        self.code = code
        self.type = type


class Overrun(StreamFailed):
    """More came than may wait for a reader, and whoever sends it could not be asked to pause."""


class QueueFull(ClientError):
    """As many messages wait to be sent, or for the gateway to say that it has them, as may."""


class TooLarge(ClientError):
    """A message that is larger than one side takes. One that was under way ends the session: it would come again."""


class TimedOut(ClientError, TimeoutError):
    """A deadline passed. What was asked for may have happened all the same."""


Failure = TypeVar("Failure", bound=ClientError)


def another(error: Failure) -> Failure:
    """The same error once more: each who waits raises one of their own, with a traceback of their own."""
    return copy.copy(error)
