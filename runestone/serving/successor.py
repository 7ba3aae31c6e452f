"""A new process of the executable, which may have been replaced, on the sockets of this one.

    this process                      the new one
    starts it, sockets inherited ──▶  reads the configuration, builds, listens
    waits                        ◀──  says that it serves (a pipe)
    stops accepting, finishes         serves

Both accept for a moment, from the same queue: no connection is refused, none is lost. A successor that fails, or is
not ready in time, is ended, and everything stays as it was. Workers (workers.py) are started in the same way; they go
on to give signs of life over the pipe.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from runestone.serving.sockets import HANDED_OVER, Listeners, handed_on

RELOAD, LEAVE = signal.SIGUSR1, signal.SIGWINCH
"""What a parent tells its workers. What an operator sends to one of them (SIGHUP, SIGUSR2), it passes on to the parent.
"""
HEIR = "RUNESTONE_HEIR"
"""There where this process replaces another."""
WORKER = "RUNESTONE_WORKER"
"""index/count, where this process is a worker."""
READY = "RUNESTONE_READY"
"""The descriptor to which the new process writes when it serves."""
PATIENCE = 60.0
"""Seconds it may take to get there."""
EACH = 10
"""Beats between two signs of life of a worker."""
ENDING = 5.0
"""Seconds one that failed has to end before it is killed."""


class NoSuccessor(Exception):
    """It did not come to serve; the text says why."""


class Child:
    """A process of ours, and what it says over its pipe."""

    def __init__(
        self, process: asyncio.subprocess.Process, said: asyncio.StreamReader, pipe: asyncio.BaseTransport
    ) -> None:
        self._process = process
        self._said = said
        self._pipe = pipe

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    @property
    def exit(self) -> int | None:
        """How it ended: its code, or the signal as a negative number."""
        return self._process.returncode

    async def breathes(self, seconds: float) -> bool:
        """True at its next sign of life, False when it has ended. Raises TimeoutError when there is neither within
        `seconds`.
        """
        async with asyncio.timeout(seconds):
            if await self._said.read(1024):
                return True
            await self._process.wait()
            return False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it is there to get it."""
        if self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once."""
        self.signal(signal.SIGKILL)

    async def wait(self) -> None:
        """Until it has ended."""
        await self._process.wait()
        self.let_go()

    async def end(self) -> None:
        """Ends it; what does not end in time is killed."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(ENDING):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        self.let_go()

    def let_go(self) -> None:
        """Listens to it no more."""
        self._pipe.close()


class Pulse:
    """What this process tells who started it: that it serves; a worker also, again and again, that it goes on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._descriptor = int(environ[READY]) if READY in environ else -1
        self._goes_on = WORKER in environ
        self._beats = 0
        if self._descriptor >= 0:
            os.set_inheritable(self._descriptor, False)
            os.set_blocking(self._descriptor, False)

    def ready(self) -> None:
        """It serves, and says which it is."""
        self._write(b"%d\n" % os.getpid())
        if self._descriptor >= 0 and not self._goes_on:
            os.close(self._descriptor)
            self._descriptor = -1

    def beat(self) -> bool:
        """The loop goes round; False when whoever started it is gone."""
        self._beats += 1
        return self._write() if self._goes_on and self._beats % EACH == 0 else True

    def _write(self, word: bytes = b".") -> bool:
        if self._descriptor >= 0:
            try:
                os.write(self._descriptor, word)
            except BlockingIOError:  # it has enough to read
                return True
            except BrokenPipeError:
                return False
        return True


def command() -> Sequence[str]:
    """What starts this program anew, with the arguments it was started with."""
    return [sys.executable, *sys.orig_argv[1:]]


def environment(listeners: Listeners, ready: int, environ: Mapping[str, str]) -> dict[str, str]:
    """For a process that takes `listeners` over and writes to `ready`."""
    told = {name: value for name, value in environ.items() if not name.startswith("LISTEN_")}
    told |= {HANDED_OVER: handed_on(listeners, environ), READY: str(ready)}
    return told


async def replace(listeners: Listeners, environ: Mapping[str, str]) -> int:
    """A process that serves in place of this one; its id. Raises NoSuccessor.

    It is nobody's child, as systemd wants the new process of a service: the shell that starts it goes at once.
    """
    told = ["/bin/sh", "-c", '"$@" &', "sh", *command()]
    shell, said, pipe = await _started(told, listeners, environ, {HEIR: "1"}, apart=True)
    word = b""
    try:
        async with asyncio.timeout(PATIENCE):
            word = await said.readline()
            await shell.wait()
    except TimeoutError:
        raise NoSuccessor(f"the new process did not serve within {PATIENCE:.0f} s") from None
    finally:
        if not word:
            await _end_group(shell.pid, said)
        pipe.close()
    if not word:
        raise NoSuccessor("the new process ended before it served; its own lines say why")
    return int(word)


async def begin(listeners: Listeners, environ: Mapping[str, str], **more: str) -> Child:
    """A process of ours that serves; `more` is added to its environment. Raises NoSuccessor."""
    process, said, pipe = await _started(command(), listeners, environ, more)
    child = Child(process, said, pipe)
    try:
        async with asyncio.timeout(PATIENCE):
            word = await said.readline()
    except TimeoutError:
        await child.end()
        raise NoSuccessor(f"the new process did not serve within {PATIENCE:.0f} s") from None
    except asyncio.CancelledError:
        await child.end()
        raise
    if not word:
        await child.end()
        raise NoSuccessor(f"the new process ended before it served (exit {child.exit}); its own lines say why")
    return child


async def _started(
    told: Sequence[str],
    listeners: Listeners,
    environ: Mapping[str, str],
    more: Mapping[str, str],
    *,
    apart: bool = False,
) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.BaseTransport]:
    """A process, what it says over its pipe, and the pipe; `apart` in a session, and a group, of its own."""
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise NoSuccessor(f"there is no pipe to it: {error.strerror}") from None
    try:
        process = await asyncio.create_subprocess_exec(
            *told,
            env=environment(listeners, writing, {**environ, **more}),
            pass_fds=[writing, *(listener.fileno() for listener in listeners.values())],
            start_new_session=apart,
        )
    except OSError as error:
        os.close(reading)
        raise NoSuccessor(f"{told[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(writing)
    said = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(said), os.fdopen(reading, "rb")
    )
    return process, said, pipe


async def _end_group(group: int, said: asyncio.StreamReader) -> None:
    """Ends what was started apart: told to, and killed where that does not help. Its pipe says when it has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING):
                await said.read()
                return
