"""A configuration that cannot be served changes nothing, says why, and gives nothing away."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from runestone.errors import ConfigurationError
from tests.conftest import until
from tests.flows.drill import ANSWER
from tests.flows.reloading import ENVIRON, ROOT, TOP, UNSAVED, chat, keys, provider, reloadable
from tests.provider import FakeProvider, Seen, Wire

SECRET = "sk-literal-secret-0123456789"
IMPORTS = "module-secret-0123456789"


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the configuration is, and modules beside it, as `runestone serve` finds them."""
    sys.path.append(str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


Spoil = Callable[[str, Path], str | bytes | None]


def stages(name: str) -> Spoil:
    return lambda base, _: f'{base}[pipelines]\ndefault = ["meter", "{name}", "..."]\n'


def module(source: str, name: str) -> Spoil:
    def spoil(base: str, folder: Path) -> str | bytes | None:
        (folder / f"{name}.py").write_text(source)
        return stages(f"{name}:stage")(base, folder)

    return spoil


def certificate(first: str, second: str, *, of_two: bool = False) -> Spoil:
    """With `tls_cert` and `tls_key` like these; `of_two`: the one does not belong to the other."""

    def spoil(base: str, folder: Path) -> str:
        issued = [trustme.CA().issue_cert("127.0.0.1") for _ in range(2)]
        issued[0].private_key_and_cert_chain_pem.write_to_path(folder / "good.pem")
        (folder / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nnone\n")
        issued[of_two].private_key_pem.write_to_path(folder / "key.pem")
        return f'server.tls_cert = "{first}"\nserver.tls_key = "{second}"\n{base}'

    return spoil


BAD: dict[str, tuple[Spoil, str]] = {
    "not TOML": (lambda base, _: base + "[[[", "is not TOML"),
    "not text": (lambda base, _: base.encode() + b"\xff\xfe", "is not TOML"),
    "an unknown key": (
        lambda base, _: base + "[server]\nhots = 'x'\n",
        "server.hots: unknown key, did you mean 'host'?",
    ),
    "a wrong type": (lambda base, _: f"server.drain = 30\n{base}", "server.drain"),
    "no such variable": (lambda base, _: base.replace("UP_KEY", "NOT_SET"), "NOT_SET is not set"),
    "a secret as it is": (lambda base, _: base.replace("env:UP_KEY", SECRET), "must be a reference"),
    "no such secret file": (lambda base, folder: base.replace("env:UP_KEY", f"file:{folder}/none"), "cannot be read"),
    "no such provider": (lambda base, _: base + "[models.m]\ntargets = ['upp/m']\n", "did you mean 'up'?"),
    "no such module": (stages("not_there_at_all:stage"), "'not_there_at_all:stage' cannot be found"),
    "no such attribute": (stages("json:stage"), "'json:stage' cannot be found"),
    "no function": (module("stage = 1\n", "spoilt_value"), "is no function"),
    "no Python": (module(f"stage = (  # {IMPORTS}\n", "spoilt_syntax"), "'spoilt_syntax:stage' cannot be"),
    "a module that fails": (
        module(f"raise RuntimeError('{IMPORTS}')\n", "spoilt_module"),
        "'spoilt_module:stage' cannot be",
    ),
    "a module with a bad value": (module(f"int('{IMPORTS}')\n", "spoilt_number"), "'spoilt_number:stage' cannot be"),
    "a module that imports wrongly": (module("from tests.provider import none\n", "spoilt_import"), "cannot be"),
    "a module that exits": (module("raise SystemExit(3)\n", "spoilt_exit"), "'spoilt_exit:stage' cannot be"),
    "a certificate that is none": (certificate("bad.pem", "bad.pem"), "are not a certificate and its key"),
    "another certificate's key": (certificate("good.pem", "key.pem", of_two=True), "are not a certificate and its key"),
    "no such certificate": (certificate("none.pem", "none.pem"), "cannot be read"),
    "a certificate's name that is none": (certificate("\\u0000", "\\u0000"), "server.tls_cert"),
    "no file": (lambda base, _: None, "cannot be read: No such file"),
}


@pytest.mark.parametrize(("spoil", "fault"), BAD.values(), ids=BAD.keys())
async def test_a_bad_file_changes_nothing(
    spoil: Spoil, fault: str, http: aiohttp.ClientSession, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for over HTTP it is a 400 with the faults, asked for by a signal it is in the log; /health is degraded and
    says so, it is counted, and calls go on as before. No secret, and no path, is in any of it. The next good file mends
    it.
    """
    caplog.set_level(logging.INFO)
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys() + UNSAVED
        async with reloadable(base, folder) as gate:
            before = gate.app
            spoilt = spoil(base, folder)
            if spoilt is None:
                gate.file.unlink()
            else:
                gate.file.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
            async with http.post(gate.url + "/admin/reload", headers=ROOT) as response:
                told = await response.text()
                assert response.status == 400, told
                error = (await response.json())["error"]
            assert error["code"] == "bad_configuration"
            assert "nothing has changed" in error["message"]
            assert fault in error["message"]
            over = asyncio.Event()
            gate.reloader.ask(over.set)
            await asyncio.wait_for(over.wait(), 5)
            logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
            assert sum(fault in line for line in logged) == 2
            assert gate.app is before
            assert (await chat(http, gate))[0] == 200
            async with http.get(gate.url + "/health") as response:
                health = await response.json()
                assert (response.status, health["status"]) == (200, "degraded")
                problem = health["checks"]["configuration"]["problems"][0]
                assert "refused" in problem
            async with http.get(gate.url + "/metrics") as response:
                lines = (await response.text()).splitlines()
                assert 'runestone_reloads_total{result="refused"} 2.0' in lines
                assert "runestone_config_generation 1.0" in lines
            for private in (SECRET, *ENVIRON.values()):
                assert private not in told + problem + caplog.text, private
            for private in (IMPORTS, str(folder)):
                assert private not in told + problem + "".join(logged), private
            assert (await gate.reload(base + "[models.new]\ntargets = ['up/x']\n"))["generation"] == 2
            async with http.get(gate.url + "/health") as response:
                assert (await response.json())["checks"]["configuration"] == {"status": "ok"}
            await gate.retired()


async def test_what_is_half_open_is_closed_again(
    http: aiohttp.ClientSession, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration that fails when its providers are opened leaves none of them open, and the old one serves."""
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys() + UNSAVED
        async with reloadable(base, folder) as gate:
            opened = []

            async def start(self: object) -> None:
                opened.append(gate)
                raise ConfigurationError(["runestone.toml:telemetry: an extra is missing"])

            monkeypatch.setattr("runestone.wiring.telemetry.Following.start", start)
            changed = base + provider("more", up.url) + "[telemetry]\nexporters = ['console']\n"
            for _ in range(2):
                with pytest.raises(ConfigurationError, match="an extra is missing"):
                    await gate.reload(changed)
            assert len(opened) == 2
            assert (await chat(http, gate))[0] == 200
            assert up.opened == 1


async def test_a_fault_of_ours_is_one_in_everybodys_eyes(
    http: aiohttp.ClientSession, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reload that fails as none should is a 500, is logged with its traceback, counted and told by /health; the one
    before is in force, and the next reload works.
    """
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys() + UNSAVED
        async with reloadable(base, folder) as gate:
            with monkeypatch.context() as patch:
                patch.setattr("runestone.reload.build", lambda *_: 1 / 0)
                async with http.post(gate.url + "/admin/reload", headers=ROOT) as response:
                    assert response.status == 500
                over = asyncio.Event()
                gate.reloader.ask(over.set)
                await asyncio.wait_for(over.wait(), 5)
            assert caplog.text.count("ZeroDivisionError") == 2
            assert (await chat(http, gate))[0] == 200
            async with http.get(gate.url + "/health") as response:
                assert (await response.json())["checks"]["configuration"]["status"] == "degraded"
            assert gate.app.lasting.reloads.refused == 2
            await gate.reload()
            assert gate.app.lasting.reloads.refusal == ""
            await until(lambda: not gate.retiring)
