"""The response cache for programs without a server: `answer = await get_or_compute(request, compute, ttl=300)`.

The same stages as in the gateway (cache, collapsing, keeping), around a function of yours instead of a provider: the
same question is one with the same fields in any order, and asked twice at once it is computed once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from time import perf_counter
from typing import Any

import orjson

from runestone.core.cache import Cache
from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.core.names import Listing, Names
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.gateway.cache import Answers, Freshness, FromCache, Keys, Tally
from runestone.gateway.coalesce import Coalesce, Joined
from runestone.gateway.pipeline import Next, compose
from runestone.gateway.playback import Playback
from runestone.gateway.store import Store, Terms

Compute = Callable[[], Awaitable[Any]]


class ResponseCache:
    """Answers to questions, at most `max_size` of them and `max_bytes` together; `ttl` in seconds."""

    def __init__(
        self,
        *,
        max_size: int = 10_000,
        max_bytes: int = 256_000_000,
        max_entry: int = 1_000_000,
        ttl: float = 300.0,
    ) -> None:
        freshness = Freshness(ttl=ttl)
        self._answers: Answers = Cache(max_size=max_size, max_bytes=max_bytes)
        self._tally, self._joined = Tally(), Joined()
        keys = Keys(Names({}, {}, [Listing("python", ("*",))]), "global", frozenset())
        self._stages = (
            FromCache(
                self._answers,
                keys,
                freshness,
                tally=self._tally,
                playback=lambda answer, sent, within: Playback(answer, sent, 0.0, within),
                refresh=_nothing_is_stale,
            ),
            Coalesce(max_kept=max_entry, joined=self._joined),
            Store(self._answers, Terms(freshness=freshness, max_entry=max_entry, anything=True)),
        )

    async def get_or_compute(self, request: Mapping[str, object], compute: Compute, *, ttl: float | None = None) -> Any:
        """The answer to `request`: a kept one, or what `compute()` returns (anything JSON can say), which is then kept
        for `ttl` seconds. Raises what `compute` raises, to everybody who asked at the same time; TypeError for a
        request or an answer that JSON cannot say.
        """

        async def end(call: Call) -> Reply:
            return Reply(200, [], Summary(), body=orjson.dumps(await compute()))

        fields = dict(request)
        call = Call(
            id="python",
            operation=Operation.CHAT,
            body=b"",
            fields=fields,
            model=str(fields.get("model", "")),
            stream=False,
            caller=ANONYMOUS,
            headers={},
            credential=None,
            started=perf_counter(),
            ttl=ttl,
        )
        reply = await compose(self._stages, end)(call)
        reply.close()
        return orjson.loads(reply.body or b"null")

    def clear(self) -> int:
        """Forgets everything; how many answers it were."""
        return self._answers.clear()

    def stats(self) -> dict[str, int]:
        """What has been counted, and what is kept."""
        return {
            "hits": self._tally.hits,
            "misses": self._tally.misses,
            "collapsed": self._joined.count,
            "entries": len(self._answers),
            "bytes": self._answers.bytes,
        }


@lru_cache(maxsize=1)
def shared() -> ResponseCache:
    """The cache of this process, made when it is first needed."""
    return ResponseCache()


async def get_or_compute(request: Mapping[str, object], compute: Compute, *, ttl: float | None = None) -> Any:
    """As ResponseCache.get_or_compute, with the cache of this process."""
    return await shared().get_or_compute(request, compute, ttl=ttl)


def _nothing_is_stale(call: Call, next: Next) -> None:  # noqa: A002
    """Without stale-while-revalidate there is nothing to ask anew."""
