"""`make demo`: a real model on this machine behind a gateway, and a line to try it with. Ctrl-C ends both."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.real.llama import NAME, llama, model_file

PORT = 4003
CONFIGURATION = """
[server]
port = {port}

[providers.local]
kind = "llamacpp"
base_url = "{url}/v1"
models = ["{name}"]
"""
TRY = """
A real model ({name}) answers behind the gateway. In another terminal:

  curl -N http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{name}", "stream": true, "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'

or as an Anthropic client would ask it:

  curl -N http://127.0.0.1:{port}/v1/messages -H 'content-type: application/json' \\
    -d '{{"model": "{name}", "stream": true, "max_tokens": 100, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Ctrl-C ends both.
"""


def configuration(url: str, port: int) -> str:
    """Of a gateway before the server at `url`."""
    return CONFIGURATION.format(url=url, port=port, name=NAME)


def main(port: int = PORT) -> int:
    """Serves until Ctrl-C; the gateway's exit code."""
    if model_file() is None:
        sys.stderr.write("the `real` extra is not installed; `make demo` installs it\n")
        return 2
    with tempfile.TemporaryDirectory() as folder, llama() as url:
        file = Path(folder, "runestone.toml")
        file.write_text(configuration(url, port))
        sys.stdout.write(TRY.format(port=port, name=NAME))
        sys.stdout.flush()
        with subprocess.Popen([sys.executable, "-m", "runestone", "serve", "--config", str(file)]) as gateway:
            try:
                return gateway.wait()
            except KeyboardInterrupt:  # the terminal has told the gateway too; it drains
                return gateway.wait()


if __name__ == "__main__":
    raise SystemExit(main())
