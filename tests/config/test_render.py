"""The effective configuration as TOML: complete, and safe to show."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from runestone.config.load import load
from runestone.config.render import render
from runestone.config.schema import Configuration

SECRET = "s3cret-value-0123456789"
ENVIRON = {"UP": SECRET, "OPENAI_API_KEY": SECRET + "-2", "CLIENT": SECRET + "-3"}
FILES = {
    "nothing": "",
    "everything": f"""
        [server]
        host = "::1"
        port = 0
        max_body = "10MiB"
        drain = "100ms"
        keep_alive = "1h"
        tls_cert = "a.pem"
        tls_key = "b.pem"
        [auth]
        required = true
        [[auth.keys]]
        name = 'quo"te\\'
        sha256 = "{"0f" * 32}"
        models = ["a*", "b"]
        expires = 2027-01-31T00:00:00+01:00
        [[auth.keys]]
        name = "b"
        key = "env:CLIENT"
        active = false
        [providers.up]
        kind = "openai-compatible"
        base_url = "http://127.0.0.1:1/v1"
        api_keys = ["env:UP"]
        models = ["m-*"]
        ends_with_done = false
        max_tokens_field = "max_completion_tokens"
        [providers.openai]
        [providers.anthropic]
        api_keys = ["file:key"]
        [providers.simulated.simulated]
        ttft = "1ms"
        tokens_per_second = 12.5
        error_rate = 0.25
        status = 503
        cut_after = 3
        hang = true
        [models."fast model"]
        targets = ["up/m-1", "openai/gpt-4o"]
        [aliases]
        "gpt-4.1" = "openai/gpt-4o"
        [routing]
        default_max_tokens = 1
        [routing.timeouts]
        connect = "1s"
        first_byte = "90s"
        between_bytes = "1500ms"
        total = "1d"
        [log]
        level = "debug"
        format = "json"
        """,
    "the environment's": "[log]\n",
    "odd durations": '[server]\ndrain = "0.00001s"\nkeep_alive = "1.0000001s"\n',
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No runestone.toml stands in the current folder."""
    monkeypatch.chdir(tmp_path)


CERTIFICATE = trustme.CA().issue_cert("localhost")


def loaded(folder: Path, toml: str) -> Configuration:
    for name in ("a.pem", "b.pem"):
        CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(folder / name)
    (folder / "key").write_text(SECRET)
    file = folder / "g.toml"
    file.write_text(toml, encoding="utf-8")
    return load(file, ENVIRON)


@pytest.mark.parametrize("toml", FILES.values(), ids=FILES)
def test_it_reads_back_as_the_same_configuration(tmp_path: Path, toml: str) -> None:
    """What `check` prints can be pasted into a file and means the same."""
    configuration = loaded(tmp_path, toml)
    assert loaded(tmp_path, render(configuration)) == configuration


@pytest.mark.parametrize("toml", FILES.values(), ids=FILES)
def test_it_never_holds_a_secret(tmp_path: Path, toml: str) -> None:
    """References only: it is safe to paste into an issue."""
    assert SECRET not in render(loaded(tmp_path, toml))


def test_it_shows_references() -> None:
    """A reader sees where each credential comes from."""
    shown = tomllib.loads(render(load(None, ENVIRON)))
    assert shown["providers"]["openai"]["api_keys"] == ["env:OPENAI_API_KEY"]


def test_headers_values_are_never_shown(tmp_path: Path) -> None:
    """A header may hold a credential, referred to or written out; its name is enough to check."""
    configuration = loaded(
        tmp_path, f'[providers.ollama]\nheaders = {{ x-literal = "{SECRET}", x-reference = "env:UP" }}\n'
    )
    text = render(configuration)
    assert SECRET not in text
    assert tomllib.loads(text)["providers"]["ollama"]["headers"] == {
        "x-literal": "[redacted]",
        "x-reference": "[redacted]",
    }


def test_it_is_complete() -> None:
    """Every setting that has a value stands there, also those nobody wrote."""
    shown = tomllib.loads(render(load(None, {})))
    assert shown["server"] == {
        "host": "127.0.0.1",
        "port": 4003,
        "max_body": "20MB",
        "drain": "30s",
        "keep_alive": "75s",
        "head_timeout": "10s",
        "stall": "1m",
        "max_connections": 20_000,
        "stuck_after": "10s",
        "admin_host": "127.0.0.1",
        "workers": 1,
        "sticky": True,
        "watch": False,
        "cors_origins": [],
    }
    assert shown["routing"]["timeouts"]["first_byte"] == "5m"
    assert shown["providers"]["simulated"]["simulated"]["ttft"] == "50ms"


def test_what_is_absent_is_left_out() -> None:
    """TOML has no null: a setting without a value has no line."""
    configuration = load(None, {})
    server = replace(configuration.server, tls_cert=None)
    assert "tls_cert" not in render(replace(configuration, server=server))
