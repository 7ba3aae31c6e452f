"""The catalog is data: every row can be called, no two rows fight, and its page for people says the same."""

import base64
import gzip
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runestone.providers import catalog
from runestone.providers.catalog import CATALOG, Auth, CatalogEntry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "providers.md"
TRAFFIC = Path(os.environ.get("RUNESTONE_TRAFFIC", ROOT.parent / "shared" / "traffic")) / "real_traffic.jsonl.gz"
OPERATIONS = {
    "openai": {"chat/completions", "completions", "embeddings"},
    "anthropic": {"messages", "messages/count_tokens"},
}
ROWS = list(CATALOG.values())
VENDORS = [row for row in ROWS if row.base_url.startswith("https://")]
SERVERS = [row for row in ROWS if row.base_url.startswith("http://")]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_it_holds_the_providers_people_ask_for() -> None:
    """At least twenty-five, and these by these names."""
    assert len(CATALOG) >= 25
    assert {
        "openai",
        "anthropic",
        "azure",
        "gemini",
        "mistral",
        "groq",
        "ollama",
        "openai-compatible",
    } <= CATALOG.keys()
    assert "simulated" not in CATALOG  # built in, not a vendor


def test_nobody_changes_it() -> None:
    """Neither the table nor a row can be written to."""
    with pytest.raises(TypeError):
        CATALOG["openai"] = CATALOG["groq"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        CATALOG["openai"].base_url = "https://elsewhere.example"  # type: ignore[misc]


def test_a_name_stands_for_one_provider() -> None:
    """A row that repeats a name would hide the other: as many rows were written as the table has."""
    assert [row.name for row in catalog._ROWS] == list(CATALOG)


@every_row
def test_a_name_can_stand_before_a_slash(row: CatalogEntry) -> None:
    """`provider/model` is split at the first slash, so names are lower case letters, digits and dashes."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.name)


@every_row
def test_a_base_url_can_be_appended_to(row: CatalogEntry) -> None:
    """https, without a slash at the end, a query or the path of an operation; plain http only on this machine."""
    if row.name == "openai-compatible":
        assert row.base_url == ""  # the only row whose address must be given whole
        return
    url = urlsplit(re.sub(r"\{[a-z_]+\}", "name", row.base_url))
    assert url.hostname
    assert not url.query
    assert not url.fragment
    assert "{" not in url.geturl()
    assert not row.base_url.endswith("/")
    assert not any(row.base_url.endswith(f"/{operation}") for operation in row.operations)
    assert (url.scheme == "https") != (url.hostname in {"127.0.0.1", "localhost"})
    assert url.scheme in {"http", "https"}


@every_row
def test_what_is_appended_fits_the_dialect(row: CatalogEntry) -> None:
    """A row offers operations of its own dialect only, and its health path is a path or nothing."""
    assert row.operations
    assert row.operations <= OPERATIONS[row.dialect]
    assert row.health_path == "" or re.fullmatch(r"(/[a-z0-9]+)+", row.health_path)
    assert row.max_tokens_field in {"max_tokens", "max_completion_tokens"}


@every_row
def test_a_key_comes_from_a_named_variable(row: CatalogEntry) -> None:
    """Names are upper case and listed once; the key of one vendor is never the key of another."""
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", env) for env in row.env)
    others = [other for other in ROWS if other.name != row.name and set(other.env) & set(row.env)]
    assert not others or row.name.startswith("bedrock")  # two addresses of one vendor
    if row.auth is Auth.NONE:
        assert not row.env


def test_vendors_need_a_key_and_own_servers_do_not() -> None:
    """A row with a variable is one that cannot be called without a key."""
    assert all(row.env and row.auth is not Auth.NONE for row in VENDORS)
    assert not any(row.env for row in SERVERS)


@every_row
def test_headers_can_be_sent(row: CatalogEntry) -> None:
    """Fixed headers are lower case, printable and never a credential."""
    for name, value in row.headers:
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert name not in {"authorization", "x-api-key", "api-key"}
        assert value.isprintable()


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o-mini", "openai"),
        ("gpt-5-nano", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("o3-mini", "openai"),
        ("ft:gpt-4o-mini:acme::x", "openai"),
        ("text-embedding-3-small", "openai"),
        ("claude-haiku-4-5", "anthropic"),
        ("gemini-2.5-flash", "gemini"),
        ("mistral-small-latest", "mistral"),
        ("codestral-latest", "mistral"),
        ("deepseek-chat", "deepseek"),
        ("grok-4", "xai"),
        ("command-a-03-2025", "cohere"),
        ("embed-v4.0", "cohere"),
        ("sonar", "perplexity"),
        ("kimi-k2-turbo-preview", "moonshot"),
        ("glm-4.6", "zai"),
        ("MiniMax-M2", "minimax"),
        ("qwen-plus", "dashscope"),
        ("qwen3-max", "dashscope"),
        ("text-embedding-v4", "dashscope"),
        ("jamba-large", "ai21"),
        ("voyage-3.5", "voyage"),
        ("gpt-oss-120b", None),
        ("llama-3.3-70b-versatile", None),
        ("qwen3:8b", None),
    ],
)
def test_a_bare_model_name_finds_one_provider_at_most(model: str, provider: str | None) -> None:
    """Patterns name a vendor's own models; open weights, which many serve, belong to nobody."""
    found = [row.name for row in ROWS if any(fnmatchcase(model, pattern) for pattern in row.models)]
    assert found == ([provider] if provider else [])


def test_no_pattern_lies_within_another() -> None:
    """No provider's pattern swallows a pattern of another provider."""
    claims = [(row.name, pattern) for row in ROWS for pattern in row.models]
    assert len(claims) == len({pattern for _, pattern in claims})
    for owner, pattern in claims:
        sample = re.sub(r"\[0-9\]", "4", pattern).replace("*", "x")
        assert {name for name, other in claims if fnmatchcase(sample, other)} == {owner}


def test_what_vendors_answer_differently_is_written_down() -> None:
    """The quirks that other code relies on."""
    assert CATALOG["anthropic"].headers == (("anthropic-version", "2023-06-01"),)
    assert CATALOG["anthropic"].auth is Auth.X_API_KEY
    assert CATALOG["azure"].auth is Auth.API_KEY
    assert {row.name for row in ROWS if not row.ends_with_done} == {"perplexity", "huggingface"}
    assert {row.name for row in ROWS if not row.stream_usage} == {"cohere", "nvidia", "databricks"}
    assert CATALOG["openai"].max_tokens_field == CATALOG["azure"].max_tokens_field == "max_completion_tokens"


@every_row
def test_every_row_has_its_page(row: CatalogEntry) -> None:
    """Whoever doubts a row finds where it comes from."""
    page = urlsplit(row.docs)
    assert page.scheme == "https"
    assert page.hostname
    assert "." in page.hostname


def told() -> dict[str, list[str]]:
    """The cells of the table in docs/providers.md, by the name in the first one."""
    lines = (line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `"))
    cells = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return {row[0].strip("` "): row[1:] for row in cells}


def test_the_page_lists_the_same_providers_in_the_same_order() -> None:
    """docs/providers.md and the catalog name the same rows."""
    assert list(told()) == list(CATALOG)


@every_row
def test_the_page_says_what_the_catalog_says(row: CatalogEntry) -> None:
    """Base URL, variables, dialect and vendor page agree; a quirk is told in words."""
    base_url, env, dialect, notes, page = told()[row.name]
    assert base_url == (f"`{row.base_url}`" if row.base_url else "given by you")
    assert env == (", ".join(f"`{name}`" for name in row.env) or "none")
    assert dialect == row.dialect
    assert f"({row.docs})" in page
    assert ("`[DONE]`" in notes) == (not row.ends_with_done)
    assert ("`stream_options`" in notes) == (not row.stream_usage)
    assert ("`max_completion_tokens`" in notes) == (row.max_tokens_field == "max_completion_tokens")
    assert ("No health check" in notes) == (row.health_path == "")


# Who answered, as the recordings name them, and the row they belong to.
RECORDED = {
    "openai": "openai",
    "anthropic": "anthropic",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "xai": "xai",
    "groq": "groq",
    "openrouter": "openrouter",
    "venice": "venice",
    "hf": "huggingface",
    "perplexity": "perplexity",
    "api.perplexity.ai": "perplexity",
    "ai-gateway.vercel.sh": "vercel",
    "api.z.ai": "zai",
    "api.cloudflare.com": "cloudflare",
    "api.cerebras.ai": "cerebras",
    "api.together.xyz": "together",
    "api.avian.io": "avian",
    "api.inference.crusoecloud.com": "crusoe",
    "api.voyageai.com": "voyage",
    "azure": "azure",
    "gemini": "gemini",
    "llamacpp": "llamacpp",
    "ollama": "ollama",
}


@pytest.fixture(scope="module")
def recorded() -> list[Mapping[str, Any]]:
    """Recorded calls of OpenAI-shaped and Anthropic-shaped APIs to providers of the catalog."""
    if not TRAFFIC.exists():
        pytest.skip("no recorded traffic")
    with gzip.open(TRAFFIC, "rt", encoding="utf-8") as lines:
        calls = [json.loads(line) for line in lines]
    apis = {"chat", "completions", "embeddings", "messages"}
    return [call for call in calls if call["api"] in apis and call["provider"] in RECORDED]


def test_recorded_calls_went_where_the_rows_lead(recorded: list[Mapping[str, Any]]) -> None:
    """For every recorded provider, base URL plus operation is a path that was really called."""
    paths: dict[str, set[str]] = {}
    for call in recorded:
        paths.setdefault(RECORDED[call["provider"]], set()).add(call["path"].partition("?")[0])
    assert paths
    for name, seen in paths.items():
        row = CATALOG[name]
        prefix = urlsplit(row.base_url).path + ("/v1" if row.dialect == "anthropic" else "")
        wanted = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(f"{prefix}/{operation}")) for operation in row.operations]
        assert any(re.fullmatch(pattern, path) for pattern in wanted for path in seen), f"{name}: {sorted(seen)}"


def test_recorded_streams_end_as_the_rows_say(recorded: list[Mapping[str, Any]]) -> None:
    """A whole chat stream without `[DONE]` came only from providers that are marked for it."""
    unmarked = set()
    for call in recorded:
        if call["stream"] and call["status"] == 200 and call["api"] == "chat":
            *_, last = events(call["resp"])
            if last != "[DONE]" and '"error"' not in last:
                unmarked.add(RECORDED[call["provider"]])
    assert unmarked <= {row.name for row in ROWS if not row.ends_with_done}


def events(body: str) -> Iterator[str]:
    """The data of a recorded stream's events; some recordings keep their bodies in base64."""
    if "data:" not in body:
        body = base64.b64decode(body).decode()
    for line in body.splitlines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()
