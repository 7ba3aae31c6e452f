"""A machine without Python: a root of its own, with the one-file program, the C library, and nothing else in it.

Rule: the root cannot be written to, the environment is empty but for what a test says, and the program is the very
process that was started (unshare, sh, env and chroot each become the next). Where that is not allowed (no user
namespaces, not root), `is_bare` is false and the program runs in that folder of this machine, with an empty
environment all the same.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
"""Seconds for whatever a process must do."""
PROGRAM = "opt/runestone/runestone"
C_LIBRARY = re.compile(r"(libc|libm|libdl|libpthread|librt|libutil|libresolv|ld-linux.*)\.so\.\d+")
BECOME = """
set -e
root=$1 written=$2; shift 2
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --bind "$written" "$root/tmp"
mount -o remount,ro,bind "$root"
exec env -i "$@"
"""


@dataclass
class Server:
    """A running one."""

    url: str
    process: subprocess.Popen[str]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def children(self) -> str:
        """The ids of processes it has started."""
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()

    def worked(self) -> float:
        """Seconds of a processor it has taken, what it was before included."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def ended(self) -> int:
        """The exit code."""
        return self.process.wait(PATIENCE)


class Machine:
    """`root` is the folder that is its root; the only one that can be written there is /tmp, outside it `temporary`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.root, self.temporary = folder / "root", folder / "temporary"
        for name in ("proc", "tmp", "opt/runestone", "lib", "usr/bin"):
            (self.root / name).mkdir(parents=True)
        self.temporary.mkdir()
        (self.root / "lib64").symlink_to("lib")
        shutil.copy2(program, self.root / PROGRAM)
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
        for library in re.findall(r"/\S+", listed):
            for file in Path(library).parent.iterdir():
                if C_LIBRARY.fullmatch(file.name):
                    shutil.copy(file, self.root / "lib" / file.name)
        self.is_bare = self._run([*self._become({}), "/" + PROGRAM, "version"]).returncode == 0

    def command(self, *arguments: str, name: str = PROGRAM, environ: Mapping[str, str] | None = None) -> list[str]:
        if not self.is_bare:
            return ["env", "-i", *_pairs(environ), str(self.root / name), *arguments]
        return [*self._become(environ or {}), f"/{name}", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return self._run(self.command(*arguments))

    def path(self, name: str) -> str:
        """Of a file of the root, as the program sees it."""
        return f"/{name}" if self.is_bare else str(self.root / name)

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def link(self, name: str) -> None:
        (self.root / name).symlink_to(os.path.relpath(self.root / PROGRAM, (self.root / name).parent))

    def files(self) -> set[str]:
        """All there are, but for the links."""
        return {
            str((Path(folder) / name).relative_to(self.root))
            for folder, _, names in os.walk(self.root)
            for name in names
        }

    @contextmanager
    def serve(
        self,
        *arguments: str,
        config: str | None = None,
        name: str = PROGRAM,
        environ: Mapping[str, str] | None = None,
    ) -> Iterator[Server]:
        """On a free port; killed at the end if it still runs."""
        more = () if config is None else ("--config", self.path(config))
        with self._serving(self.command("serve", "--port", "0", *more, *arguments, name=name, environ=environ)) as one:
            yield one

    @contextmanager
    def serve_outside(self, name: str) -> Iterator[Server]:
        """The same program on this machine, which has a shell."""
        with self._serving(["env", "-i", str(self.root / name), "serve", "--port", "0"]) as one:
            yield one

    @contextmanager
    def _serving(self, command: list[str]) -> Iterator[Server]:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=self.temporary, start_new_session=True
        )
        with process:
            try:
                assert process.stderr is not None
                said = ""
                while not (address := re.search(r"serves on (https?://\S+)", said)):
                    line = process.stderr.readline()
                    assert line, f"it ended: {said}"
                    said += line
                yield Server(address[1], process)
            finally:
                process.kill()

    def _become(self, environ: Mapping[str, str]) -> list[str]:
        mine = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        become = ["unshare", *mine, "--mount", "sh", "-c", BECOME, "sh", str(self.root), str(self.temporary)]
        return [*become, *_pairs(environ), shutil.which("chroot") or "chroot", str(self.root)]

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.temporary, capture_output=True, text=True, timeout=PATIENCE, check=False
        )


def _pairs(environ: Mapping[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in (environ or {}).items()]
