"""The running program: draining, and HTTPS on both sides."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from pathlib import Path

import aiohttp
import orjson
import pytest
import trustme

from tests.conftest import StartGateway, until
from tests.gateway import ENVIRON, relay
from tests.process import serve
from tests.provider import FakeProvider, Seen, Wire

ASK = {"model": "simulated", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
SLOW = '[providers.simulated.simulated]\nttft = "10ms"\ntokens_per_second = 40\n'
HANGING = "[providers.simulated.simulated]\nhang = true\n"


async def refused(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await http.get(url + "/health", headers={"Connection": "close"})
            except aiohttp.ClientConnectorError:
                return


async def test_a_running_stream_is_finished_before_the_end(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """SIGTERM stops accepting, lets the stream end as it should, and exits 0."""
    async with serve(SLOW, tmp_path) as served, http.post(served.url + "/v1/chat/completions", json=ASK) as response:
        await response.content.readline()
        served.signal(signal.SIGTERM)
        body = await response.content.read()
        assert body.endswith(b"data: [DONE]\n\n")
        assert await served.ended() == 0
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(served.url + "/health")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_outlasts_the_drain_is_told_so(
    stream: bool, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Draining has a bound: what still runs after `server.drain` hears a 503, or an error event; the exit is still
    0.
    """
    endless = '[providers.simulated.simulated]\nttft = "0ms"\ntokens_per_second = 0.01\n'
    async with serve('[server]\ndrain = "300ms"\n' + (endless if stream else HANGING), tmp_path) as served:
        asking = asyncio.ensure_future(http.post(served.url + "/v1/chat/completions", json=ASK))
        async with http.get(served.url + "/health") as health:
            assert health.status == 200
        if stream:
            await asyncio.wait((asking,))
        served.signal(signal.SIGTERM)
        before = time.monotonic()
        async with await asking as response:
            body = await response.read()
            assert response.status == (200 if stream else 503)
        error = orjson.loads(body.split(b"\n\n")[-2].removeprefix(b"data: ") if stream else body)["error"]
        assert (error["code"], error["message"]) == ("service_unavailable", "the gateway is shutting down")
        assert await served.ended() == 0
        assert time.monotonic() - before < 3


async def test_a_kept_connection_hears_of_the_drain(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Who has a connection open is told that the server goes: health is 503, and so is a new call."""
    async with serve(HANGING, tmp_path) as served:
        asking = asyncio.ensure_future(http.post(served.url + "/v1/chat/completions", json=ASK))
        async with aiohttp.ClientSession() as kept:
            async with kept.get(served.url + "/health") as health:
                assert health.status == 200
            served.signal(signal.SIGTERM)
            await refused(http, served.url)
            async with kept.get(served.url + "/health/ready") as ready:
                assert ready.status == 503
            async with kept.post(served.url + "/v1/chat/completions", json=ASK) as late:
                assert late.status == 503
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await served.ended() == 0


async def test_a_second_signal_ends_at_once(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Who asks twice does not want to wait."""
    async with serve(HANGING, tmp_path) as served:
        asking = asyncio.ensure_future(http.post(served.url + "/v1/chat/completions", json=ASK))
        async with http.get(served.url + "/health") as health:
            assert health.status == 200
        served.signal(signal.SIGINT)
        await refused(http, served.url)  # the first signal has been acted on: nothing listens any more
        served.signal(signal.SIGINT)
        assert await served.ended(2.0) == -signal.SIGINT
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking


async def test_https_is_spoken_with_a_certificate(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """With tls_cert and tls_key the server speaks HTTPS, and the banner says so."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    pem = tmp_path / "server.pem"
    toml = f'[server]\ntls_cert = "{pem}"\ntls_key = "{pem}"\n[providers.simulated]\n'
    async with serve(toml, tmp_path) as served:
        assert served.url.startswith("https://")
        async with http.get(served.url + "/health", ssl=context) as health:
            assert health.status == 200


async def test_a_providers_certificate_is_verified(
    gateway: StartGateway, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A provider whose certificate nobody vouches for is not given the credential; a trusted one is."""

    async def answer(seen: Seen, wire: Wire) -> None:
        await wire.answer({"choices": []})

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with FakeProvider(answer, tls=server) as up:
        for trusted, status in ((False, 502), (True, 200)):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            gate = await gateway(relay(up.url), ENVIRON)
            async with http.post(
                gate.url + "/v1/chat/completions", json={**ASK, "model": "m", "stream": False}
            ) as response:
                assert response.status == status
            assert len(up.requests) == int(trusted)
        await until(lambda: up.opened >= 1)
