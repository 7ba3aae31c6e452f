"""The one-file program on a machine without Python. `make test-binary` says where it is; nothing here runs without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binary.machine import ROOT, Machine, Server

NAMED = "RUNESTONE_BINARY"
MIDDLEWARE = Path(__file__).parent / "probe.py"
PROBED = """
[providers.simulated]
[cache]
enabled = false
[pipelines]
default = ["meter", "access", "limits", "probe:probe", "..."]
[[auth.keys]]
name = "ops"
key = "env:OPS"
admin = true
"""
OPS = "rs-" + "o" * 43


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if NAMED not in os.environ:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="the one-file program: make binary test-binary"))


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    program = ROOT / os.environ[NAMED]
    assert program.is_file(), f"{program} is not there: make binary"
    return Machine(program, tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def server(machine: Machine) -> Iterator[Server]:
    """A gateway with the middleware of probe.py beside its configuration."""
    machine.write("etc/runestone/runestone.toml", PROBED)
    machine.write("etc/runestone/probe.py", MIDDLEWARE.read_text())
    machine.link("usr/bin/gateway")
    with machine.serve(config="etc/runestone/runestone.toml", name="usr/bin/gateway", environ={"OPS": OPS}) as running:
        yield running
