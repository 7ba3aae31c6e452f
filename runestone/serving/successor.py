"""A new process of the executable, which may have been replaced, on the sockets of this one.

    this process                      the new one
    starts it, sockets inherited ──▶  reads the configuration, builds, listens
    waits                        ◀──  says that it serves (a pipe)
    stops accepting, finishes         serves

Both accept for a moment, from the same queue: no connection is refused, none is lost. A successor that fails, or is
not ready in time, is ended, and everything stays as it was.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

from runestone.serving.sockets import HANDED_OVER, Listeners, handed_on

READY = "RUNESTONE_READY"
"""The descriptor to which the new process writes when it serves."""
PATIENCE = 60.0
"""Seconds it may take to get there."""
ENDING = 5.0
"""Seconds one that failed has to end before it is killed."""


class NoSuccessor(Exception):
    """It did not come to serve; the text says why."""


def command() -> Sequence[str]:
    """What starts this program anew, with the arguments it was started with."""
    if getattr(sys, "frozen", False):  # the one-file binary
        return [sys.executable, *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]


def environment(listeners: Listeners, ready: int, environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """For a process that takes `listeners` over and writes to `ready`."""
    told = {
        name: value for name, value in environ.items() if name not in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    }
    told |= {HANDED_OVER: handed_on(listeners), READY: str(ready), **more}
    if getattr(sys, "frozen", False):
        told["PYINSTALLER_RESET_ENVIRONMENT"] = "1"  # it unpacks itself anew, and cleans up its own files alone
    return told


async def start(listeners: Listeners, environ: Mapping[str, str], **more: str) -> asyncio.subprocess.Process:
    """The process, which serves. Raises NoSuccessor."""
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command(),
            env=environment(listeners, writing, environ, **more),
            pass_fds=[writing, *(listener.fileno() for listener in listeners.values())],
        )
    except OSError as error:
        os.close(reading)
        raise NoSuccessor(f"{sys.executable} cannot be started: {error.strerror}") from None
    finally:
        os.close(writing)
    try:
        async with asyncio.timeout(PATIENCE):
            said = await _read(reading)
    except TimeoutError:
        await end(process)
        raise NoSuccessor(f"the new process did not serve within {PATIENCE:.0f} s") from None
    except asyncio.CancelledError:
        await end(process)
        raise
    if not said:
        await end(process)
        raise NoSuccessor(f"the new process ended before it served (exit {process.returncode}); its own lines say why")
    return process


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends a process of ours."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(ENDING):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def say_ready(environ: Mapping[str, str]) -> None:
    """Tells who waits for it that this process serves."""
    if READY in environ:
        descriptor = int(environ[READY])
        os.write(descriptor, b"1")
        os.close(descriptor)


async def _read(descriptor: int) -> bytes:
    """What is written to it; b"" when nothing ever will be. Closes it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb") as pipe:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            return await reader.read(1)
        finally:
            transport.close()
