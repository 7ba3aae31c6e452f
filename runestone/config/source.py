"""A configuration that is read again and again, and what of it was good, for processes that start later.

A worker may have to be started while the file on disk has a fault: then it begins with the text that is in force.
Rule: the copy is for this user alone, in a folder of the gateway's own; it holds what the file holds, references and
digests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from runestone.config.load import DEFAULT_FILE, load, text_of
from runestone.config.schema import Configuration

COPY = "in_force.toml"


class Source:
    """`path` as `load` takes it; `change` puts what the command line says above what the file says; in `folder` lies
    the copy, None without one.
    """

    def __init__(
        self,
        path: Path | None,
        environ: Mapping[str, str],
        change: Callable[[Configuration], Configuration],
        folder: Path | None = None,
    ) -> None:
        self._path = path
        self._environ = environ
        self._change = change
        self._text: str | None = None
        self.folder = folder

    @property
    def file(self) -> Path | None:
        """What is read; None where the environment is all there is."""
        path = self._path or DEFAULT_FILE
        return path if self._path is not None or path.exists() else None

    def first(self) -> Configuration:
        """The one in force where there is a copy, else the file's. Raises ConfigurationError."""
        copy = self.folder / COPY if self.folder is not None else None
        if copy is None or not copy.exists():
            return self.read()
        self._text = copy.read_text(encoding="utf-8")
        return self._change(load(self._path, self._environ, self._text))

    def read(self) -> Configuration:
        """The file's. Raises ConfigurationError."""
        file = self.file
        self._text = text_of(file) if file is not None else None
        return self._change(load(self._path, self._environ, self._text))

    def keep(self) -> None:
        """What was read last is in force from now on."""
        if self.folder is None or self._text is None:
            return
        fresh = self.folder / f"{COPY}.{os.getpid()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._text)
        fresh.replace(self.folder / COPY)
