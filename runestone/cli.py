"""The commands: serve, check, keys new, models, top, tail, version.

Rule: exit codes are 0 done, 1 failed at run time, 2 bad usage or configuration; a failure is one clear line, never a
traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version as installed
from ipaddress import ip_address
from pathlib import Path

import uvloop

from runestone import __version__
from runestone.config.kinds import Port
from runestone.config.load import DEFAULT_FILE, SIMULATED, load
from runestone.config.reader import Faults, Reader
from runestone.config.render import render
from runestone.config.schema import Configuration
from runestone.console.remote import LookFailed, Remote
from runestone.console.tail import tail
from runestone.console.top import live, once
from runestone.core.keys import digest, new_key
from runestone.errors import ConfigurationError
from runestone.serving.family import source_of, worker_of
from runestone.serving.process import Process
from runestone.serving.successor import WORKER, NoSuccessor
from runestone.serving.workers import Parent
from runestone.telemetry import logs
from runestone.wiring.routing import model_names

DONE, FAILED, BAD_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except ConfigurationError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return BAD_USAGE
    except LookFailed as error:
        print(f"runestone: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return DONE
    except BrokenPipeError:
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runestone", description="An LLM gateway.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    served = add("serve", "serve until SIGTERM", _serve)
    served.add_argument("--host", help="overrides server.host")
    served.add_argument("--port", type=_port, help="overrides server.port")
    served.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="overrides log.level")
    checked = add("check", "validate the configuration and print the effective one, secrets redacted", _check)
    listed = add("models", "the models, and where each would go", _models)
    for command in (served, checked, listed):
        command.add_argument("--config", type=Path, metavar="FILE", help="default: runestone.toml, if there is one")
    topped = add("top", "what a gateway does right now, over its admin endpoints", _top)
    topped.add_argument("--once", action="store_true", help="one picture as plain text; needs no terminal")
    tailed = add("tail", "the calls of a gateway as they end, over its admin endpoints", _tail)
    tailed.add_argument("--json", action="store_true", help="an object a line")
    for command in (topped, tailed):
        command.add_argument("--url", default="http://127.0.0.1:4003", help="of the gateway; default: %(default)s")
        command.add_argument(
            "--key", type=_secret, metavar="env:NAME", help="an admin key, as env:NAME or file:PATH: never itself"
        )
    keys = commands.add_parser("keys", help="client keys").add_subparsers(required=True, metavar="COMMAND")
    new = keys.add_parser("new", help="print a fresh key once, and the lines for the configuration")
    new.add_argument("--name", default="my-app", help="what logs will call it")
    new.add_argument("--admin", action="store_true", help="one that may use the admin endpoints")
    new.set_defaults(command=_new_key)
    add("version", "versions of the program and what it stands on", _version)
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:9]) > 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)


def _secret(reference: str) -> str:
    try:
        return Reader(Faults("--key"), os.environ, Path()).secret(reference).value
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _serve(arguments: argparse.Namespace) -> int:
    folder = (arguments.config or DEFAULT_FILE).resolve().parent
    sys.path.append(str(folder))  # middlewares may stand beside the configuration that names them

    source = source_of(arguments.config, os.environ, lambda told: _overridden(told, arguments))
    configuration = source.first()
    server, log = configuration.server, configuration.log
    with logs.set_up(log.level, log.format, log.buffer, worker_of(os.environ)) as written:

        def ready(address: str) -> None:
            if WORKER in os.environ:
                return  # its parent says it for all
            for line in _banner(configuration, address):
                written.say(line)  # in its turn, and without waiting: whoever reads stderr may be slow

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                if server.workers > 1 and WORKER not in os.environ:
                    runner.run(Parent(configuration, source, environ=os.environ, ready=ready).run())
                else:
                    runner.run(Process(configuration, source, environ=os.environ, ready=ready).run())
        except OSError as error:
            reason = error.strerror or error.__class__.__name__
            written.say(f"runestone: cannot serve on {error.filename or f'{server.host}:{server.port}'}: {reason}")
            return FAILED
        except NoSuccessor as error:
            written.say(f"runestone: a worker cannot serve: {error}")
            return FAILED
    return DONE


def _overridden(configuration: Configuration, arguments: argparse.Namespace) -> Configuration:
    server, log = configuration.server, configuration.log
    if arguments.host is not None:
        server = replace(server, host=arguments.host)
    if arguments.port is not None:
        server = replace(server, port=Port(arguments.port))
    if arguments.log_level is not None:
        log = replace(log, level=arguments.log_level)
    return replace(configuration, server=server, log=log)


def _banner(configuration: Configuration, address: str) -> Iterator[str]:
    names = list(configuration.providers)
    yield f"runestone {__version__} serves on {address}  (providers: {', '.join(names)})"
    host = configuration.server.host
    if not configuration.auth.required and not is_loopback(host):
        yield f"anybody who can reach {host} can call, without a key: auth.required = true asks for one"
    if all(provider.kind == SIMULATED for provider in configuration.providers.values()):
        yield "only the simulated model is enabled: set OPENAI_API_KEY, ANTHROPIC_API_KEY, ... or add [providers.NAME]"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _top(arguments: argparse.Namespace) -> int:
    remote = Remote(arguments.url, arguments.key)
    if arguments.once:
        once(remote, sys.stdout)
    else:
        live(remote)
    return DONE


def _tail(arguments: argparse.Namespace) -> int:
    tail(Remote(arguments.url, arguments.key), sys.stdout, sys.stderr, as_json=arguments.json)
    return DONE


def _check(arguments: argparse.Namespace) -> int:
    source = source_of(arguments.config, os.environ, lambda told: told)
    shown = render(source.read())
    file = source.file
    print(f"# {file}" if file is not None else f"# There is no {DEFAULT_FILE} here: from the environment.")
    print(shown, end="")
    return DONE


def _models(arguments: argparse.Namespace) -> int:
    configuration = load(arguments.config, os.environ)
    names = model_names(configuration)
    rows = [(name, ", ".join(map(str, names.resolve(name)))) for name in names.names()]
    for provider, entry in configuration.providers.items():
        rows += [(pattern, f"{provider}/*") for pattern in entry.models if any(sign in pattern for sign in "*?[")]
        if entry.kind != SIMULATED:
            rows.append((f"{provider}/*", f"{provider}/*"))
    width = max((len(name) for name, _ in rows), default=0)
    for name, targets in rows:
        print(f"{name:{width}}  ->  {targets}")
    return DONE


def _new_key(arguments: argparse.Namespace) -> int:
    key = new_key()
    print(f"{key}\n\n# The key is shown this once. In runestone.toml:\n[[auth.keys]]")
    print(f'name = "{_toml_safe(arguments.name)}"\nsha256 = "{digest(key)}"')
    if arguments.admin:
        print("admin = true")
    return DONE


def _toml_safe(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable()).replace("\\", "\\\\").replace('"', '\\"')


def _version(arguments: argparse.Namespace) -> int:
    print(f"runestone {__version__}")
    print(f"python {platform.python_version()}")
    for package in ("aiohttp", "uvloop"):
        print(f"{package} {installed(package)}")
    return DONE
