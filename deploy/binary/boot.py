"""The first Python of the one-file program: how native modules and root certificates are found without files.

Everything else Python does by itself: the program is a zip archive as well, and `/proc/self/exe` its one path. Native
modules and libraries lie in front of the archive. In the archive this is `_runestone_boot`; `_runestone_natives` beside
it, which says where they are, is written by build.py.

Rule: nothing is written to disk, with one exception that is named (UNPACKED). Deliberately absent: `site`, and with it
the PYTHON... variables and any site-packages of the machine.
"""

from __future__ import annotations

import _imp
import _thread
import errno
import os
import sys
import zlib
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType
from zipimport import zipimporter

from _runestone_natives import CERTIFICATES, EXTENSIONS, LIBRARIES, UNPACKED

ARCHIVE = "/proc/self/exe"
FIRST = 64
"""The slashes a path begins with are what tells it from the others; launcher.c has taken the shorter ones."""
_BLOCK = 1 << 18
_MFD_EXEC = 0x10
SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def run() -> None:
    """The command line; ends the process."""
    archive = zipimporter(ARCHIVE)
    sys.meta_path.append(Natives())
    import _ctypes  # noqa: F401, PLC0415 - here, while there is one thread: see Natives.load

    sys.meta_path.insert(0, Unpacked(archive))
    _trust()
    from runestone.cli import main  # noqa: PLC0415 - can be found only now

    raise SystemExit(main())


class Natives:
    """Finds native modules, after everything else has been asked."""

    def __init__(self) -> None:
        self.lock = _thread.RLock()
        self._loaded: set[str] = set()
        self._placed = 0

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in EXTENSIONS:
            return None
        origin = f"{ARCHIVE}/{name.replace('.', '/')}.so"
        return ModuleSpec(name, _Native(name, origin, self), origin=origin)

    def place(self, name: str, where: tuple[int, int, bool]) -> tuple[int, str]:
        """An anonymous file with what lies there (from, how long, whether deflated): its descriptor, to be closed
        after loading, and a path that no other was or will be loaded by: the dynamic linker knows libraries by their
        path, and descriptors are used again. Raises OSError.
        """
        self._placed += 1
        at, left, deflated = where
        file = _anonymous(name)
        unpacking = zlib.decompressobj()
        program = os.open(ARCHIVE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while left:
                block = os.pread(program, min(left, _BLOCK), at)
                at, left = at + len(block), left - len(block)
                data = memoryview(unpacking.decompress(block) if deflated else block)
                while data:
                    data = data[os.write(file, data) :]
        finally:
            os.close(program)
        return file, f"{'/' * (FIRST + self._placed)}proc/self/fd/{file}"

    def load(self, library: str) -> None:
        """Whoever needs a library of that name has it from then on. Raises OSError."""
        if library in self._loaded:
            return
        import _ctypes  # noqa: PLC0415 - is there: imported by another thread now, it would wait for our lock

        file, path = self.place(library, LIBRARIES[library])
        try:
            _ctypes.dlopen(path, os.RTLD_NOW)
        finally:
            os.close(file)
        self._loaded.add(library)


class _Native(ExtensionFileLoader):
    def __init__(self, name: str, origin: str, natives: Natives) -> None:
        super().__init__(name, origin)
        self._natives = natives

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        where, needed = EXTENSIONS[spec.name]
        natives = self._natives
        with natives.lock:  # two threads must not load a library twice
            for library in needed:
                natives.load(library)
            file, path = natives.place(spec.name, where)
        there, spec.origin = spec.origin, path
        try:
            return _imp.create_dynamic(spec)
        finally:
            spec.origin = there
            os.close(file)


class Unpacked:
    """Packages that read their own folder as files are put into one, until the process ends; nobody imports them
    unless `[debug] console` is on.
    """

    def __init__(self, archive: zipimporter) -> None:
        self._archive = archive
        self._folders: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        entries = UNPACKED.get(name)
        if entries is None:
            return None
        import atexit  # noqa: PLC0415 - only here
        import shutil  # noqa: PLC0415
        import tempfile  # noqa: PLC0415

        if name not in self._folders:
            folder = self._folders[name] = tempfile.mkdtemp(prefix="runestone-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            for entry in entries:
                place = os.path.join(folder, entry)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                with open(place, "wb") as file:
                    file.write(self._archive.get_data(f"{ARCHIVE}/{entry}"))
        return PathFinder.find_spec(name, [self._folders[name]])


def _anonymous(name: str) -> int:
    """As in launcher.c."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as error:
        if error.errno == errno.EINVAL:  # before Linux 6.3
            return os.memfd_create(name, os.MFD_CLOEXEC)
        return os.open(os.environ.get("TMPDIR", "/tmp"), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o700)  # noqa: S108


def _trust() -> None:
    """OpenSSL looks where the machine it was built on has its roots; other systems have them elsewhere, or nowhere."""
    if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return
    usual, folder = CERTIFICATES
    if os.path.exists(usual) or (os.path.isdir(folder) and os.listdir(folder)):
        return
    for place in SYSTEM_ROOTS:
        if os.path.exists(place):
            os.environ["SSL_CERT_FILE"] = place
            return
    import ssl  # noqa: PLC0415 - costs time, and few machines come here

    def built_in(context: ssl.SSLContext, purpose: object = None) -> None:
        import certifi  # noqa: PLC0415

        context.load_verify_locations(cadata=certifi.contents())

    ssl.SSLContext.load_default_certs = built_in  # type: ignore[method-assign, assignment]
