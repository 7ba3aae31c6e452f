"""Where the libraries that ask `certifi` find root certificates: in the archive this stands for certifi/core.py.

The machine's own where there are any (as Debian's own certifi has it), else certifi's, in a file in memory.
"""

import os
import ssl
from functools import cache
from importlib.resources import files

from _runestone_boot import SYSTEM_ROOTS


@cache
def where() -> str:
    """A path that this process can open."""
    usual = ssl.get_default_verify_paths().cafile  # $SSL_CERT_FILE, or OpenSSL's own
    for place in (usual, *SYSTEM_ROOTS):
        if place is not None and os.path.exists(place):
            return place
    memory = os.memfd_create("cacert.pem")
    with open(memory, "w", encoding="ascii", closefd=False) as file:
        file.write(contents())
    return f"/proc/self/fd/{memory}"


def contents() -> str:
    """certifi's own, as PEM."""
    return files("certifi").joinpath("cacert.pem").read_text(encoding="ascii")
