"""The sections of runestone.toml that say how it is served: listeners, clients, connections, what is told of them. The
rest, and its rule, is in schema.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from runestone.config.kinds import Duration, Port, Ratio, Secret, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    host: str = field(
        default="127.0.0.1", metadata={"doc": "the address to listen on; loopback unless you say otherwise"}
    )
    port: Port = field(default=Port(4003), metadata={"doc": "the port to listen on; 0 takes a free one"})
    max_body: Size = field(default=Size(20_000_000), metadata={"doc": "the largest request body; more is a 413"})
    drain: Duration = field(default=Duration(30.0), metadata={"doc": "how long running calls may finish after SIGTERM"})
    keep_alive: Duration = field(default=Duration(75.0), metadata={"doc": "how long an idle client connection is kept"})
    head_timeout: Duration = field(
        default=Duration(10.0), metadata={"doc": "how long a new connection may take to its first whole request head"}
    )
    stall: Duration = field(
        default=Duration(60.0), metadata={"doc": "how long a client may read (nearly) nothing of its answer"}
    )
    max_connections: int = field(
        default=20_000, metadata={"doc": "of clients, open at a time; one more is closed at once"}
    )
    stuck_after: Duration = field(
        default=Duration(10.0), metadata={"doc": "how long the loop may stand before `/health/live` says no"}
    )
    admin_host: str = field(default="127.0.0.1", metadata={"doc": "the address of the listener of `admin_port`"})
    admin_port: Port | None = field(
        default=None,
        metadata={"doc": "`/admin` and `/metrics` on a port of their own, and on no other; left out, on all"},
    )
    workers: int = field(
        default=1, metadata={"doc": "processes that serve the same ports (docs/processes.md says what each has alone)"}
    )
    sticky: bool = field(
        default=True,
        metadata={"doc": "with several workers: connections that show the same key go to the same one"},
    )
    watch: bool = field(default=False, metadata={"doc": "reload when this file, the certificate or its key change"})
    cors_origins: tuple[str, ...] = field(
        default=(), metadata={"doc": 'pages of these origins may call from a browser; "*" is all'}
    )
    tls_cert: str | None = field(
        default=None, metadata={"doc": "a PEM file, relative to this one; with `tls_key` the server speaks HTTPS"}
    )
    tls_key: str | None = field(default=None, metadata={"doc": "the PEM file of the certificate's key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    name: str = field(metadata={"doc": "what logs call this key"})
    sha256: str | None = field(
        default=None, metadata={"doc": "hex SHA-256 of the key, as `runestone keys new` prints it"}
    )
    key: Secret | None = field(default=None, metadata={"doc": "the key itself, by reference; instead of `sha256`"})
    models: tuple[str, ...] = field(default=("*",), metadata={"doc": "names or patterns of the models it may use"})
    requests_per_minute: int | None = field(default=None, metadata={"doc": "calls it may begin, refilled smoothly"})
    requests_per_hour: int | None = field(default=None, metadata={"doc": "the same over an hour"})
    tokens_per_minute: int | None = field(
        default=None, metadata={"doc": "tokens in and out: estimated when a call begins, corrected when it ends"}
    )
    concurrent_requests: int | None = field(default=None, metadata={"doc": "calls at a time"})
    queue: Duration | None = field(
        default=None, metadata={"doc": "how long a call over a limit waits for its turn instead of getting a 429"}
    )
    tenant: str = field(default="", metadata={"doc": 'whom it belongs to; with `cache.scope = "tenant"` they share'})
    admin: bool = field(default=False, metadata={"doc": "whether it may use the admin endpoints"})
    active: bool = field(default=True, metadata={"doc": "false refuses it without forgetting it"})
    expires: datetime | None = field(default=None, metadata={"doc": "a TOML date-time after which it is refused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    required: bool = field(
        default=False, metadata={"doc": "whether a call needs a listed key; if not, other keys are ignored"}
    )
    keys: tuple[Key, ...] = field(default=(), metadata={"doc": "the `[[auth.keys]]` tables"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocket:
    enabled: bool = field(default=True, metadata={"doc": "false: there is no WebSocket endpoint"})
    port: Port | None = field(
        default=None, metadata={"doc": "a second port for the same; 0 is none; left out, 4005 where it is free"}
    )
    max_connections: int = field(default=10_000, metadata={"doc": "open at a time; one more is closed with 1013"})
    heartbeat: Duration = field(
        default=Duration(30.0), metadata={"doc": "between two pings; who does not answer in half of it is gone"}
    )
    messages_per_second: int = field(default=100, metadata={"doc": "a client may send on a connection"})
    max_message: Size = field(
        default=Size(4_000_000), metadata={"doc": "the largest message of a client; more is a 1009"}
    )
    max_streams: int = field(default=1000, metadata={"doc": "calls a session may have under way"})
    max_rooms: int = field(default=100, metadata={"doc": "rooms a session may be in"})
    max_members: int = field(default=1000, metadata={"doc": "sessions in a room"})
    stall: Duration = field(
        default=Duration(30.0), metadata={"doc": "how long a client may read nothing before it is cut"}
    )
    resumable_for: Duration = field(
        default=Duration(120.0), metadata={"doc": "how long a session waits for its client to come back"}
    )
    max_kept: Size = field(default=Size(1_000_000), metadata={"doc": "of each session, to be sent again"})
    max_bytes: Size = field(default=Size(256_000_000), metadata={"doc": "of all sessions together"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    resumable: bool = field(
        default=False, metadata={"doc": "every SSE stream can be rejoined, not only those that ask for it"}
    )
    resumable_for: Duration = field(
        default=Duration(120.0), metadata={"doc": "how long one waits for its reader, and is kept after its end"}
    )
    max_kept: Size = field(default=Size(1_000_000), metadata={"doc": "of each stream, to be read again"})
    max_streams: int = field(
        default=1000, metadata={"doc": "kept at a time; a stream beyond cannot be rejoined, and says so by no id"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    enabled: bool = field(default=True, metadata={"doc": "false: no traces and no export, whatever else is said"})
    exporters: tuple[Literal["prometheus", "otlp", "zipkin", "console"], ...] = field(
        default=(),
        metadata={"doc": "where to; left out, `/metrics`, and OTLP where `OTEL_*` names an endpoint"},
    )
    endpoint: str | None = field(
        default=None, metadata={"doc": "where OTLP goes (`http://collector:4318`); left out, as `OTEL_*` says"}
    )
    sample_ratio: Ratio = field(
        default=Ratio(1.0), metadata={"doc": "of calls that come without a decision of their own (`traceparent`)"}
    )
    content: bool = field(default=False, metadata={"doc": "whether spans hold prompts and answers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = field(
        default="info", metadata={"doc": "the least level that is written"}
    )
    format: Literal["text", "json"] = field(
        default="text", metadata={"doc": "one line a call, as text or JSON, on stderr"}
    )
    buffer: Size = field(
        default=Size(4_000_000), metadata={"doc": "of lines that wait to be written; one more is dropped and counted"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Debug:
    console: bool = field(
        default=False,
        metadata={"doc": "a way into the running process, for anybody on this machine (docs/operations.md)"},
    )
    core_dumps: bool = field(
        default=False, metadata={"doc": "false: a crash leaves no memory image, which would hold keys and contents"}
    )
    port: Port = field(
        default=Port(20101), metadata={"doc": "of its terminal, on loopback; the next two are its page and its Python"}
    )
