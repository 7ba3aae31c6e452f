"""A gateway that an operator looks into: its keys, and a provider that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.flows.test_relay_stream import DONE, ROLE, STOP
from tests.gateway import Gateway
from tests.provider import Seen, Wire

ENVIRON = {"ROOT": "root-0123456789", "TEAM": "team-0123456789"}
ROOT, TEAM = ({"authorization": f"Bearer {key}"} for key in ENVIRON.values())
UP = 'pool.warmup = 0\n[providers.up]\nkind = "openai-compatible"\nbase_url = "{}/v1"\nmodels = ["m"]\n'
SECRET = "what-nobody-else-may-read"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m-2",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": SECRET}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def keys(team: str = "") -> str:
    return (
        '[[auth.keys]]\nname = "root"\nkey = "env:ROOT"\nadmin = true\n'
        f'[[auth.keys]]\nname = "team"\nkey = "env:TEAM"\n{team}\n'
    )


def asking(text: str = SECRET, **more: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


class Held:
    """Answers when `release` is set; of a stream the first event comes before that."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def script(self, seen: Seen, wire: Wire) -> None:
        if seen.json.get("stream"):
            await wire.begin_stream()
            await wire.chunk(ROLE)
            await self.release.wait()
            await wire.chunk(STOP + DONE)
            await wire.end_stream()
            return
        await self.release.wait()
        if "input" in seen.json:
            asked = seen.json["input"]
            count = len(asked) if isinstance(asked, list) else 1
            data = [{"object": "embedding", "index": at, "embedding": [0.5]} for at in range(count)]
            await wire.answer({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": count}})
            return
        await wire.answer(ANSWER)


class Watcher:
    """Asks for the state as an operator would."""

    def __init__(self, http: aiohttp.ClientSession, gate: Gateway) -> None:
        self._http = http
        self._url = gate.url

    async def state(self, query: str = "") -> Any:
        async with self._http.get(f"{self._url}/admin/state{query}", headers=ROOT) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def calls(self) -> list[Any]:
        listed = (await self.state())["calls"]["oldest"]
        assert isinstance(listed, list)
        return listed

    async def until_state(self, condition: Callable[[Any], bool], seconds: float = 5.0) -> Any:
        """The state, once it is so."""
        state: Any = None
        async with asyncio.timeout(seconds):
            while not condition(state := await self.state()):  # noqa: ASYNC110 - it is asked over a socket
                await asyncio.sleep(0.005)
        return state

    async def until(self, condition: Callable[[list[Any]], bool]) -> list[Any]:
        """The calls, once they are so."""
        calls = (await self.until_state(lambda state: condition(state["calls"]["oldest"])))["calls"]["oldest"]
        assert isinstance(calls, list)
        return calls

    async def stages(self, *wanted: str) -> list[Any]:
        """The calls, once they are at these places, oldest first."""
        return await self.until(lambda calls: [call["stage"] for call in calls] == list(wanted))
