"""How an answer of server-sent events is sent."""

from __future__ import annotations

from aiohttp import web

GRACE = 1.0
"""Seconds beyond a call's deadline in which a stream may say that the deadline has passed."""

EVENTS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),  # nginx would collect the events otherwise
)


class EventStream(web.StreamResponse):
    """A stream whose head leaves with its first block, which is there already."""

    _send_headers_immediately = False
