"""From a file, or none, to a configuration that can be served."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runestone.config.kinds import Secret
from runestone.config.load import load
from runestone.config.schema import Configuration
from runestone.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
SHA = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, toml: str, **environ: str) -> Configuration:
    file = folder / "g.toml"
    file.write_text(toml)
    return load(file, environ)


def faults(folder: Path, toml: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, toml, **environ)
    return caught.value.faults


def test_the_shipped_file_serves_without_any_environment() -> None:
    """A fresh clone starts with what is in it: the simulated model, on loopback."""
    configuration = load(ROOT / "runestone.toml", {})
    assert [provider.kind for provider in configuration.providers.values()] == ["simulated"]
    assert (configuration.server.host, configuration.server.port) == ("127.0.0.1", 4003)


def test_without_file_and_environment_there_is_the_simulated_model(folder: Path) -> None:
    """Something answers, whatever is missing."""
    configuration = load(None, {})
    assert list(configuration.providers) == ["simulated"]
    assert configuration.providers["simulated"].models == ("simulated",)


def test_without_file_the_environment_names_the_providers(folder: Path) -> None:
    """Every provider whose usual variable is set is enabled with it, and no other."""
    providers = load(None, {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "MISTRAL_API_KEY": " "}).providers
    assert {name: entry.api_keys for name, entry in providers.items()} == {
        "openai": (Secret("env:OPENAI_API_KEY", "sk-1"),),
        "anthropic": (Secret("env:ANTHROPIC_API_KEY", "sk-2"),),
    }


def test_a_provider_that_needs_an_address_is_not_discovered(folder: Path) -> None:
    """A key alone does not enable Azure: its address has the customer's name in it."""
    assert list(load(None, {"AZURE_OPENAI_API_KEY": "k"}).providers) == ["simulated"]


def test_the_file_of_the_folder_is_found(folder: Path) -> None:
    """runestone.toml in the current folder is read when no file is named."""
    (folder / "runestone.toml").write_text("[server]\nport = 1234\n")
    assert load(None, {}).server.port == 1234


def test_a_file_without_providers_leaves_them_to_the_environment(folder: Path) -> None:
    """Naming a port does not turn the usual variables off."""
    assert list(read(folder, "[server]\nport = 1\n", OPENAI_API_KEY="sk").providers) == ["openai"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = ", "g.toml: is not TOML: "),
        (b"a = 1\na = 2\n", "g.toml: is not TOML: "),
        (b"a = '\xff'", "g.toml: is not TOML: "),
        (b"a = " + b"9" * 5000, "g.toml: is not TOML: "),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "g.toml: is not TOML: "),
        (b"\xef\xbb\xbf[serverr]", "g.toml"),
    ],
    ids=["syntax", "twice", "utf-8", "digits", "nesting", "bom"],
)
def test_what_is_not_toml_is_one_line(folder: Path, content: bytes, message: str) -> None:
    """No traceback, whatever is in the file."""
    (folder / "g.toml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(folder / "g.toml", {})
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(message)
    assert "\n" not in caught.value.faults[0]


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    """A missing file and a folder are one line each."""
    for path, reason in ((folder / "none.toml", "No such file"), (folder, "Is a directory")):
        with pytest.raises(ConfigurationError) as caught:
            load(path, {})
        assert caught.value.faults[0].startswith(f"{path.name}: cannot be read: {reason}")


def test_a_provider_is_completed_from_the_catalog(folder: Path) -> None:
    """Its name is its kind, the usual variable its key, the vendor's address and models its own."""
    openai = read(folder, "[providers.openai]\n", OPENAI_API_KEY="sk-1").providers["openai"]
    assert openai.kind == "openai"
    assert openai.base_url == "https://api.openai.com/v1"
    assert openai.api_keys == (Secret("env:OPENAI_API_KEY", "sk-1"),)
    assert openai.models
    assert openai.ends_with_done is True


def test_what_the_file_says_wins_over_the_catalog(folder: Path) -> None:
    """Address (without its last slash), keys, models and quirks can be overridden."""
    entry = read(
        folder,
        """
        [providers.mine]
        kind = "openai"
        base_url = "http://10.0.0.1:8000/v1/"
        api_keys = ["env:A", "env:B"]
        models = ["m"]
        ends_with_done = false
        max_tokens_field = "max_tokens"
        headers = { x-team = "t", x-secret = "env:A" }
        """,
        A="one",
        B="two",
    ).providers["mine"]
    assert entry.base_url == "http://10.0.0.1:8000/v1"
    assert [secret.value for secret in entry.api_keys] == ["one", "two"]
    assert (entry.models, entry.ends_with_done, entry.max_tokens_field) == (("m",), False, "max_tokens")
    assert entry.headers == {"x-team": "t", "x-secret": "one"}


@pytest.mark.parametrize(
    "toml",
    [
        "[providers.ollama]",
        "[providers.openai]\npassthrough = true",
        '[providers.x]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:1/v1"',
    ],
)
def test_a_key_is_asked_for_only_where_one_is_needed(folder: Path, toml: str) -> None:
    """Servers of one's own, and providers that take the client's credential, need none."""
    (entry,) = read(folder, toml).providers.values()
    assert entry.api_keys == ()


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ("[providers.openai]", "providers.openai.api_keys: is missing: set OPENAI_API_KEY, or name your own variable"),
        ("[providers.opneai]", "providers.opneai.kind: unknown provider 'opneai', did you mean 'openai'?"),
        ('[providers.x]\nkind = "simulatd"', "unknown provider 'simulatd', did you mean 'simulated'?"),
        (
            '[providers.x]\nkind = "openai-compatible"',
            "providers.x.base_url: is missing: this kind has no address of its own",
        ),
        ('[providers.azure]\napi_keys = ["env:K"]', "providers.azure.base_url: is needed, with your own name in it"),
        (
            '[providers.ollama]\nbase_url = "127.0.0.1:11434"',
            "providers.ollama.base_url: must be an http(s) address",
        ),
        (
            '[providers.ollama]\nbase_url = "https://user:pa55@host/v1"',
            "providers.ollama.base_url: must be an http(s) address without credentials",
        ),
        ('[providers.ollama]\nbase_url = "https://host/v1?key=pa55"', "providers.ollama.base_url: must be an"),
        ('[providers."a/b"]\nkind = "ollama"', "providers.a/b: a provider's name is letters, digits"),
        ('[providers.ollama]\nheaders = { "a b" = "c" }', "providers.ollama.headers: 'a b' is not a header's name"),
        (
            '[providers.ollama]\nheaders = { a = "b\\r\\nc: d" }',
            "providers.ollama.headers.a: has characters that no header can carry",
        ),
        (
            '[providers.ollama]\nheaders = { a = "env:NONE" }',
            "providers.ollama.headers.a: the environment variable NONE is not set",
        ),
        ("[models.m]", "models.m.targets: is missing: name at least one provider/model"),
        ('[models.m]\ntargets = ["gpt-4o"]', "models.m.targets[0]: must be provider/model, not 'gpt-4o'"),
        ('[models.m]\ntargets = ["simulated/"]', "models.m.targets[0]: must be provider/model, not 'simulated/'"),
        (
            '[models.m]\ntargets = ["simulated/simulated", "simulatd/x"]',
            "models.m.targets[1]: no provider 'simulatd' is configured, did you mean 'simulated'?",
        ),
        (
            '[models.a]\ntargets = ["simulated/simulated"]\n[aliases]\na = "simulated"',
            "aliases.a: is a name in [models] too",
        ),
        (
            '[aliases]\na = "b"\nb = "simulated"',
            "aliases.a: 'b' is itself an alias; name what it stands for",
        ),
        ("[auth]\nrequired = true", "auth.required: is true but no [[auth.keys]] is listed: nobody could call"),
        ('[[auth.keys]]\nname = "a"', "auth.keys[0]: needs exactly one of sha256 and key"),
        (
            f'[[auth.keys]]\nname = "a"\nsha256 = "{SHA}"\nkey = "env:K"',
            "auth.keys[0]: needs exactly one of sha256 and key",
        ),
        ('[[auth.keys]]\nname = "a"\nsha256 = "abc"', "auth.keys[0].sha256: must be 64 hexadecimal digits"),
        (
            f'[[auth.keys]]\nname = "a"\nsha256 = "{SHA}"\n[[auth.keys]]\nname = "a"\nsha256 = "{SHA[::-1]}"',
            "auth.keys[1].name: 'a' is used twice",
        ),
        ('[[auth.keys]]\nname = "a"\nkey = "rs-pa55"', "auth.keys[0].key: must be a reference"),
        ('[server]\ntls_cert = "g.toml"', "server.tls_cert: tls_cert and tls_key go together"),
        (
            '[server]\ntls_cert = "g.toml"\ntls_key = "g.toml"',
            "server.tls_cert: it and tls_key are not a certificate and its key",
        ),
        (
            '[server]\ntls_cert = "none.pem"\ntls_key = "none.pem"',
            "server.tls_cert: it or tls_key cannot be read",
        ),
        ('[log]\nformat = "jsn"', "log.format: must be one of 'text', 'json', did you mean 'json'?"),
        ("[routing.timeouts]\nconnect = 5", "routing.timeouts.connect: must be a duration with a unit"),
        ("[server]\nmax_body = 10", "server.max_body: must be a size with a unit"),
    ],
)
def test_a_fault_is_named_by_file_and_path(folder: Path, toml: str, fault: str) -> None:
    """One line: which key, what is wrong, and what would be right; never a value that may be secret."""
    (line,) = faults(folder, toml, K="key")
    assert line.startswith("g.toml:")
    assert fault in line
    assert "pa55" not in line


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ('[aliases]\ngpt-4 = "nothing-of-that-name"', "aliases.gpt-4"),
        (
            f'[[auth.keys]]\nname = "a"\nsha256 = "{SHA}"\n[[auth.keys]]\nname = "b"\nsha256 = "{SHA.upper()}"',
            "auth.keys[1].sha256",
        ),
        ("[providers.ollama]\nsimulated = { hang = true }", "providers.ollama.simulated"),
    ],
    ids=["alias of nothing", "same key twice", "behaviour of a real provider"],
)
def test_a_setting_that_could_have_no_effect_is_a_fault(folder: Path, toml: str, fault: str) -> None:
    """What nothing would obey, or what would hide something else, is said at start-up and not found out later."""
    (line,) = faults(folder, toml)
    assert line.startswith(f"g.toml:{fault}: ")


@pytest.mark.parametrize(
    ("toml", "path", "hint"),
    [
        ("[sevrer]", "sevrer", "server"),
        ("[server]\nprot = 1", "server.prot", "port"),
        ("[providers.ollama]\nbase_ur = ''", "providers.ollama.base_ur", "base_url"),
        ("[providers.simulated.simulated]\nttf = '1s'", "providers.simulated.simulated.ttf", "ttft"),
        ("[models.m]\ntarget = []", "models.m.target", "targets"),
        ("[routing]\ntimeout = 1", "routing.timeout", "timeouts"),
        ("[routing.timeouts]\nconect = '1s'", "routing.timeouts.conect", "connect"),
        (f'[[auth.keys]]\nname = "a"\nsha256 = "{SHA}"\nmodel = []', "auth.keys[0].model", "models"),
        ("[auth]\nrequird = true", "auth.requird", "required"),
        ("[log]\nlevl = 'info'", "log.levl", "level"),
    ],
)
def test_an_unknown_key_is_refused_in_every_section(folder: Path, toml: str, path: str, hint: str) -> None:
    """With the key that was probably meant."""
    assert faults(folder, toml) == [f"g.toml:{path}: unknown key, did you mean {hint!r}?"]


def test_faults_of_all_sections_come_together(folder: Path) -> None:
    """Types are checked before what refers to what; within each, nothing hides behind something else."""
    assert [
        line.split(": ")[0]
        for line in faults(folder, "[server]\nport = 70000\nhost = 1\n[log]\nlevel = 'loud'\n[auth]\nrequired = 1")
    ] == ["g.toml:server.host", "g.toml:server.port", "g.toml:auth.required", "g.toml:log.level"]
    assert {
        line.split(": ")[0]
        for line in faults(
            folder,
            """
            [server]
            tls_key = "k"
            [auth]
            required = true
            [providers.nobody]
            [providers.openai]
            [models.m]
            targets = ["x"]
            [aliases]
            m = "simulated"
            """,
        )
    } == {
        "g.toml:providers.nobody.kind",
        "g.toml:providers.openai.api_keys",
        "g.toml:models.m.targets[0]",
        "g.toml:aliases.m",
        "g.toml:auth.required",
        "g.toml:server.tls_cert",
    }


def test_keys_of_clients_are_read_whole(folder: Path) -> None:
    """By digest or by reference, with what they may do and until when."""
    first, second = read(
        folder,
        f"""
        [auth]
        required = true
        [[auth.keys]]
        name = "a"
        sha256 = "{SHA}"
        models = ["gpt-*"]
        expires = 2027-01-31T00:00:00Z
        [[auth.keys]]
        name = "b"
        key = "env:K"
        active = false
        """,
        K="rs-1",
    ).auth.keys
    assert (first.sha256, first.models, first.expires) == (SHA, ("gpt-*",), datetime(2027, 1, 31, tzinfo=UTC))
    assert (second.key, second.sha256, second.active) == (Secret("env:K", "rs-1"), None, False)


def test_a_secret_of_a_file_is_found_beside_the_configuration(folder: Path) -> None:
    """Wherever the server was started."""
    (folder / "sub").mkdir()
    (folder / "sub" / "key").write_text("s3cret")
    (folder / "sub" / "g.toml").write_text('[providers.openai]\napi_keys = ["file:key"]')
    assert load(Path("sub/g.toml"), {}).providers["openai"].api_keys[0].value == "s3cret"
