"""Tables as they may stand in runestone.toml: anything under any name, and tables that can be loaded.

Rule: made from the dataclasses themselves, so that a new key is tried without a word here.
"""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from runestone.config.front import Key
from runestone.config.kinds import Duration, Port, Ratio, Secret, Size
from runestone.config.schema import Configuration, Model
from runestone.config.units import format_duration, format_size

SECRETS = {"of the environment": "s3cret-0123", "of a file": "s3cret-4567", "written out": "s3cret-89ab"}
WRITTEN = SECRETS["written out"]
ENVIRON = {
    "SET": SECRETS["of the environment"],
    "ODD": "s3cret-\x00cdef",
    "OPENAI_API_KEY": SECRETS["of the environment"],
}

WORDS = sorted(
    {"5s", "10MB", "100ms", "env:SET", "env:UNSET", "env:", "file:key", "file:~x/y", "file:", "http://h/v1", "openai"}
    | {"simulated", "simulated/simulated", "info", "*", "a/b", "ab" * 32, "9" * 400 + "s", "9" * 400 + "B", "٣s", "²B"}
    | {
        "a.pem",
        "b.pem",
        "\x00",
        "x\x00y",
        "a/../a.pem",
        ".",
        "/",
        "off",
        "p95",
        "{x}",
        "https://h/{x}",
        "x" * 300,
        "\n",
    }
)
SCALARS = (
    st.sampled_from(WORDS)
    | st.booleans()
    | st.integers(-2, 70_000)
    | st.integers(10**308, 10**310)
    | st.floats()
    | st.text(max_size=5)
    | st.datetimes()
    | st.dates()
    | st.times()
)
KEYS = st.sampled_from(["openai", "ollama", "azure", "simulated", "gpt-4o", "x"]) | st.text(min_size=1, max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
REFERENCES = st.sampled_from(
    ["env:SET", "env:ODD", "env:UNSET", "env:", "file:key", "file:none", "file:.", "file:\x00", WRITTEN, f"{WRITTEN}:x"]
)
ADDRESSES = st.sampled_from(
    ["http://h/v1", "https://h", "http://[::1", "http://h:99999", "x", "https://{resource}.x/v1", "http://h/{x}"]
) | st.sampled_from(
    [f"https://u:{WRITTEN}@h/v1", f"https://u:{WRITTEN}@h/{{x}}", f"https://h/v1?key={WRITTEN}", f"{WRITTEN}{{x}}"]
)
FILES_NAMED = st.sampled_from(["both.pem", "a.pem", "none", "\x00", "kept", "x" * 300, "", "~", "key"])
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "tls_cert": FILES_NAMED,
    "tls_key": FILES_NAMED,
    "warm": FILES_NAMED,
    "persist": FILES_NAMED,
    "base_url": ADDRESSES,
    "headers": st.dictionaries(
        st.sampled_from(["x-a", "host", "", "ü", "x\ny"]) | st.text(max_size=3),
        st.sampled_from([WRITTEN, f"{WRITTEN}\x00", "env:SET", "env:ODD", "env:UNSET", "file:none"]),
        max_size=2,
    ),
}


def likely(kind: Any) -> st.SearchStrategy[Any]:
    """Values of the shape that `kind` is read from, with anything in it."""
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is tuple:
        return st.lists(likely(inner[0]), max_size=2)
    if get_origin(kind) is dict:
        return st.dictionaries(KEYS, likely(inner[1]), max_size=2)
    if get_origin(kind) in (Union, UnionType):
        return likely(inner[0])
    if get_origin(kind) is Literal:
        return st.sampled_from(inner) | SCALARS
    if kind is Secret:
        return REFERENCES
    if dataclasses.is_dataclass(kind):
        members = {
            name: SPECIAL[name] if name in SPECIAL else likely(hint) for name, hint in get_type_hints(kind).items()
        }
        return st.fixed_dictionaries({}, optional=members)
    return SCALARS


SECTIONS = likely(Configuration)
GUARDED = st.fixed_dictionaries(
    {},
    optional={
        "providers": st.dictionaries(
            st.sampled_from(["openai", "azure", "ollama"]),
            st.fixed_dictionaries({}, optional={**SPECIAL, "api_keys": st.lists(REFERENCES, max_size=2)}).map(
                lambda given: {name: given[name] for name in given if name in ("base_url", "headers", "api_keys")}
            ),
            max_size=2,
        ),
        "auth": st.fixed_dictionaries(
            {
                "keys": st.lists(
                    st.fixed_dictionaries({"name": KEYS}, optional={"key": REFERENCES, "sha256": REFERENCES})
                )
            }
        ),
    },
)
"""Only what may hold a secret."""
TABLES = SECTIONS | GUARDED | st.dictionaries(KEYS | st.sampled_from(["server", "cache", "auth"]), VALUES, max_size=4)


# -- sound ones

SOUND: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    bool: st.booleans(),
    int: st.integers(0, 10**15),
    float: st.floats(0, 1e15),
    Duration: st.floats(0, 1e9).map(format_duration) | st.sampled_from(["5m", "0.1ms", "1_0.5 h", "0s"]),
    Size: st.integers(0, 10**15).map(format_size) | st.sampled_from(["1.5KiB", "0B", "3 GB"]),
    Ratio: st.floats(0, 1),
    Port: st.integers(0, 65535),
    Secret: st.sampled_from(["env:SET", "file:key"]),
}


def sound(kind: Any) -> st.SearchStrategy[Any]:
    """Values that `kind` is read from."""
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is tuple:
        return st.lists(sound(inner[0]), max_size=2)
    if get_origin(kind) is dict:
        return st.dictionaries(SOUND[str], sound(inner[1]), max_size=2)
    if get_origin(kind) in (Union, UnionType):
        return sound(inner[0])
    if get_origin(kind) is Literal:
        return st.sampled_from(inner)
    if kind in SOUND:
        return SOUND[kind]
    if dataclasses.is_dataclass(kind):
        kept = {
            name: KNOWN[kind.__name__, name] if (kind.__name__, name) in KNOWN else sound(hint)
            for name, hint in get_type_hints(kind).items()
            if (kind.__name__, name) not in LEFT
        }
        needed = {
            field.name: kept.pop(field.name)
            for field in dataclasses.fields(kind)
            if (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
            or (kind.__name__, field.name) in NEEDED
        }
        return st.fixed_dictionaries(needed, optional=kept)
    if isinstance(kind, type) and issubclass(kind, str):  # an enumeration
        return st.sampled_from([member.value for member in kind])  # type: ignore[var-annotated]
    return st.datetimes(timezones=st.just(None) | st.timezones()).filter(_can_be_written)


def _can_be_written(moment: Any) -> bool:
    """TOML's offsets are whole minutes."""
    offset = moment.utcoffset()
    return offset is None or not offset.total_seconds() % 60


HEDGE = st.sampled_from(["off", "p95", "100ms"])
_PROVIDER = st.fixed_dictionaries(
    {
        "base_url": st.sampled_from(["http://127.0.0.1:1/v1/", "https://h.example"]),
        "kind": st.just("openai-compatible"),
    },
    optional={
        "api_keys": st.lists(SOUND[Secret], max_size=2),
        "models": st.lists(st.sampled_from(["m-*", "n", ""]), max_size=2),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from(["1", "env:SET"]), max_size=2),
        "ends_with_done": st.booleans(),
        "max_inputs": st.integers(1, 5),
    },
)
KNOWN: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("Server", "workers"): st.integers(1, 256),
    ("Server", "head_timeout"): st.just("1ms"),
    ("Server", "stuck_after"): st.just("1.5h"),
    ("Server", "tls_cert"): st.just("both.pem"),
    ("Server", "tls_key"): st.just("both.pem"),
    ("Cache", "persist"): st.sampled_from(["kept/answers.db", "answers.db"]),
    ("Cache", "warm"): st.just("kept/warm.jsonl"),
    ("Routing", "hedge"): HEDGE,
    ("Model", "hedge"): HEDGE,
    ("Model", "targets"): st.lists(st.sampled_from(["one/m", "two/n/o", "openai/gpt-4o"]), min_size=1, max_size=3),
    ("Configuration", "aliases"): st.dictionaries(SOUND[str], st.sampled_from(["one/x", "openai/gpt-4o"]), max_size=2),
    ("Simulated", "status"): st.integers(400, 599),
}
"""Where the type alone does not say what may stand there."""
NEEDED = {("Model", "targets"), ("Server", "tls_cert"), ("Server", "tls_key")}
LEFT = {("Model", "weights"), *(("Configuration", name) for name in ("providers", "models", "auth"))}
"""What depends on other things."""

_LISTED = st.lists(st.tuples(sound(Key), st.booleans()), max_size=2).map(
    lambda keys: [
        {
            **{name: value for name, value in key.items() if name not in ("sha256", "key")},
            "name": f"{number}{key['name']}",
            **({"key": "env:SET"} if by_reference else {"sha256": f"{number:064x}"}),
        }
        for number, (key, by_reference) in enumerate(keys)
    ]
)
CONFIGURATIONS = st.builds(
    lambda rest, one, models, keys: {
        **rest,
        "providers": {"one": one, "two": {"kind": "simulated", "simulated": {"ttft": "1ms"}}, "openai": {}},
        "models": models,
        "auth": {"keys": keys},
    },
    sound(Configuration),
    _PROVIDER,
    st.dictionaries(SOUND[str].map(lambda name: f"m{name}"), sound(Model), max_size=2),
    _LISTED,
)
