"""What every answer carries: the request's id, as OpenAI's and as Anthropic's SDK reads it, who answers, limits."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from runestone.core.call import ANONYMOUS, Caller
from runestone.core.reply import Headers
from runestone.edge.cors import ANYBODY, Cors
from runestone.edge.request import VISIT


class Stamp:
    """`limit_headers` are what answers to a limited key carry; `cors` lets pages of other origins read them."""

    def __init__(self, limit_headers: Callable[[Caller], Headers], cors: Cors | None = None) -> None:
        self._limit_headers = limit_headers
        self._cors = cors

    def headers(self, request: web.Request) -> Headers:
        """The headers of any answer to `request`."""
        visit = request.get(VISIT)
        identity, caller = (visit.id, visit.caller) if visit is not None else ("", ANONYMOUS)
        told = [("x-request-id", identity), ("request-id", identity), ("Server", "runestone")]
        if self._cors is not None:
            told += self._cors.headers(request)
        return told if caller is ANONYMOUS else told + self._limit_headers(caller)

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Puts them on an answer (aiohttp's signal)."""
        del response.headers["Server"]  # aiohttp's own
        is_anybodys = ANYBODY in response.headers
        response.headers.extend(self.headers(request))
        if is_anybodys:
            response.headers[ANYBODY] = "*"
