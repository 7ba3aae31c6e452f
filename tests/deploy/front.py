"""The real nginx (Debian: nginx-light), running deploy/nginx/runestone.conf on loopback.

Of the file only what names a machine is replaced: ports, the certificate, where the instances are. Everything else is
what an operator would copy.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

CONF = Path(__file__).parents[2] / "deploy" / "nginx" / "runestone.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
MOST = "20000000"
"""Bytes of a body, as the file says it: for nginx, and in the refusals."""
NAME = "llm.example.com"
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("127.0.0.1", NAME)

needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: apt-get install nginx-light)")

_AROUND = """
daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    include {folder}/runestone.conf;
}}
"""


@dataclass
class Front:
    """`url` is https and has no path; `tls` trusts it; `folder` holds what it has written."""

    url: str
    tls: ssl.SSLContext
    folder: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def front(ports: Sequence[int], folder: Path, most: int | None = None) -> AsyncIterator[Front]:
    """nginx before the instances at these two ports; ended with the block. A body of `most` bytes, else as the file
    says.
    """
    CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(str(folder / "chain.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = _placed(CONF.read_text(), port, ports, folder)
    (folder / "runestone.conf").write_text(text if most is None else text.replace(MOST, str(most)))
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder))
    assert NGINX is not None
    command = (NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    said = asyncio.create_task(process.stderr.read())
    try:
        await _up(port, process, said)
        tls = ssl.create_default_context()
        AUTHORITY.configure_trust(tls)
        yield Front(f"https://127.0.0.1:{port}", tls, folder)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(10):
            await process.wait()
            await said


def _placed(text: str, port: int, ports: Sequence[int], folder: Path) -> str:
    """The file with this machine's names in it."""
    one, two = ports
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("listen [::]:443 ssl;", ""),
        ("/etc/ssl/runestone/fullchain.pem", str(folder / "chain.pem")),
        ("/etc/ssl/runestone/privkey.pem", str(folder / "chain.pem")),
        ("server 127.0.0.1:4101 ", f"server 127.0.0.1:{one} "),
        ("server 127.0.0.1:4102 ", f"server 127.0.0.1:{two} "),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


async def _up(port: int, process: asyncio.subprocess.Process, said: asyncio.Task[bytes]) -> None:
    """Until it takes connections."""
    async with asyncio.timeout(10):
        while True:
            assert process.returncode is None, (await said).decode()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
