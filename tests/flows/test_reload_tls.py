"""Certificates that change while the server runs: the next handshake sees the new one, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from runestone.errors import ConfigurationError
from tests.flows.reloading import ROOT, TOP, Reloadable, keys, reloadable

SIMULATED = '[providers.simulated.simulated]\nttft = "0ms"\ntokens_per_second = 20\n'
TLS = 'server.tls_cert = "cert.pem"\nserver.tls_key = "key.pem"\n'
ASK = {"model": "simulated", "stream": True, "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


def issue(folder: Path, key_type: trustme.KeyType = trustme.KeyType.ECDSA, days: int = 1) -> ssl.SSLContext:
    """Puts another authority's certificate in place; what trusts that one alone."""
    authority = trustme.CA(key_type=key_type)
    issued = authority.issue_cert("127.0.0.1", "localhost", key_type=key_type)
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def secure(folder: Path, key_type: trustme.KeyType) -> AsyncIterator[tuple[Reloadable, ssl.SSLContext]]:
    trusting = issue(folder, key_type)
    async with reloadable(TLS + TOP + SIMULATED + keys(), folder) as gate:
        assert gate.url.startswith("https://")
        yield gate, trusting


async def is_trusted(gate: Reloadable, context: ssl.SSLContext) -> bool:
    """Whether a fresh handshake shows a certificate that `context` trusts."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, force_close=True)) as http:
        try:
            async with http.get(gate.url + "/health") as response:
                return response.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


RSA, ECDSA = trustme.KeyType.RSA, trustme.KeyType.ECDSA


@pytest.mark.parametrize(("before", "after"), [(ECDSA, ECDSA), (RSA, ECDSA), (ECDSA, RSA)])
async def test_the_next_handshake_sees_the_new_certificate(
    before: trustme.KeyType, after: trustme.KeyType, tmp_path: Path
) -> None:
    """Whatever kind of key the old one had, whatever the client can do: it is gone. A stream that runs, and a
    connection that is kept, go on.
    """
    async with secure(tmp_path, before) as (gate, old), aiohttp.ClientSession() as http:
        async with http.post(gate.url + "/v1/chat/completions", json=ASK, ssl=old) as response:
            await response.content.readuntil(b"\n\n")
            new = issue(tmp_path, after)
            assert (await gate.reload())["changed"] == []
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        async with http.get(gate.url + "/health", ssl=old) as response:
            assert response.status == 200  # over the connection of before
        assert await is_trusted(gate, new)
        assert not await is_trusted(gate, old)
        for ciphers in ("ECDHE+aECDSA", "ECDHE+aRSA"):
            shown = await asyncio.to_thread(certificate, gate, ciphers)
            assert shown in (None, ssl.PEM_cert_to_DER_cert((tmp_path / "cert.pem").read_text()))


def certificate(gate: Reloadable, ciphers: str) -> bytes | None:
    """What a client with no more than these ciphers is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with socket.create_connection(("127.0.0.1", int(gate.url.rpartition(":")[2])), timeout=5) as sock:
        try:
            with context.wrap_socket(sock) as secured:
                return secured.getpeercert(binary_form=True)
        except ssl.SSLError:
            return None


async def test_half_of_a_pair_is_refused_and_the_old_one_goes_on(tmp_path: Path) -> None:
    """Who has written the certificate and not yet its key is told so, handshakes go on as before; then both are
    there.
    """
    async with secure(tmp_path, ECDSA) as (gate, old):
        key = (tmp_path / "key.pem").read_bytes()
        new = issue(tmp_path)
        right = (tmp_path / "key.pem").read_bytes()
        (tmp_path / "key.pem").write_bytes(key)
        with pytest.raises(ConfigurationError, match="are not a certificate and its key"):
            await gate.reload()
        assert await is_trusted(gate, old)
        (tmp_path / "key.pem").write_bytes(right)
        await gate.reload()
        assert await is_trusted(gate, new)


async def test_a_certificate_that_is_gone_behind_the_check_changes_nothing(
    tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are good when the configuration is read, and are not when they are taken: refused as a whole, with
    nothing half done.
    """
    async with secure(tmp_path, ECDSA) as (gate, old):
        before, read = gate.app, gate.read

        def spoiled() -> object:
            configuration = read()
            (tmp_path / "cert.pem").write_text("nothing")
            return configuration

        monkeypatch.setattr(gate, "read", spoiled)
        gate.file.write_text(gate.file.read_text() + "[aliases]\nother = 'simulated'\n")
        async with http.post(gate.url + "/admin/reload", headers=ROOT, ssl=old) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_configuration")
        assert gate.app is before
        assert gate.app.lasting.reloads.generation == 1
        async with http.post(
            gate.url + "/v1/chat/completions", json={**ASK, "model": "other"}, headers=ROOT, ssl=old
        ) as response:
            assert response.status == 404
        assert await is_trusted(gate, old)


async def test_https_cannot_be_turned_on_or_off(tmp_path: Path) -> None:
    """It takes a new process, which is said; what was spoken is spoken on."""
    async with secure(tmp_path, ECDSA) as (gate, old):
        told = await gate.reload(TOP + SIMULATED + keys())
        assert told["needs_restart"] == ["server.tls_cert"]
        assert await is_trusted(gate, old)
    async with reloadable(TOP + SIMULATED, tmp_path) as gate:
        assert (await gate.reload(TLS + TOP + SIMULATED))["needs_restart"] == ["server.tls_cert"]
        async with aiohttp.ClientSession() as http, http.get(gate.url + "/health") as response:
            assert response.status == 200
