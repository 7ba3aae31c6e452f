"""What never changes while the server runs (/runestone.js, the module for browsers): sent as it is, asked for anew only
when it has changed.
"""

from __future__ import annotations

from hashlib import sha256

from aiohttp import web

from runestone.edge.cors import ANYBODY


class Module:
    """The handler of a `text` of a content type."""

    def __init__(self, text: bytes, content_type: str = "text/javascript; charset=utf-8") -> None:
        self._text = text
        self._type = content_type
        self._tag = sha256(text).hexdigest()[:32]

    async def show(self, request: web.Request) -> web.Response:
        """The file, or a 304. Any page may load it: it is the same for everybody."""
        headers = {"ETag": f'"{self._tag}"', "Cache-Control": "no-cache", ANYBODY: "*"}
        known = request.if_none_match
        if known is not None and any(tag.value == self._tag for tag in known):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self._text, headers={**headers, "Content-Type": self._type})
