"""From a file (or none) to a configuration that can be served: reads, completes from the catalog, checks what refers
to what.

Rule: every fault is reported, not the first one. Deliberately absent: defaults of keys (schema.py) and of providers
(the catalog).
"""

from __future__ import annotations

import os
import re
import ssl
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from yarl import URL

from runestone.config.front import Auth, Server, WebSocket
from runestone.config.kinds import Secret
from runestone.config.reader import Faults, Reader, nearest
from runestone.config.schema import Cache, Configuration, Provider, Simulated
from runestone.config.units import parse_duration
from runestone.core.names import matcher
from runestone.core.resilience import P95
from runestone.errors import ConfigurationError
from runestone.providers import catalog

SIMULATED = "simulated"
OFF = "off"
MOST_WORKERS = 256
DEFAULT_FILE = Path("runestone.toml")

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def load(path: Path | None, environ: Mapping[str, str], text: str | None = None) -> Configuration:
    """The configuration of `path`; of runestone.toml if there is one and `path` is None; else of the environment. A
    `text` stands for what is in the file.

    Raises ConfigurationError with every fault.
    """
    if path is None and text is None and not DEFAULT_FILE.exists():
        return _complete(Configuration(), Faults("environment"), environ, Path())
    path = path or DEFAULT_FILE
    faults = Faults(path.name)
    try:
        table = tomllib.loads(text_of(path) if text is None else text)
    except (ValueError, RecursionError) as error:  # not TOML, a number or a nesting without end
        reason = str(error).partition("\n")[0]
        raise ConfigurationError([f"{path.name}: is not TOML: {reason}"]) from None
    base = path.parent.absolute()  # so that what is shown means the same wherever it is read
    configuration = Reader(faults, environ, base).table(Configuration, table, "")
    if configuration is None:
        raise ConfigurationError(faults.lines)
    return _complete(configuration, faults, environ, base)


def text_of(path: Path) -> str:
    """What is in the file. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([f"{path.name}: cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigurationError([f"{path.name}: is not TOML: {error}"]) from None


def _complete(configuration: Configuration, faults: Faults, environ: Mapping[str, str], base: Path) -> Configuration:
    reader = Reader(faults, environ, base)
    providers = configuration.providers or _discover(environ)
    providers = {name: _complete_provider(name, entry, faults, reader) for name, entry in providers.items()}
    complete = replace(configuration, providers=providers)
    _check_models(complete, faults)
    _check_auth(complete.auth, faults)
    for name, provider in providers.items():
        if provider.passthrough and provider.api_keys:
            message = "and passthrough exclude each other: nobody could tell whose credential went up"
            faults.add_unless_known(f"providers.{name}.api_keys", message)
        if provider.passthrough and complete.auth.required:
            message = "has no use with auth.required: clients then show keys of ours, and those never go up"
            faults.add_unless_known(f"providers.{name}.passthrough", message)
    _check_hedge("routing.hedge", complete.routing.hedge, faults)
    for name, model in complete.models.items():
        _check_hedge(f"models.{name}.hedge", model.hedge or OFF, faults)
    server = _complete_server(complete.server, complete.websocket, faults, base)
    complete = replace(complete, server=server, cache=_complete_cache(complete.cache, faults, base))
    if faults.lines:
        raise ConfigurationError(faults.lines)
    return complete


def _check_hedge(path: str, hedge: str, faults: Faults) -> None:
    if hedge in (OFF, P95):
        return
    try:
        parse_duration(hedge)
    except ValueError as error:
        faults.add_unless_known(path, f'must be "{P95}", "{OFF}", or {str(error).removeprefix("must be ")}')


def _complete_server(server: Server, websocket: WebSocket, faults: Faults, base: Path) -> Server:
    if not 1 <= server.workers <= MOST_WORKERS:
        faults.add_unless_known("server.workers", f"must be 1 to {MOST_WORKERS}")
    if server.admin_port is not None and server.admin_port in (server.port, websocket.port) and server.admin_port:
        faults.add_unless_known("server.admin_port", "must be a port of its own")
    if websocket.port and websocket.port == server.port:
        faults.add_unless_known("websocket.port", "must be another than server.port")
    if server.max_connections < 1:
        faults.add_unless_known("server.max_connections", "must be at least 1")
    for name in ("head_timeout", "stall", "stuck_after"):
        if getattr(server, name) <= 0:
            faults.add_unless_known(f"server.{name}", "must be more than 0")
    if server.tls_cert is None and server.tls_key is None:
        return server
    if server.tls_cert is None or server.tls_key is None:
        faults.add_unless_known("server.tls_cert", "tls_cert and tls_key go together")
        return server
    certificate, key = base / server.tls_cert, base / server.tls_key
    try:
        # Without a password of its own OpenSSL would ask the terminal for one, and wait.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError:
        message = "it and tls_key are not a certificate and its key, in PEM and without a pass phrase"
        faults.add_unless_known("server.tls_cert", message)
    except (OSError, ValueError) as error:  # ValueError: a NUL in a name
        reason = getattr(error, "strerror", error)
        faults.add_unless_known("server.tls_cert", f"it or tls_key cannot be read: {reason}")
    return replace(server, tls_cert=str(certificate), tls_key=str(key))


def _complete_cache(cache: Cache, faults: Faults, base: Path) -> Cache:
    if not cache.enabled:
        return cache
    if cache.warm is not None:
        problem = _unreadable(base / cache.warm)
        if problem:
            faults.add("cache.warm", problem)
        cache = replace(cache, warm=str(base / cache.warm))
    if cache.persist is not None:
        problem = _unwritable(base / cache.persist)
        if problem:
            faults.add("cache.persist", problem)
        cache = replace(cache, persist=str(base / cache.persist))
    return cache


def _unreadable(path: Path) -> str:
    """Why this is no file that can be read; "" when it is one."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a file"
        with path.open("rb"):
            return ""
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', error)}"


def _unwritable(path: Path) -> str:
    """Why no file can be put here, beside or in place of what is there; "" when one can."""
    try:
        if not path.parent.is_dir():
            return "its folder does not exist"
        if not os.access(path.parent, os.W_OK):
            return "its folder cannot be written to"
        if not stat.S_ISREG(path.stat().st_mode):
            return "is there, and is not a file"
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        return f"cannot be a file: {getattr(error, 'strerror', error)}"
    return ""


def _discover(environ: Mapping[str, str]) -> dict[str, Provider]:
    """Every provider whose usual environment variable is set; the simulated one when there is none."""
    found = {
        name: Provider(kind=name)
        for name, entry in catalog.CATALOG.items()
        if entry.base_url and "{" not in entry.base_url and any(environ.get(env, "").strip() for env in entry.env)
    }
    return found or {SIMULATED: Provider(kind=SIMULATED)}


def _complete_provider(name: str, given: Provider, faults: Faults, reader: Reader) -> Provider:
    path = f"providers.{name}"
    kind = given.kind or name
    if not _PROVIDER_NAME.fullmatch(name):
        faults.add_unless_known(path, "a provider's name is letters, digits, '.', '_' and '-'")
    if not 400 <= given.simulated.status <= 599:
        faults.add_unless_known(f"{path}.simulated.status", "must be the status of an error, 400 to 599")
    if kind == SIMULATED:
        return replace(given, kind=kind, models=given.models or (SIMULATED,))
    if given.simulated != Simulated():
        faults.add_unless_known(f"{path}.simulated", "is only for kind 'simulated'; this provider is real")
    entry = catalog.CATALOG.get(kind)
    if entry is None:
        faults.add_unless_known(
            f"{path}.kind", f"unknown provider {kind!r}{nearest(kind, [*catalog.CATALOG, SIMULATED])}"
        )
        return given
    base_url = (given.base_url or entry.base_url).rstrip("/")
    _check_base_url(base_url, given.base_url, path, faults)
    keys = given.api_keys
    if not keys and not given.passthrough and entry.auth is not catalog.Auth.NONE:
        keys = _usual_key(entry, path, faults, reader)
    headers = {header: _header(header, value, path, faults, reader) for header, value in given.headers.items()}
    return replace(
        given,
        kind=kind,
        base_url=base_url,
        api_keys=keys,
        headers=headers,
        models=given.models or entry.models,
        ends_with_done=entry.ends_with_done if given.ends_with_done is None else given.ends_with_done,
        max_tokens_field=given.max_tokens_field or entry.max_tokens_field,
    )


def _check_base_url(base_url: str, given: str | None, path: str, faults: Faults) -> None:
    if not base_url:
        faults.add_unless_known(f"{path}.base_url", "is missing: this kind has no address of its own")
    elif "{" in base_url:
        example = f": {base_url}" if given is None else ""  # what was written may hold a credential
        faults.add_unless_known(f"{path}.base_url", f"is needed, with your own name in it{example}")
    elif not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s?#@]*)?", base_url):
        faults.add_unless_known(f"{path}.base_url", "must be an http(s) address without credentials, query or fragment")
    else:
        try:
            is_sound = bool(URL(base_url).host)
        except ValueError:
            is_sound = False
        if not is_sound:
            faults.add_unless_known(
                f"{path}.base_url", "must be an http(s) address with a host, and a port below 65536"
            )


def _usual_key(entry: catalog.CatalogEntry, path: str, faults: Faults, reader: Reader) -> tuple[Secret, ...]:
    for env in entry.env:
        if reader.is_set(env):
            try:
                return (reader.secret(f"env:{env}"),)
            except ValueError as error:
                faults.add_unless_known(f"{path}.api_keys", f"{env}: {error}")
                return ()
    if entry.env:
        faults.add_unless_known(
            f"{path}.api_keys", f'is missing: set {entry.env[0]}, or name your own variable: ["env:NAME"]'
        )
    return ()


def _header(name: str, value: str, path: str, faults: Faults, reader: Reader) -> str:
    if not _HEADER_NAME.fullmatch(name):
        faults.add_unless_known(f"{path}.headers", f"{name!r} is not a header's name")
    if name.lower() in _OWN_HEADERS:
        faults.add_unless_known(f"{path}.headers.{name}", "is set by the gateway itself")
    if value.startswith(("env:", "file:")):
        try:
            return reader.secret(value).value
        except ValueError as error:
            faults.add_unless_known(f"{path}.headers.{name}", str(error))
    if not value.isprintable():
        faults.add_unless_known(f"{path}.headers.{name}", "has characters that no header can carry")
    return value


def _check_models(configuration: Configuration, faults: Faults) -> None:
    providers = configuration.providers.keys()
    for name, model in configuration.models.items():
        if model.weights and len(model.weights) != len(model.targets):
            faults.add_unless_known(f"models.{name}.weights", "needs one weight for each target")
        if any(weight < 1 for weight in model.weights):
            faults.add_unless_known(f"models.{name}.weights", "a weight is at least 1")
        if not model.targets:
            faults.add_unless_known(f"models.{name}.targets", "is missing: name at least one provider/model")
        owners = {target.partition("/")[0] for target in model.targets}
        if len(owners) > 1 and any(configuration.providers[owner].passthrough for owner in owners & providers):
            message = "mix a passthrough provider with another: a client's credential is for one of them"
            faults.add_unless_known(f"models.{name}.targets", message)
        for index, target in enumerate(model.targets):
            provider, slash, upstream = target.partition("/")
            if not slash or not upstream:
                faults.add_unless_known(f"models.{name}.targets[{index}]", f"must be provider/model, not {target!r}")
            elif provider not in configuration.providers:
                hint = nearest(provider, configuration.providers)
                faults.add_unless_known(
                    f"models.{name}.targets[{index}]", f"no provider {provider!r} is configured{hint}"
                )
    for name, meant in configuration.aliases.items():
        if name in configuration.models:
            faults.add_unless_known(f"aliases.{name}", "is a name in [models] too")
        if meant in configuration.aliases:
            faults.add_unless_known(f"aliases.{name}", f"{meant!r} is itself an alias; name what it stands for")
        elif meant not in configuration.models and not _is_known(meant, configuration.providers):
            hint = nearest(meant, [*configuration.models, *configuration.providers])
            faults.add_unless_known(f"aliases.{name}", f"{meant!r} is no model of [models] or of a provider{hint}")


def _is_known(name: str, providers: Mapping[str, Provider]) -> bool:
    """Whether a provider is named, or lists the model, or could."""
    owner = name.partition("/")[0]
    return owner in providers or any(matcher(provider.models).match(name) for provider in providers.values())


def _check_auth(auth: Auth, faults: Faults) -> None:
    names: set[str] = set()
    digests: set[str] = set()
    for index, key in enumerate(auth.keys):
        path = f"auth.keys[{index}]"
        if (key.sha256 is None) == (key.key is None):
            faults.add_unless_known(path, "needs exactly one of sha256 and key")
        if key.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", key.sha256):
            faults.add_unless_known(
                f"{path}.sha256", "must be 64 hexadecimal digits, as `runestone keys new` prints them"
            )
        if key.name in names:
            faults.add_unless_known(f"{path}.name", f"{key.name!r} is used twice")
        names.add(key.name)
        if key.sha256 is not None and key.sha256.lower() in digests:
            faults.add_unless_known(f"{path}.sha256", "is the digest of a key above")
        digests.add((key.sha256 or "").lower())
    if auth.required and not auth.keys:
        faults.add_unless_known("auth.required", "is true but no [[auth.keys]] is listed: nobody could call")
