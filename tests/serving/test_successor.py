"""serving/successor.py: a process that cannot be started is one that does not come to serve, and leaves nothing."""

from __future__ import annotations

import errno
import os

import pytest

from runestone.serving import successor
from runestone.serving.sockets import listen
from runestone.serving.successor import NoSuccessor


def no_files(*_: object, **__: object) -> tuple[int, int]:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("what", ["no files", "no program", "no memory"])
async def test_what_cannot_be_started_is_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have run out, the program is not there, the system says no: each is an answer, in words."""
    if what == "no files":
        monkeypatch.setattr(os, "pipe", no_files)
    elif what == "no program":
        monkeypatch.setattr(successor, "command", lambda: ["/nowhere/at/all"])
    else:
        monkeypatch.setattr("asyncio.create_subprocess_exec", no_files)
    with listen("127.0.0.1", 0) as listener:
        files = len(os.listdir("/proc/self/fd"))
        for start in (successor.begin, successor.replace):
            with pytest.raises(NoSuccessor):
                await start({"http": listener}, {"PATH": os.environ["PATH"]})
        assert len(os.listdir("/proc/self/fd")) == files
