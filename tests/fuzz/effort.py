"""How much is tried: a little and always the same in the suite, much and always anew with `make fuzz`.

`RUNESTONE_FUZZ_SCALE=N` multiplies the examples by N and draws them from a seed of pytest's `--hypothesis-seed`.
Rule: what the suite tries is the same on every machine; what `make fuzz` finds is found again with its seed.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

SCALE = int(os.environ.get("RUNESTONE_FUZZ_SCALE", "0"))
"""0 in the suite."""


def effort(examples: int, *, steps: int = 50) -> settings:
    """For a test that tries so many `examples` in the suite; a state machine takes so many `steps` in each."""
    return settings(
        max_examples=examples * (SCALE or 1),
        stateful_step_count=steps,
        derandomize=not SCALE,
        database=None,
        deadline=None,  # how long an example takes says something of the machine, not of the code
        print_blob=True,
        phases=[phase for phase in Phase if phase is not Phase.explain],  # slow, and a small example needs none
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
