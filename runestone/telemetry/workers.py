"""The metrics of several processes as one scrape: each series says whose it is, by the label `worker`.

Not added up: where a worker begins anew its counters do, and a sum that falls would be taken by Prometheus for a new
beginning of all of it. `sum without (worker) (...)` adds up what can be added.
"""

from __future__ import annotations

from collections.abc import Mapping


def labelled(texts: Mapping[int, bytes]) -> bytes:
    """The texts of the workers, by their number, as one: families together, as the format wants it."""
    heads: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in texts.items():
        label = f'worker="{worker}"'
        family = ""
        for line in text.decode().split("\n"):
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                heads[family] = line + "\n"
                samples.setdefault(family, [])
            elif line.startswith("# TYPE "):
                heads[family] += line + "\n"
            elif line:
                samples[family].append(_with(label, line) + "\n")
    return "".join(head + "".join(samples[family]) for family, head in heads.items()).encode()


def _with(label: str, sample: str) -> str:
    """The first brace of a sample, or else its first blank, stands behind its name."""
    brace, blank = sample.find("{"), sample.find(" ")
    if 0 <= brace < blank:
        return f"{sample[: brace + 1]}{label},{sample[brace + 1 :]}"
    return f"{sample[:blank]}{{{label}}}{sample[blank:]}"
