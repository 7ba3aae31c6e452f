"""No client and no provider makes the series grow: through real sockets, with names that nobody has configured."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import StartGateway, StartProvider
from tests.gateway import Gateway
from tests.provider import Seen, Wire

MANY = 150
TOML = """
routing.retries = 0
pool.warmup = 0
[providers.up]
kind = "openai-compatible"
base_url = "{}/v1"
models = ["m-*"]
[models.fast]
targets = ["up/x"]
"""


async def whatever(seen: Seen, wire: Wire) -> None:
    """Answers with what it is asked for: an answer, or a refusal with a code and a type of its own."""
    told = seen.json.get("metadata", {})
    if "code" in told:
        error = {"message": "no", "type": told["code"] + "-type", "code": told["code"]}
        await wire.answer({"error": error}, status=int(told["status"]))
    else:
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        await wire.answer({"id": "a", "model": seen.json["model"], "choices": [], "usage": usage})


class House:
    """A gateway and a client with much imagination."""

    def __init__(self, gate: Gateway, http: aiohttp.ClientSession) -> None:
        self._gate = gate
        self._http = http

    async def ask(self, model: str, headers: dict[str, str] | None = None, path: str = "", **more: Any) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        url = self._gate.url + (path or "/v1/chat/completions")
        async with self._http.post(url, json=body, headers=headers) as response:
            await response.read()

    async def series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        async with self._http.get(self._gate.url + "/metrics") as response:
            text = await response.text()
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def imagine(self, number: int) -> None:
        """One call of each kind that brings a name of its own."""
        azure = f"/openai/deployments/made-up-{number}/chat/completions"
        await asyncio.gather(
            self.ask(f"made-up-{number}"),
            self.ask(f"up/made-up-{number}"),
            self.ask(f"m-{number}"),
            self.ask(f"nobody-{number}/x"),
            self.ask("fast", {"x-runestone-tags": f"tag-{number}", "x-request-id": f"id-{number}"}),
            self.ask("fast", {"Authorization": f"Bearer key-{number}-0123456789"}, user=f"user-{number}"),
            self.ask("fast", {"Cache-Control": "no-store"}, path=azure),
            self.ask("fast", path=f"/v1/{number}"),
            self.ask("fast", metadata={"code": f"code-{number}", "status": "422"}),
            self.ask("up/x", metadata={"code": f"code-{number}", "status": "400"}),
        )


@pytest.fixture
async def house(gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession) -> House:
    up = await provider(whatever)
    return House(await gateway(TOML.format(up.url) + "[cache]\nenabled = true\n"), http)


async def test_names_that_clients_make_up_are_no_labels(house: House) -> None:
    """Models, keys, tags, ids, paths, users, and a provider's own codes: after a few of each there is nothing new."""
    for number in range(3):
        await house.imagine(number)
    before = await house.series()
    for number in range(3, MANY):
        await house.imagine(number)
    assert await house.series() == before
    assert len(before) < 400
    told = {value for _, labels in before for _, value in labels}
    assert not [value for value in told if any(name in value for name in ("made-up", "code-", "tag-", "key-", "m-1"))]


async def test_a_providers_statuses_are_the_few_there_are(house: House) -> None:
    """A status is a number between 400 and 499, so there are a hundred at most, whatever a provider thinks of."""
    await house.imagine(0)
    before = {labels for name, labels in await house.series() if name == "runestone_requests_total"}
    for status in (418, 499, 451):
        await house.ask("fast", metadata={"code": "odd", "status": str(status)})
        await house.ask("fast", metadata={"code": "odd", "status": str(status)})
    after = {labels for name, labels in await house.series() if name == "runestone_requests_total"}
    assert {dict(labels)["status"] for labels in after - before} == {"418", "499", "451"}
    assert len(after - before) == 3
