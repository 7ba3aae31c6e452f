"""`make fuzz`: rounds of all tests in this folder, each with another seed, until the time is over.

    RUNESTONE_FUZZ_SECONDS  how long (300); the round that runs then is finished
    RUNESTONE_FUZZ_SCALE    how many times the suite's examples a round tries (20)
    RUNESTONE_FUZZ          set, test_schemathesis.py is in every round too, at its full length (20 minutes and more)

Ends with 1 after the first round that found something, and with the line that finds it again. Arguments go to pytest:
`python -m tests.fuzz tests/fuzz/test_sse_fuzz.py`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from time import monotonic

FOLDER = Path(__file__).parent
TEST = 3600
"""Seconds one test may take."""


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program's own words


def main(arguments: list[str]) -> int:
    """The exit code."""
    seconds = float(os.environ.get("RUNESTONE_FUZZ_SECONDS", "300"))
    scale = os.environ.get("RUNESTONE_FUZZ_SCALE", "20")
    where = arguments or [str(FOLDER)]
    if not os.environ.get("RUNESTONE_FUZZ"):
        where.append(f"--ignore={FOLDER / 'test_schemathesis.py'}")
    over, rounds = monotonic() + seconds, 0
    while monotonic() < over:
        rounds += 1
        seed = random.SystemRandom().getrandbits(32)
        options = ["-n0", "-p", "no:cacheprovider", f"--timeout={TEST}", f"--hypothesis-seed={seed}", *where]
        tell(f"round {rounds}, seed {seed}, scale {scale}")
        begun = monotonic()
        environ = {**os.environ, "RUNESTONE_FUZZ_SCALE": scale}
        code = subprocess.run([sys.executable, "-m", "pytest", *options], env=environ, check=False).returncode
        tell(f"round {rounds} took {monotonic() - begun:.0f} s")
        if code:
            tell(f"again: RUNESTONE_FUZZ_SCALE={scale} {sys.executable} -m pytest {' '.join(options)}")
            return code
    tell(f"nothing found in {rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
