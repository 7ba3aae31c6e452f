"""deploy/systemd, judged by systemd's own tools, and by what the program expects of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runestone.config.schema import Configuration

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = ("runestone.service", "runestone@.service")
SOCKETS = {"runestone.socket": "http", "runestone-websocket.socket": "websocket", "runestone-admin.socket": "admin"}
PROGRAM = "/usr/local/bin/runestone"
EXPOSURE = 12
"""Tenths. What is left, and why:
0.5 the host's network, 0.3 IP sockets: it is a server, and its providers are anywhere
0.2 no list of addresses: providers are known by name (a list is an operator's to add: IPAddressDeny=, IPAddressAllow=)
0.2 NotifyAccess=all: see the unit
0.1 AF_UNIX: readiness is told through it
0.1 /proc beyond processes: without /proc/stat, `process_*` of /metrics are gone
0.1 char-rtc, which ProtectClock= itself leaves readable; 0.1 no RootDirectory=
"""

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: apt-get install systemd)"
)


def analyze(*arguments: str) -> tuple[int, str]:
    """(exit code, everything it printed)."""
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def directives(file: str) -> list[tuple[str, str]]:
    """What a unit says, in its order; without sections."""
    lines = (UNITS / file).read_text().splitlines()
    said = [line.partition("=") for line in lines if re.match(r"[A-Z]\w*=", line)]
    return [(name, value) for name, _, value in said]


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    """The units, with a program that is there on every machine."""
    for file in (*SERVICES, *SOCKETS):
        text = (UNITS / file).read_text()
        assert file in SOCKETS or text.count(f"={PROGRAM} ") == 1
        (tmp_path / file).write_text(text.replace(f"={PROGRAM} ", f"={sys.executable} "))
    return tmp_path


@needs_analyze
def test_every_unit_is_clean(placed: Path) -> None:
    """No unknown word, no missing unit, not a single remark."""
    files = [str(placed / file) for file in (*SERVICES, *SOCKETS)]
    assert analyze("verify", "--man=no", "--recursive-errors=no", *files) == (0, "")


@needs_analyze
def test_a_mistake_is_seen(placed: Path) -> None:
    """The check above can fail."""
    file = placed / "runestone.service"
    file.write_text(file.read_text().replace("WatchdogSec=", "WatchDogSec="))
    _, said = analyze("verify", "--man=no", "--recursive-errors=no", str(file))
    assert "Unknown key name 'WatchDogSec'" in said or "Unknown key 'WatchDogSec'" in said


@needs_analyze
@pytest.mark.parametrize("file", SERVICES)
def test_little_is_exposed(file: str, tmp_path: Path) -> None:
    """As little as a server can that talks to anybody; and one line less is seen."""
    code, said = analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager", str(UNITS / file))
    assert code == 0, said
    (tmp_path / file).write_text((UNITS / file).read_text().replace("ProtectHome=yes\n", ""))
    code, _ = analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager", str(tmp_path / file))
    assert code != 0


def test_instances_are_kept_as_the_one_is() -> None:
    """The template says what the service says, but for its ports, its sockets and where it keeps things."""
    one, each = (set(directives(file)) for file in SERVICES)
    names = {name for name, _ in one ^ each}
    assert names == {"Description", "ExecStart", "Sockets", "StateDirectory", "BindPaths", "Also"}
    (start,) = [value for name, value in each if name == "ExecStart"]
    assert start.endswith("--host 127.0.0.1 --port %i")


def test_sockets_are_named_as_the_program_knows_them() -> None:
    """Each has the name of its listener, belongs to the service, and is loopback's unless somebody says otherwise."""
    for file, name in SOCKETS.items():
        said = dict(directives(file))
        assert said["FileDescriptorName"] == name
        assert said.get("Service", file.replace(".socket", ".service")) == "runestone.service"
        assert said["ListenStream"].startswith("127.0.0.1:")
    configuration = Configuration()
    assert dict(directives("runestone.socket"))["ListenStream"] == f"127.0.0.1:{configuration.server.port}"


@pytest.mark.parametrize("file", SERVICES)
def test_the_service_is_as_patient_as_the_program(file: str) -> None:
    """A drain is over before systemd's patience is; only the main process hears the signal, because a second one ends
    a drain; wrong usage is not tried again, everything else for ever.
    """
    said = dict(directives(file))
    assert int(said["TimeoutStopSec"]) >= Configuration().server.drain + 10
    assert said["KillMode"] == "mixed"
    assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (said["Restart"], said["RestartPreventExitStatus"], said["StartLimitIntervalSec"]) == (
        "on-failure",
        "2",
        "0",
    )
    assert (said["Type"], said["NotifyAccess"]) == ("notify", "all")
    assert int(said["WatchdogSec"]) > Configuration().server.stuck_after
    assert said["LimitCORE"] == "0"


@pytest.mark.parametrize("file", SERVICES)
def test_no_secret_is_in_a_unit(file: str) -> None:
    """Everybody on a machine can read units, and the environment they set."""
    said = directives(file)
    assert not {"Environment", "EnvironmentFile", "SetCredential", "PassEnvironment"} & {name for name, _ in said}
    assert ("LoadCredential", "secret:/etc/runestone/secrets") in said
    assert ("BindReadOnlyPaths", "%d:/run/secrets") in said
