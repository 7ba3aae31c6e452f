"""Every section and key of runestone.toml, with its type, default and meaning: written down here, and in front.py, and
nowhere else.

Rule: frozen, no behaviour. Only app.py, cli.py and this package see these classes; everyone else takes plain arguments.
A key is here only if something obeys it. docs/configuration.md is checked against this file by a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from runestone.config.front import Auth, Debug, Log, Server, Streams, Telemetry, WebSocket
from runestone.config.kinds import Duration, Ratio, Secret, Size
from runestone.core.strategy import Strategy
from runestone.core.upstream import Prefill


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """How the built-in model behaves."""

    ttft: Duration = field(default=Duration(0.05), metadata={"doc": "time before the first byte"})
    tokens_per_second: float = field(default=100.0, metadata={"doc": "pace of the answer; 0 is as fast as it goes"})
    error_rate: Ratio = field(default=Ratio(0.0), metadata={"doc": "share of calls that fail"})
    status: int = field(default=500, metadata={"doc": "the status of those that fail"})
    cut_after: int | None = field(
        default=None, metadata={"doc": "cut a stream after so many events, a body after so many bytes"}
    )
    hang: bool = field(default=False, metadata={"doc": "take the call and never answer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    default_size: int = field(default=50, metadata={"doc": "connections kept to a provider"})
    max_overflow: int = field(
        default=4000, metadata={"doc": "more, while they are needed: a stream holds its connection for its whole life"}
    )
    checkout_timeout: Duration = field(
        default=Duration(5.0), metadata={"doc": "how long a call waits for a connection before it is a 503"}
    )
    max_waiting: int = field(default=1000, metadata={"doc": "calls that may wait for one at a time"})
    health_check_interval: Duration = field(
        default=Duration(30.0), metadata={"doc": "between two cheap GETs that tell whether a provider is well"}
    )
    warmup: int = field(default=5, metadata={"doc": "connections opened at the start"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOverride:
    """The keys of Pool, each as it is there unless given."""

    default_size: int | None = field(default=None, metadata={"doc": "as in `[pool]`"})
    max_overflow: int | None = field(default=None, metadata={"doc": "as in `[pool]`"})
    checkout_timeout: Duration | None = field(default=None, metadata={"doc": "as in `[pool]`"})
    max_waiting: int | None = field(default=None, metadata={"doc": "as in `[pool]`"})
    health_check_interval: Duration | None = field(default=None, metadata={"doc": "as in `[pool]`"})
    warmup: int | None = field(default=None, metadata={"doc": "as in `[pool]`"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    kind: str = field(default="", metadata={"doc": "a name from docs/providers.md; the table's own name when left out"})
    base_url: str | None = field(default=None, metadata={"doc": "where it answers, when not at the catalog's address"})
    api_keys: tuple[Secret, ...] = field(
        default=(), metadata={"doc": "credentials; the catalog's environment variable when left out"}
    )
    models: tuple[str, ...] = field(
        default=(), metadata={"doc": "names or patterns by which a bare model name finds it"}
    )
    headers: dict[str, str] = field(
        default_factory=dict, metadata={"doc": "sent with every call; a value may be a secret reference"}
    )
    passthrough: bool = field(default=False, metadata={"doc": "send the client's own credential up instead of ours"})
    ends_with_done: bool | None = field(default=None, metadata={"doc": "false: its streams may end without `[DONE]`"})
    max_inputs: int | None = field(default=None, metadata={"doc": "embeddings it takes in one call"})
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = field(
        default=None, metadata={"doc": "how it calls the limit of an answer"}
    )
    prefill: Prefill | None = field(
        default=None, metadata={"doc": "how it is asked to go on with an answer that was begun (docs/routing.md)"}
    )
    pool: PoolOverride = field(default=PoolOverride(), metadata={"doc": "keys of `[pool]` for this provider alone"})
    simulated: Simulated = field(default=Simulated(), metadata={"doc": "only for kind `simulated`: how it behaves"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    strategy: Strategy | None = field(
        default=None,
        metadata={"doc": "the order in which targets are asked (docs/routing.md); left out, `routing.policy`"},
    )
    targets: tuple[str, ...] = field(
        default=(), metadata={"doc": "`provider/model`, the next one when one cannot answer"}
    )
    weights: tuple[int, ...] = field(default=(), metadata={"doc": "one for each target, for strategies that use them"})
    fallback_on: tuple[Literal["context_window", "content_policy"], ...] = field(
        default=(), metadata={"doc": "refusals after which the next target is asked too"}
    )
    hedge: str | None = field(default=None, metadata={"doc": "as in `[routing]`"})
    ttft_timeout: Duration | None = field(default=None, metadata={"doc": "as in `[routing]`"})
    min_tokens_per_second: float | None = field(default=None, metadata={"doc": "as in `[routing]`; 0 turns it off"})
    stream_failure: Literal["error", "continue"] | None = field(default=None, metadata={"doc": "as in `[routing]`"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    connect: Duration = field(
        default=Duration(5.0), metadata={"doc": "to a connection, waiting for a free one included"}
    )
    first_byte: Duration = field(
        default=Duration(300.0), metadata={"doc": "from the request to the first byte of the answer"}
    )
    between_bytes: Duration = field(default=Duration(120.0), metadata={"doc": "between two reads of an answer"})
    total: Duration = field(
        default=Duration(1800.0), metadata={"doc": "the whole call, all attempts, to the last byte"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    enabled: bool = field(default=True, metadata={"doc": "false: a failing target is asked again and again"})
    failure_threshold: int = field(default=5, metadata={"doc": "failures in a row that take a target out"})
    success_threshold: int = field(default=2, metadata={"doc": "successes that bring it back"})
    reset_timeout: Duration = field(
        default=Duration(30.0), metadata={"doc": "how long it rests before a few calls may try it"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    policy: Literal["default", "cost", "health", "enhanced"] = field(
        default="default", metadata={"doc": "the strategy of models that name none (docs/routing.md)"}
    )
    retries: int = field(default=2, metadata={"doc": "attempts after every target has been asked once"})
    retry_budget: Ratio = field(
        default=Ratio(0.2), metadata={"doc": "retries and hedges, as a share of the calls of the last seconds"}
    )
    hedge: str = field(
        default="off",
        metadata={"doc": 'ask a second target when the first takes longer than "p95", or than a duration; "off" never'},
    )
    ttft_timeout: Duration | None = field(
        default=None, metadata={"doc": "how long a stream may take to its first event before the next target is asked"}
    )
    min_tokens_per_second: float | None = field(
        default=None,
        metadata={"doc": "a stream that begins slower than this is given to the next target; it is held back so long"},
    )
    pace_window: Duration = field(
        default=Duration(2.0), metadata={"doc": "the time over which `min_tokens_per_second` is judged"}
    )
    stream_failure: Literal["error", "continue"] = field(
        default="error",
        metadata={"doc": '"continue": a stream that breaks off is gone on with by another target (docs/routing.md)'},
    )
    adaptive_concurrency: bool = field(
        default=False, metadata={"doc": "give a target that slows down under load fewer calls at once"}
    )
    timeouts: Timeouts = field(
        default=Timeouts(), metadata={"doc": "how long a call waits for what; each gives a 504 that says which"}
    )
    default_max_tokens: int = field(
        default=4096, metadata={"doc": "sent to Anthropic when an OpenAI client gives no limit"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    enabled: bool = field(default=True, metadata={"doc": "false: every call goes to a provider"})
    max_size: int = field(default=10_000, metadata={"doc": "answers kept; of embeddings, items"})
    max_bytes: Size = field(default=Size(256_000_000), metadata={"doc": "their bytes together"})
    max_entry: Size = field(default=Size(1_000_000), metadata={"doc": "the largest answer that is kept"})
    default_ttl: Duration = field(
        default=Duration(300.0), metadata={"doc": "how long an answer is true, unless `x-runestone-cache-ttl` says"}
    )
    scope: Literal["key", "tenant", "global"] = field(
        default="key", metadata={"doc": "who shares answers; callers without a key share among themselves"}
    )
    replay: Literal["instant", "paced"] = field(
        default="instant", metadata={"doc": "a kept stream comes at once, or at the pace at which it came"}
    )
    replay_speed: float = field(default=1.0, metadata={"doc": "times that pace"})
    stale_while_revalidate: Duration = field(
        default=Duration(0.0), metadata={"doc": "how long after its time an answer is still given, and asked anew"}
    )
    stale_if_error: Duration = field(
        default=Duration(0.0), metadata={"doc": "how long after its time an answer is given when no provider can"}
    )
    store_tool_calls: bool = field(default=False, metadata={"doc": "whether answers that call tools are kept"})
    collapse: bool = field(default=True, metadata={"doc": "the same question in flight is asked once"})
    warm: str | None = field(
        default=None, metadata={"doc": "a JSONL file of questions and answers, read at the start (docs/cache.md)"}
    )
    persist: str | None = field(
        default=None, metadata={"doc": "an SQLite file that keeps the answers from one run to the next"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    enabled: bool = field(default=True, metadata={"doc": "single embeddings that arrive together go up as one call"})
    default_size: int = field(default=10, metadata={"doc": "items of a batch at most"})
    timeout: Duration = field(default=Duration(0.1), metadata={"doc": "the most an item ever waits"})
    adaptive_sizing: bool = field(
        default=True, metadata={"doc": "as many as latency and arrivals make worth it; false: until it is full"}
    )
    max_concurrency: int = field(
        default=5, metadata={"doc": "batches of a kind under way at a time; calls of one `/v1/batch` unless it says"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipelines:
    default: tuple[str, ...] = field(
        default=(),
        metadata={"doc": "the stages of a call (docs/middleware.md); left out, the built-in ones"},
    )
    streaming: tuple[str, ...] = field(
        default=(), metadata={"doc": "of calls that are answered as events; left out, as `default`"}
    )
    cached: tuple[str, ...] = field(
        default=(), metadata={"doc": "of calls that the cache may answer; left out, as the two above"}
    )
    admin: tuple[str, ...] = field(
        default=(), metadata={"doc": 'aiohttp middlewares around `/admin`; left out, `["admin_key"]`'}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    server: Server = field(default_factory=Server)
    auth: Auth = field(default_factory=Auth)
    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    pool: Pool = field(default_factory=Pool)
    breaker: Breaker = field(default_factory=Breaker)
    cache: Cache = field(default_factory=Cache)
    batch: Batch = field(default_factory=Batch)
    websocket: WebSocket = field(default_factory=WebSocket)
    streams: Streams = field(default_factory=Streams)
    pipelines: Pipelines = field(default_factory=Pipelines)
    telemetry: Telemetry = field(default_factory=Telemetry)
    log: Log = field(default_factory=Log)
    debug: Debug = field(default_factory=Debug)
