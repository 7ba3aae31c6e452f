"""Stages that somebody else wrote: guards, whose failure is the call's, and observers, whose failure is their own.

    a guard fails       the call fails with a 500 that says nothing but its id: what should have been checked was not
    an observer fails   the call goes on from where it was, and the failure is logged and counted

An error of the tree in errors.py is an answer, not a failure, when a guard raises it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.gateway.pipeline import Next
from runestone.gateway.tolerated import Tolerated

Function = Callable[[Call, Next], Awaitable[Reply]]


class Inner:
    """What lies further in, as one middleware sees it; remembers what came of it."""

    __slots__ = ("_next", "failure", "reply")

    def __init__(self, next: Next) -> None:  # noqa: A002 - the shape's own word
        self._next = next
        self.reply: Reply | None = None
        self.failure: BaseException | None = None

    async def __call__(self, call: Call) -> Reply:
        try:
            self.reply = await self._next(call)
        except BaseException as error:
            self.failure = error
            raise
        return self.reply


class Guard:
    """The stage of a guard."""

    def __init__(self, name: str, function: Function) -> None:
        self._name = name
        self._function = function

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        return _checked(self._name, await self._function(call, next))


class Watcher:
    """The stage of an observer; `count` is told of its failures."""

    def __init__(self, name: str, function: Function, count: Callable[[], None]) -> None:
        self._name = name
        self._function = function
        self._count = count

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        inner = Inner(next)
        with Tolerated(f"the middleware {self._name}", self._count, lambda error: error is inner.failure):
            return _checked(self._name, await self._function(call, inner))
        if inner.failure is not None:
            raise inner.failure
        return inner.reply if inner.reply is not None else await next(call)


def _checked(name: str, reply: object) -> Reply:
    if not isinstance(reply, Reply):
        raise TypeError(f"the middleware {name} returned {type(reply).__name__}, and must return a Reply")
    return reply
