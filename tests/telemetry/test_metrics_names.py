"""The names: what is exposed, what docs/operations.md lists, and what deploy/ asks for are the same."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runestone.core.buckets import SECONDS, Buckets
from runestone.telemetry.families import FAMILIES, Family
from runestone.telemetry.metrics import Metrics
from tests.prometheus import DASHBOARD, RULES, panels, questions

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
SECTION = OPERATIONS.partition("\n## Metrics\n")[2].partition("\n## ")[0]
RULE_FILES = {name: (RULES / name).read_text() for name in ("rules.yml", "alerts.yml")}
OURS = r"\brunestone_[a-z0-9_]+"
LEVELLED = r"\b[a-z_]+:runestone_?[a-z0-9_:]+|\brunestone:[a-z0-9_:]+"
LIBRARY = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""
PROMISED = [
    "runestone_requests_total{endpoint,provider,model,status,cache}",
    "runestone_request_duration_seconds",
    "runestone_overhead_seconds",
    "runestone_time_to_first_token_seconds",
    "runestone_time_per_output_token_seconds",
    "runestone_tokens_total{provider,model,type}",
    "runestone_cost_usd_total",
    "runestone_errors_total{source,code}",
    *(
        f"runestone_cache_{what}_total"
        for what in ("hits", "misses", "collapsed", "stores", "evictions", "expirations")
    ),
    "runestone_cache_entries",
    "runestone_cache_bytes",
    "runestone_pool_connections{provider,state}",
    "runestone_pool_acquired_total{provider,reused}",
    "runestone_pool_wait_seconds",
    "runestone_breaker_state{target}",
    "runestone_retries_total",
    "runestone_failovers_total",
    "runestone_hedges_total",
    "runestone_batch_size",
    "runestone_batch_wait_seconds",
    "runestone_websocket_connections",
    "runestone_websocket_messages_total{direction}",
    "runestone_streams_active",
    "runestone_middleware_seconds{middleware}",
    "runestone_build_info",
]


def documented(family: Family) -> str:
    """Its line in the table of docs/operations.md."""
    labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
    return f"| `{family.full_name}{labels}` | {family.kind} | {family.text} |"


def test_every_metric_is_documented_as_it_is() -> None:
    """The table has every metric with its labels, kind and meaning, and no other."""
    lines = [line for line in SECTION.splitlines() if line.startswith("| `runestone_")]
    assert lines == [documented(family) for family in FAMILIES.values()], "\n".join(map(documented, FAMILIES.values()))


@pytest.mark.parametrize("promised", PROMISED)
def test_what_was_promised_is_there(promised: str) -> None:
    """Names are an interface: dashboards of others depend on them."""
    name, _, labels = promised.removesuffix("}").partition("{")
    family = FAMILIES[name.removeprefix("runestone_")]
    assert not labels or list(family.labels) == labels.split(",")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_names_say_what_is_counted(family: Family) -> None:
    """As Prometheus wants them: counters, and only they, end in `_total`; bounds ascend, and only histograms have
    some.
    """
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert not re.search(r"_(count|sum|bucket|milliseconds|ms)$", family.name)
    assert list(family.bounds) == sorted(set(family.bounds))
    assert bool(family.bounds) == (family.kind == "histogram")


def test_all_there_is_is_exposed_under_its_kind() -> None:
    """What the table of families says is what a scrape reads, and nothing else is in it."""
    sampled = [
        (
            family.name,
            dict.fromkeys(family.labels, "x"),
            Buckets(SECONDS) if family.kind == "histogram" else 1.0,
        )
        for family in FAMILIES.values()
    ]
    own = {family.name for family in text_string_to_metric_families(Metrics([]).expose().decode())}
    left = [sample for sample in sampled if FAMILIES[sample[0]].full_name.removesuffix("_total") not in own]
    told = text_string_to_metric_families(Metrics([], lambda: left).expose().decode())
    assert {(one.name, one.type, one.documentation) for one in told} == {
        (family.full_name.removesuffix("_total"), family.kind, family.text) for family in FAMILIES.values()
    }


# What deploy/ asks for


def names_in(expression: str) -> set[str]:
    """The metrics of an expression, without what a histogram adds to its name."""
    found = set(re.findall(rf"(?<![:\w]){OURS}(?![:\w])|\bprocess_[a-z_]+", expression))
    return {
        name
        for one in found
        for name in [re.sub(r"_(bucket|sum|count)$", "", one)]
        for name in [name if name.removeprefix("runestone_") in FAMILIES else one]
    }


def labels_in(expression: str) -> set[str]:
    """Every label that an expression chooses or groups by."""
    chosen = re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!~|!=|=)", expression)
    grouped = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expression)
    return {*chosen, *(name.strip() for group in grouped for name in group.split(",") if name.strip())}


def known(name: str) -> bool:
    return name.removeprefix("runestone_") in FAMILIES or name in LIBRARY


def labels_of(name: str) -> set[str]:
    family = FAMILIES.get(name.removeprefix("runestone_"))
    return {*(family.labels if family is not None else ()), *(["le"] if family and family.bounds else []), *SCRAPED}


def faults(expression: str) -> list[str]:
    """What an expression asks for that is not there."""
    names = names_in(expression)
    labels = set().union(*map(labels_of, names)) if names else SCRAPED
    return [name for name in names if not known(name)] + sorted(labels_in(expression) - labels)


@pytest.mark.parametrize(("panel", "expression"), questions())
def test_the_dashboard_asks_for_what_is_there(panel: str, expression: str) -> None:
    """Every metric of a panel exists, and so does every label it chooses or groups by, on one of them."""
    assert names_in(expression) or expression.startswith("sum(up{")
    assert not faults(expression), panel


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(runestone_request_total[1m])",
        "sum by (modell) (rate(runestone_requests_total[1m]))",
        'runestone_pool_connections{states="active"}',
        "runestone_cache_hits",
    ],
)
def test_a_wrong_question_is_seen(wrong: str) -> None:
    """The two tests around this one can fail."""
    assert faults(wrong)


@pytest.mark.parametrize("file", RULE_FILES)
def test_rules_and_alerts_ask_for_what_is_there(file: str) -> None:
    """Every metric in a rule, or in an alert's words, exists; what rules compute is asked for by the name it got."""
    recorded = set(re.findall(r"- record: (\S+)", RULE_FILES["rules.yml"]))
    text = RULE_FILES[file]
    assert [name for name in names_in(text) if not known(name)] == []
    asked = set(re.findall(LEVELLED, text))
    assert asked - recorded == set()
    if file == "alerts.yml":
        used = asked | set(re.findall(LEVELLED, re.sub(r"- record: .*", "", RULE_FILES["rules.yml"])))
        assert recorded - used == set(), "computed, and asked for by nobody"


def test_panels_have_their_own_places() -> None:
    """Grafana would push overlapping panels around, and show one of two with the same id."""
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)

    def apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
        a, b = one["gridPos"], other["gridPos"]
        return bool(
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )

    assert all(apart(one, other) for one, other in combinations(every, 2))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)


def test_the_dashboard_belongs_to_no_server() -> None:
    """Its data source is a variable, in every panel, query and variable: it can be imported anywhere."""
    listed = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert listed["datasource"]["type"] == "datasource"
    assert list(listed) == ["datasource", "job", "instance"]
    sources = [panel["datasource"] for panel in panels()]
    sources += [target["datasource"] for panel in panels() for target in panel["targets"]]
    sources += [variable["datasource"] for variable in listed.values() if variable["type"] == "query"]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert not re.search(r'"(__inputs|iteration)"|grafana\.net', json.dumps(DASHBOARD))
