"""Started by systemd: its sockets are used, it is told how it goes, and an upgrade is an upgrade of the service."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runestone.serving.sockets import listen
from tests.conftest import until
from tests.flows.programs import fresh, is_gone, program
from tests.serving.test_sockets import LOOPBACK

WRAPPER = """
import fcntl
import os
import sys

# systemd's part: the descriptors in a row from 3, and whose they are; then the program, in the same process
numbers = [int(number) for number in sys.argv[1].split(",")]
moved = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in numbers]
for at, number in enumerate(moved):
    os.dup2(number, 3 + at)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers))}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
TOML = 'server.port = {}\nwebsocket.port = 4999\nserver.admin_port = 0\n[log]\nlevel = "info"\n[providers.simulated]\n'


class Manager:
    """Hears what a service says, and from which process."""

    def __init__(self, place: Path) -> None:
        self.heard: list[tuple[int, dict[str, str]]] = []
        self.place = place
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(str(place))
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._hear)

    def _hear(self) -> None:
        data, control, _, _ = self._sock.recvmsg(4096, socket.CMSG_SPACE(12))
        pid, _, _ = struct.unpack("iii", control[0][2])
        self.heard.append((pid, dict(line.split("=", 1) for line in data.decode().splitlines())))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def count(self, word: str, pid: int | None = None) -> int:
        """How often that was said, by anybody or by one process."""
        return sum(word in told and pid in (None, who) for who, told in self.heard)

    async def hears(self, word: str, times: int = 1, pid: int | None = None) -> dict[str, str]:
        """The message with that word, when it was said so often."""
        await until(lambda: self.count(word, pid) >= times, 15)
        return [told for who, told in self.heard if word in told and pid in (None, who)][times - 1]


@asynccontextmanager
async def manager(folder: Path) -> AsyncIterator[Manager]:
    made = Manager(folder / "notify")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="systemd is Linux's")
async def test_a_service_is_started_reloaded_upgraded_and_stopped(tmp_path: Path) -> None:
    """Its sockets are used wherever the unit has them, before the upgrade and after it. READY; RELOADING and READY,
    whatever came of it; WATCHDOG by who is the service; after an upgrade MAINPID is the new process, and the old one
    says no more; STOPPING at the end.
    """
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(WRAPPER)
    with listen(LOOPBACK, 0) as http, listen(LOOPBACK, 0) as websocket, listen(LOOPBACK, 0) as unused:
        http.listen(), websocket.listen()
        elsewhere = unused.getsockname()[1]
        unused.close()
        urls = [f"http://{LOOPBACK}:{each.getsockname()[1]}" for each in (http, websocket)]
        before = [str(wrapper), f"{http.fileno()},{websocket.fileno()}"]
        async with manager(tmp_path) as systemd:
            environ = {"NOTIFY_SOCKET": str(systemd.place), "WATCHDOG_USEC": "5000000"}
            toml = TOML.format(elsewhere)
            async with program(toml, tmp_path, environ=environ, before=before, listeners=(http, websocket)) as served:
                http.close(), websocket.close()
                old = served.process.pid
                assert served.url == urls[0]
                await systemd.hears("READY", pid=old)
                assert systemd.count("MAINPID") == 0
                assert [await served.pid(url) for url in urls] == [old, old]
                await systemd.hears("WATCHDOG", 2, pid=old)

                served.process.send_signal(signal.SIGHUP)
                assert int((await systemd.hears("RELOADING"))["MONOTONIC_USEC"]) > 0
                await systemd.hears("READY", 2)
                served.file.write_text("nothing = 1\n")
                served.process.send_signal(signal.SIGHUP)
                await systemd.hears("RELOADING", 2)
                assert "refused" in (await systemd.hears("READY", 3))["STATUS"]
                served.process.send_signal(signal.SIGUSR2)
                assert "failed" in (await systemd.hears("READY", 4))["STATUS"]

                served.file.write_text(toml)
                served.process.send_signal(signal.SIGUSR2)
                new = await served.replaced()
                assert await systemd.hears("MAINPID", pid=new) == {
                    "READY": "1",
                    "MAINPID": str(new),
                    "STATUS": f"serves on {urls[0]}",
                }
                assert await served.ended() == 0
                last = systemd.count("READY", old), systemd.count("WATCHDOG", old)
                assert [await served.pid(url) for url in urls] == [new, new]
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(LOOPBACK, elsewhere)
                await systemd.hears("WATCHDOG", 3, pid=new)
                assert (systemd.count("READY", old), systemd.count("WATCHDOG", old)) == last

                async with fresh() as client, client.get(urls[0] + "/health") as response:
                    assert response.status == 200
                os.kill(new, signal.SIGTERM)
                await systemd.hears("STOPPING", pid=new)
                assert systemd.count("STOPPING", old) == 0
                await until(lambda: is_gone(new))
                assert "Traceback" not in served.said
