"""The pipelines of a configuration: which stages a call passes, in which order, those of others among them.

A list of `[pipelines]` holds names of built-in stages (gateway/pipeline.py has their order and its reasons), names of
entry points of the group `runestone.middlewares`, or "package.module:attribute"; "..." stands for the built-in stages
that are not named, in their usual order.
Rule: what would make a pipeline useless or unsafe is refused at the start, with every fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from runestone.config.reader import nearest
from runestone.config.schema import Pipelines as Settings
from runestone.edge.admin import Wrapper, admin_key
from runestone.errors import ConfigurationError
from runestone.gateway.contents import Contents
from runestone.gateway.middleware import Guard, Watcher
from runestone.gateway.pipeline import Next, Stage, compose
from runestone.gateway.pipelines import Chain, Pipelines
from runestone.gateway.timed import LOOKUP, Timed, TracedSend
from runestone.gateway.tolerated import Tolerated
from runestone.middleware import OPEN
from runestone.telemetry.tracer import Tracer

ORDER = (
    *("meter", "access", "limits", "cache", "coalesce", "store", "batch"),
    *("route", "continue", "hedge", "fallback", "guard"),
)
NEEDED = frozenset({"meter", "access", "limits", "route", "fallback", "guard"})
"""Without them a call is not recorded, not refused where it must be, or goes nowhere."""
FREE = frozenset({"access", "limits"})
"""May stand anywhere in front of the route; the others keep their order."""
REST = "..."
ADMIN_KEY = "admin_key"
GROUP = "runestone.middlewares"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is told of stages: `seconds(name)` gives what is told its time, `failed(name)` counts a failure of
    an observer; `tracer` begins traces, None where there are none.
    """

    seconds: Callable[[str], Callable[[float], None]]
    failed: Callable[[str], None]
    tracer: Tracer | None


def pipelines_of(settings: Settings, built_in: Mapping[str, Sequence[Stage]], send: Next, watch: Watch) -> Pipelines:
    """The calls' way in. Raises ConfigurationError with every fault."""
    faults: list[str] = []
    tracer = watch.tracer

    def chain(name: str, told: Sequence[str]) -> Chain | None:
        names = _checked(f"pipelines.{name}", told, faults) if told else None
        if names is None:
            return None
        stages = [pair for entry in names for pair in _stages(f"pipelines.{name}", entry, built_in, watch, faults)]
        if faults:
            return None
        watched: list[Stage] = [
            Timed(stage, LOOKUP if entry == "cache" else f"middleware.{entry}", watch.seconds(entry))
            for entry, stage in stages
        ]
        if tracer is not None and tracer.content:
            watched.insert(1, Contents())  # inside the meter, whose record closes the trace
        return Chain(compose([stage for _, stage in stages], send), compose(watched, TracedSend(send)))

    default = chain("default", settings.default or (REST,))
    streaming, cached = chain("streaming", settings.streaming), chain("cached", settings.cached)
    if faults or default is None:
        raise ConfigurationError(faults)
    return Pipelines(default, streaming=streaming, cached=cached, trace=tracer.begin if tracer is not None else None)


def admin_of(settings: Settings) -> list[Wrapper]:
    """The aiohttp middlewares around the admin endpoints. Raises ConfigurationError."""
    faults: list[str] = []
    told = settings.admin or (ADMIN_KEY,)
    if ADMIN_KEY not in told:
        faults.append(f'configuration:pipelines.admin: "{ADMIN_KEY}" is missing: anybody could change the gateway')
    found = [admin_key if name == ADMIN_KEY else _found("pipelines.admin", name, faults) for name in told]
    if faults:
        raise ConfigurationError(faults)
    return found


def _checked(where: str, told: Sequence[str], faults: list[str]) -> list[str] | None:
    """The names with "..." spelt out; None when the order cannot be."""
    before = len(faults)
    rest = [name for name in ORDER if name not in told]
    names = [entry for name in told for entry in (rest if name == REST else [name])]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    faults += [f"configuration:{where}: {name!r} stands there more than once" for name in twice]
    faults += [f"configuration:{where}: {name!r} is missing" for name in ORDER if name in NEEDED and name not in names]
    fixed = [name for name in names if name in ORDER and name not in FREE]
    usual = [name for name in ORDER if name in fixed]
    if fixed != usual:
        faults.append(f"configuration:{where}: the built-in stages keep their order: {', '.join(usual)}")
    for name in FREE & set(names):
        if "route" in names and names.index(name) > names.index("route"):
            faults.append(f"configuration:{where}: {name!r} must stand before 'route'")
    if names and names[0] != "meter":
        faults.append(f"configuration:{where}: 'meter' must be the first: it sees every outcome")
    return names if len(faults) == before else None


def _stages(
    where: str, name: str, built_in: Mapping[str, Sequence[Stage]], watch: Watch, faults: list[str]
) -> list[tuple[str, Stage]]:
    """The stages behind one name; none for a built-in that is not configured."""
    if name in ORDER:
        return [(name, stage) for stage in built_in.get(name, ())]
    function = _found(where, name, faults)
    if function is None:
        return []
    if getattr(function, OPEN, False):
        return [(name, Watcher(name, function, partial(watch.failed, name)))]
    return [(name, Guard(name, function))]


def _found(where: str, name: str, faults: list[str]) -> Any:
    """What an entry point or "package.module:attribute" names; None when there is nothing, which is a fault."""
    module, _, attribute = name.partition(":")
    if not attribute:
        known = {entry.name: entry.value for entry in entry_points(group=GROUP)}
        if name not in known:
            hint = nearest(name, [*ORDER, ADMIN_KEY, *known])
            faults.append(
                f"configuration:{where}: there is no stage {name!r}{hint} (others are named package.module:attribute)"
            )
            return None
        module, _, attribute = known[name].partition(":")
    found, problem = None, "its module fails, and the log says how"
    with Tolerated(f"the module {module}"):  # somebody else's code: anything may come of it
        found, problem = _imported(module, attribute)
    if problem:
        faults.append(f"configuration:{where}: {name!r} cannot be found: {problem}")
    elif not callable(found):
        faults.append(f"configuration:{where}: {name!r} is no function")
        found = None
    return found


def _imported(module: str, attribute: str) -> tuple[Any, str]:
    """What stands there, or why there is nothing; texts of somebody else's errors may hold paths and secrets."""
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        return None, f"there is no module {error.name!r}"
    except SystemExit:
        return None, "its module ends the program"
    for part in attribute.split("."):
        if not hasattr(found, part):
            return None, f"{module} has no {attribute!r}"
        found = getattr(found, part)
    return found, ""
