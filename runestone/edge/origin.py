"""Whose page is it? Browsers say so (`Origin`), and other clients say nothing."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web


def may_come(request: web.Request, origins: Iterable[str]) -> bool:
    """Whether the page that connects is one of ours: browsers say whose it is, and other clients say nothing. Without
    this, any page a developer looks at could spend the keys of a gateway on their machine.
    """
    origin = request.headers.get("Origin")
    if origin is None or origin in origins or "*" in origins:
        return True
    try:
        page = urlsplit(origin)
    except ValueError:  # half an address
        return False
    # A name of somebody else may point at this machine (DNS rebinding): only what names no domain is known to be ours.
    is_plain = page.hostname == "localhost" or _is_address(page.hostname or "")
    return is_plain and page.netloc == request.host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
