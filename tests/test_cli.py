"""The commands, as a person or a supervisor runs them: what is printed where, and the exit code."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runestone import __version__
from runestone.cli import main
from runestone.config.load import load

ROOT = Path(__file__).resolve().parents[1]
QUIET = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_TOKEN"))}
FAULTY = """
[server]
port = 99999
hots = "0.0.0.0"
[providers.openai]
api_keys = ["sk-literal"]
"""
LITERAL = 'must be a reference, "env:NAME" or "file:PATH": a secret is never written here'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no provider's key in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - QUIET.keys():
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runestone", *arguments],
        cwd=folder,
        env={**QUIET, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and the address of its banner."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runestone", "serve", *arguments],
        cwd=folder,
        env={**QUIET, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            banner = process.stderr.readline()
            address = re.search(r"serves on (http://\S+)", banner)
            assert address, banner + process.stderr.read()
            yield process, address[1]
        finally:
            process.kill()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_version_names_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    """What an issue report needs, one a line."""
    assert main(["version"]) == 0
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["runestone", "python", "aiohttp", "uvloop"]
    assert (lines["runestone"], lines["python"]) == (__version__, platform.python_version())


def test_the_module_is_the_same_program(folder: Path) -> None:
    """`python -m runestone` runs, and prints nothing but what was asked for."""
    finished = run("version", folder=folder)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith(f"runestone {__version__}\n")


def test_check_prints_a_configuration_that_can_be_loaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The effective configuration is TOML on stdout, and means what was checked."""
    (folder / "runestone.toml").write_text('[server]\nport = 1234\n[aliases]\ngpt-4 = "simulated"\n')
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    (folder / "printed.toml").write_text(out)
    assert err == ""
    assert load(folder / "printed.toml", {}) == load(folder / "runestone.toml", {})


def test_check_never_prints_a_secret(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output can be pasted into an issue."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-s3cret")
    assert main(["check"]) == 0
    out, _ = capsys.readouterr()
    assert "env:OPENAI_API_KEY" in out
    assert "s3cret" not in out


def test_check_lists_every_fault_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`file:section.key: what is wrong`, all of them, exit code 2, nothing on stdout."""
    (folder / "g.toml").write_text(FAULTY)
    assert main(["check", "--config", "g.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "g.toml:server.hots: unknown key, did you mean 'host'?",
        "g.toml:server.port: must be a port, 0 to 65535",
        f"g.toml:providers.openai.api_keys[0]: {LITERAL}",
    ]


@pytest.mark.parametrize("command", ["check", "models", "serve"])
def test_every_command_refuses_a_faulty_configuration(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same lines and the same exit code, before anything is done."""
    (folder / "g.toml").write_text(FAULTY)
    assert main([command, "--config", "g.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize("command", ["check", "models", "serve"])
def test_a_missing_file_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was named must be there; the environment does not stand in for it."""
    assert main([command, "--config", "none.toml"]) == 2
    assert capsys.readouterr() == ("", "none.toml: cannot be read: No such file or directory\n")


def test_a_faulty_configuration_as_a_process(folder: Path) -> None:
    """The exit code and the lines reach the shell, without a traceback."""
    (folder / "runestone.toml").write_text(FAULTY)
    finished = run("check", folder=folder)
    assert (finished.returncode, finished.stdout, len(finished.stderr.splitlines())) == (2, "", 3)


def test_models_shows_where_each_name_goes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, aliases, patterns and the open end of each provider, with the targets in order."""
    (folder / "runestone.toml").write_text(
        """
        [providers.ollama]
        models = ["llama3", "qwen*"]
        [providers.simulated]
        [models.fast]
        targets = ["ollama/llama3", "simulated/simulated"]
        [aliases]
        gpt-4 = "fast"
        """
    )
    assert main(["models"]) == 0
    rows = [re.split(r"\s+->\s+", line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["llama3", "ollama/llama3"],
        ["simulated", "simulated/simulated"],
        ["fast", "ollama/llama3, simulated/simulated"],
        ["gpt-4", "ollama/llama3, simulated/simulated"],
        ["qwen*", "ollama/*"],
        ["ollama/*", "ollama/*"],
    ]


def printed_key(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(["keys", "new", *arguments]) == 0
    key, _, block = capsys.readouterr().out.partition("\n")
    return key, block


def test_a_new_key_is_printed_with_its_digest(capsys: pytest.CaptureFixture[str]) -> None:
    """The key once, and a block that holds its SHA-256 only."""
    key, block = printed_key(capsys)
    (listed,) = tomllib.loads(block)["auth"]["keys"]
    assert listed == {"name": "my-app", "sha256": hashlib.sha256(key.encode()).hexdigest()}
    assert key not in block


def test_a_new_key_may_be_an_admins(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines say so."""
    _, block = printed_key(capsys, "--admin")
    (listed,) = tomllib.loads(block)["auth"]["keys"]
    assert listed["admin"] is True


@pytest.mark.parametrize("name", ["billing", 'quo"te\\', "two\nlines", "日本", "tab\t", "]]"])
def test_the_printed_block_can_be_pasted(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the name, the lines load, and the key is the one they list."""
    _, block = printed_key(capsys, "--name", name)
    (folder / "g.toml").write_text(f"[auth]\nrequired = true\n{block}", encoding="utf-8")
    (listed,) = load(folder / "g.toml", {}).auth.keys
    assert listed.name == "".join(sign for sign in name if sign.isprintable())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["keys"],
        ["serve", "--port", "abc"],
        ["serve", "--port", "65536"],
        ["serve", "--log-level", "loud"],
        ["version", "--config", "x"],
    ],
)
def test_bad_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The usage and one line that says what is wrong, on stderr, in words of the program's user."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert re.search(r"^runestone.*: error: ", err, re.MULTILINE)
    assert "_port" not in err


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["keys", "new", "--help"]])
def test_help_is_an_answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to stdout with exit code 0."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: runestone")


def test_a_port_in_use_is_one_line(taken: int, folder: Path) -> None:
    """Exit code 1, which port and why, no traceback."""
    finished = run("serve", "--port", str(taken), folder=folder)
    assert finished.returncode == 1
    assert finished.stderr == f"runestone: cannot serve on 127.0.0.1:{taken}: Address already in use\n"


def test_an_address_that_is_not_ours_is_one_line(folder: Path) -> None:
    """A host that cannot be listened on fails like a port that cannot."""
    finished = run("serve", "--host", "192.0.2.1", "--port", "0", folder=folder)
    assert finished.returncode == 1
    assert re.fullmatch(r"runestone: cannot serve on 192\.0\.2\.1:0: [^\n]+\n", finished.stderr)


def test_a_server_says_where_it_is_and_ends_on_sigterm(folder: Path) -> None:
    """The banner comes when it can be called; without providers it says what to set; SIGTERM is exit code 0."""
    with server(folder, "--port", "0") as (process, address):
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            assert answer.status == 200
        assert process.stderr is not None
        assert "only the simulated model is enabled: set OPENAI_API_KEY" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_a_server_ends_on_sigint_as_on_sigterm(folder: Path) -> None:
    """Control-C is no error: exit code 0 and no traceback."""
    with server(folder, "--port", "0", "--log-level", "error") as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in err


def test_options_win_over_the_file(folder: Path) -> None:
    """--host and --port override [server]."""
    (folder / "runestone.toml").write_text('[server]\nhost = "192.0.2.1"\nport = 1\n')
    with server(folder, "--host", "127.0.0.1", "--port", "0") as (_, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", address)


def test_a_reader_that_leaves_is_no_traceback(folder: Path) -> None:
    """`runestone models | head` ends quietly."""
    (folder / "runestone.toml").write_text(
        "[providers.ollama]\nmodels = [" + ", ".join(f'"m{number}"' for number in range(20_000)) + "]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "runestone", "models"],
        cwd=folder,
        env={**QUIET, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (1, -signal.SIGPIPE)
