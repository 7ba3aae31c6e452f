"""Turns every failure into the contract's error answer, in the dialect of the path.

Rule: this is the edge's only `except Exception`; what it catches there is our own fault, told to the log, not to the
client.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from time import perf_counter

from aiohttp import web

from runestone.edge.calls import Handler, call_headers
from runestone.edge.request import VISIT, Visit, dialect_of, request_id
from runestone.errors import InternalError, MethodNotAllowed, NotFound, ProviderRefused, RunestoneError, TooLarge

_log = logging.getLogger("runestone.edge")

Refused = Callable[[web.Request, RunestoneError], None]


class Rescue:
    """The middleware. `refused` is told of requests that failed before they became a call (those have records)."""

    __middleware_version__ = 1

    def __init__(self, refused: Refused) -> None:
        self._refused = refused

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        visit = request[VISIT] = Visit(request_id(request.headers), perf_counter())
        try:
            return await handler(request)
        except RunestoneError as error:
            failure = error.with_traceback(None)  # which holds this frame, which holds it
        except web.HTTPException as error:
            if error.status < 400:
                raise
            failure = _translate(request, error)
            error.__traceback__ = None  # aiohttp keeps the error with the request
        except ConnectionError:
            raise  # the client left; aiohttp ends the connection
        except Exception:  # the edge's own, one of three places that catch everything
            _log.exception("request %s failed", visit.id)
            if request.writer.output_size:
                raise ConnectionError("the answer has begun; what is left is to end the connection") from None
            failure = InternalError(f"internal error; the request id is {visit.id}")
        if visit.call is None:
            self._refused(request, failure)
        return _answer(request, visit, failure)


def _translate(request: web.Request, error: web.HTTPException) -> RunestoneError:
    """aiohttp's own refusals: no such path, wrong method, body too large."""
    path = request.path[:200]
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(f"{request.method} is not allowed on {path}; use {allowed}")
    if error.status == 413:
        return TooLarge("the request is too large")
    return NotFound(f"there is nothing at {path}")


def _answer(request: web.Request, visit: Visit, failure: RunestoneError) -> web.Response:
    body = failure.body if isinstance(failure, ProviderRefused) else None
    if body is None:
        body = dialect_of(request).error(failure, visit.id)
    response = web.Response(status=failure.status, body=body, content_type="application/json")
    if isinstance(failure, ProviderRefused):
        response.headers.extend(failure.headers)
    elif failure.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(failure.retry_after))
    if isinstance(failure, MethodNotAllowed):
        response.headers["Allow"] = failure.message.rpartition("use ")[2]
    if visit.call is not None:
        response.headers.extend(call_headers(visit.call))
    return response
