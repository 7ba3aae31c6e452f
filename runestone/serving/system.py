"""What is asked of the operating system, and what is told to systemd.

Rule: where the system has no such thing, the server serves without it.
Source: sd_notify(3) for the messages; the protocol is a datagram, and needs no library.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import Mapping
from time import clock_gettime_ns

PR_SET_DUMPABLE = 4
"""prctl(2)."""

_log = logging.getLogger("runestone")


class Notifier:
    """Tells systemd how it goes; nothing where there is no NOTIFY_SOCKET."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # Linux's abstract names
            self._address = "\0" + self._address[1:]
        self._is_watched = environ.get("WATCHDOG_USEC", "").isdigit()

    def ready(self, told: str) -> None:
        """It serves."""
        self._tell(f"READY=1\nSTATUS={told}")

    def take_over(self, told: str) -> None:
        """It serves, and is the service from now on: the process before goes."""
        self._tell(f"MAINPID={os.getpid()}\nREADY=1\nSTATUS={told}")

    def reloading(self) -> None:
        """It reads its configuration again; `ready` follows, whatever comes of it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={clock_gettime_ns(1) // 1000}")

    def stopping(self) -> None:
        """It finishes what runs."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The loop goes round."""
        if self._is_watched:
            self._tell("WATCHDOG=1")

    def mute(self) -> None:
        """Another process is the service now."""
        self._address = ""

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                there.setblocking(False)
                there.sendto(message.encode(), self._address)
        except OSError as error:
            _log.warning("systemd cannot be told %s: %s", message.partition("\n")[0], error.strerror or error)


def is_first_process() -> bool:
    """Whether this is the first process of its container: when that ends, everything does."""
    return os.getpid() == 1


def raise_file_limit(needed: int) -> None:
    """Takes what the system allows, and says so when that is less than may be `needed`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        if wanted < needed:
            _log.warning("the file limit is %d, and the pools may need %d: raise it (ulimit -n)", wanted, needed)


def keep_memory_private() -> None:
    """No image of this process's memory, which holds keys and contents, reaches a disk by a crash; on Linux no other
    process of the same user can read it either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        # The limit alone does not hold for a handler that dumps are piped to (core(5)).
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def settle_memory() -> None:
    """Takes what was built out of the collector's sight, and has it look at the rest less often.

    Calls free what they make by reference counting. By default the collector runs every few calls, and walking the
    whole program each time is what the slowest of them wait for.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
