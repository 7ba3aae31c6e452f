"""Listeners: bound here, handed over by a process before, or systemd's; each is what it should be, or not there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runestone.config.load import load
from runestone.config.schema import Configuration
from runestone.serving import sockets
from runestone.serving.sockets import HANDED_OVER, Listeners, address_of, handed_on, listen, listeners_of

LOOPBACK = "127.0.0.1"


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """Sockets that are closed at the end."""
    kept: list[socket.socket] = []
    yield kept
    for each in kept:
        each.close()


def configured(folder: Path, toml: str) -> Configuration:
    file = folder / "runestone.toml"
    file.write_text(f"{toml}\n[providers.simulated]\n")
    return load(file, {})


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def free(opened: list[socket.socket]) -> int:
    """A port nobody has now."""
    with socket.socket() as there:
        there.bind((LOOPBACK, 0))
        return port_of(there)


def served(folder: Path, opened: list[socket.socket], toml: str, environ: dict[str, str] | None = None) -> Listeners:
    listeners = listeners_of(configured(folder, toml), environ or {})
    opened += listeners.values()
    return listeners


def test_they_are_bound_as_configured(tmp_path: Path, opened: list[socket.socket]) -> None:
    """One, or two, or three; 0 is any port; nobody listens yet; no child inherits them."""
    port = free(opened)
    for toml, names in (
        (f"server.port = {port}\nwebsocket.port = 0", ["http"]),
        ("server.port = 0\nwebsocket.enabled = false", ["http"]),
        (f"server.port = 0\nserver.admin_port = 0\nwebsocket.port = {port}", ["http", "websocket", "admin"]),
    ):
        listeners = served(tmp_path, opened, toml)
        assert list(listeners) == names
        assert port in map(port_of, listeners.values()) or "false" in toml
        for listener in listeners.values():
            assert listener.getsockname()[0] == LOOPBACK
            assert not listener.get_inheritable()
            assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            listener.close()


def test_the_usual_second_port_may_be_taken_and_others_may_not(
    tmp_path: Path, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for a port is told that it is taken, and nothing stays open; nobody asked for 4005."""
    taken = listen(LOOPBACK, 0)
    taken.listen()
    opened.append(taken)
    monkeypatch.setattr(sockets, "USUAL", port_of(taken))
    assert list(served(tmp_path, opened, "server.port = 0")) == ["http"]
    before = len(os.listdir("/proc/self/fd"))
    for toml in (
        f"server.port = {port_of(taken)}",
        f"server.port = 0\nwebsocket.port = {port_of(taken)}",
        f"server.port = 0\nwebsocket.port = 0\nserver.admin_port = {port_of(taken)}",
    ):
        with pytest.raises(OSError, match="in use"):
            listeners_of(configured(tmp_path, toml), {})
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_address_is_written_as_a_url_has_it(opened: list[socket.socket]) -> None:
    """Brackets around an IPv6 address."""
    opened.append(listen(LOOPBACK, 0))
    assert address_of(opened[0]) == f"127.0.0.1:{port_of(opened[0])}"
    if socket.has_ipv6:
        try:
            opened.append(listen("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        assert address_of(opened[1]) == f"[::1]:{port_of(opened[1])}"


def handed(listeners: Listeners, environ: dict[str, str]) -> dict[str, str]:
    """The environment of the next process, which has descriptors of its own for the same sockets."""
    copies = {name: listener.dup() for name, listener in listeners.items()}
    told = handed_on(copies, environ)
    for copy in copies.values():
        os.set_inheritable(copy.detach(), True)
    return {HANDED_OVER: told}


def test_what_was_handed_over_is_used_where_it_belongs(tmp_path: Path, opened: list[socket.socket]) -> None:
    """The socket for the same address, or for any port; for another address a new one, and the old one is closed."""
    given = listen(LOOPBACK, 0)
    number, port = given.fileno(), port_of(given)
    for wanted, is_same in ((str(port), True), ("0", True), (str(free(opened)), False)):
        there = os.dup(number)
        told = {HANDED_OVER: f"http={there}"}
        listeners = served(tmp_path, opened, f"server.port = {wanted}\nwebsocket.port = 0", told)
        assert (port_of(listeners["http"]) == port) is is_same
        assert (listeners["http"].fileno() == there) is is_same
        if not is_same:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(there)
            assert port_of(listeners["http"]) == int(wanted)
    given.close()
    given = listen("127.0.0.2", 0)
    told = {HANDED_OVER: f"http={given.detach()}"}
    listeners = served(tmp_path, opened, "server.port = 0\nwebsocket.port = 0", told)
    assert listeners["http"].getsockname()[0] == LOOPBACK


def test_all_of_them_are_handed_over(tmp_path: Path, opened: list[socket.socket]) -> None:
    """By their names; one that is no longer wanted is closed, and one that is new is bound."""
    before = served(tmp_path, opened, f"server.port = 0\nserver.admin_port = 0\nwebsocket.port = {free(opened)}")
    ports = {name: port_of(listener) for name, listener in before.items()}
    toml = f"server.port = 0\nserver.admin_port = 0\nwebsocket.port = {ports['websocket']}"
    after = served(tmp_path, opened, toml, handed(before, {}))
    assert {name: port_of(listener) for name, listener in after.items()} == ports
    assert not any(listener.get_inheritable() for listener in after.values())
    files = len(os.listdir("/proc/self/fd"))
    fewer = served(tmp_path, opened, "server.port = 0\nwebsocket.port = 0", handed(before, {}))
    assert {name: port_of(listener) for name, listener in fewer.items()} == {"http": ports["http"]}
    assert len(os.listdir("/proc/self/fd")) == files + 1
    more = served(tmp_path, opened, "server.port = 0\nserver.admin_port = 0\nwebsocket.port = 0", handed(fewer, {}))
    assert (list(more), port_of(more["http"])) == (["http", "admin"], ports["http"])


class Systemd:
    """Descriptors in a row, as systemd leaves them behind for the process it starts."""

    FIRST = 700

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        monkeypatch.setattr(sockets, "FIRST", self.FIRST)
        self.ports = []
        for number in range(self.FIRST, self.FIRST + count):
            with listen(LOOPBACK, 0) as there:
                there.listen()
                os.dup2(there.fileno(), number, inheritable=True)
                self.ports.append(port_of(there))
        self.environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}

    def close(self) -> None:
        for number in range(self.FIRST, self.FIRST + len(self.ports)):
            try:
                os.close(number)
            except OSError:
                continue


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """Three of them."""
    given = Systemd(monkeypatch, 3)
    yield given
    given.close()


ELSEWHERE = "server.port = 4100\nserver.admin_port = 4101\nwebsocket.port = 4102"


@pytest.mark.parametrize("names", [None, "runestone.socket:a:b", "http:websocket:admin", "admin:http:websocket"])
def test_those_of_systemd_are_used_wherever_they_are(
    names: str | None, tmp_path: Path, systemd: Systemd, opened: list[socket.socket]
) -> None:
    """By our names where they have those, else in our order; the unit says where, whatever the file does."""
    if names is not None:
        systemd.environ["LISTEN_FDNAMES"] = names
    listeners = served(tmp_path, opened, ELSEWHERE, systemd.environ)
    usual = ["http", "websocket", "admin"]
    order = names.split(":") if names is not None and "runestone" not in names else usual
    assert {name: port_of(listener) for name, listener in listeners.items()} == dict(
        zip(order, systemd.ports, strict=True)
    )
    assert not any(listener.get_inheritable() for listener in listeners.values())


def test_sockets_for_somebody_else_are_left_alone(
    tmp_path: Path, systemd: Systemd, opened: list[socket.socket]
) -> None:
    """What systemd left for another process (LISTEN_PID) is not ours."""
    systemd.environ["LISTEN_PID"] = "1" if os.getppid() != 1 else "2"
    listeners = served(tmp_path, opened, "server.port = 0\nwebsocket.port = 0", systemd.environ)
    assert port_of(listeners["http"]) not in systemd.ports


def test_beside_those_of_systemd_only_what_was_asked_for_is_bound(
    tmp_path: Path, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit with one socket is one listener: the usual second port is not opened behind the unit's back; a port that
    the file names is.
    """
    given = Systemd(monkeypatch, 1)
    monkeypatch.setattr(sockets, "USUAL", free(opened))
    listeners = served(tmp_path, opened, "server.port = 4100", given.environ)
    assert list(listeners) == ["http"]
    listeners["http"].detach()
    asked = free(opened)
    listeners = served(tmp_path, opened, f"server.port = 4100\nserver.admin_port = {asked}", given.environ)
    assert {name: port_of(listener) for name, listener in listeners.items()} == {"http": given.ports[0], "admin": asked}
    listeners["http"].detach()
    given.close()


def test_those_of_systemd_go_on_to_the_next_process_wherever_they_are(
    tmp_path: Path, systemd: Systemd, opened: list[socket.socket]
) -> None:
    """An upgrade, and one more after it: the unit still says where they are, whatever the file does; of the others the
    file says it.
    """
    systemd.environ |= {"LISTEN_FDS": "2"}
    listeners = served(tmp_path, opened, ELSEWHERE.replace("4101", "0"), systemd.environ)
    before = {name: port_of(listener) for name, listener in listeners.items()}
    environ = systemd.environ
    for _ in range(2):
        environ = handed(listeners, environ)
        moved = free(opened)
        listeners = served(tmp_path, opened, ELSEWHERE.replace("4101", str(moved)), environ)
        assert {name: port_of(listener) for name, listener in listeners.items()} == {**before, "admin": moved}
