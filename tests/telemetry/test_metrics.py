"""Metrics of finished calls: the right series, and never more of them than the configuration allows."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runestone import __version__, errors
from runestone.core.call import Operation
from runestone.core.record import Record
from runestone.core.summary import Summary
from runestone.telemetry.metrics import Metrics, time_per_output_token

RECORD = Record(
    id="id-1",
    operation=Operation.CHAT,
    stream=True,
    model="fast",
    provider="openai",
    target_model="gpt-4o-mini",
    caller="team",
    status=200,
    error=None,
    source=None,
    attempts=1,
    failures=(),
    duration=1.5,
    waited=1.0,
    head=0.002,
    first_token=0.3,
    summary=Summary(input_tokens=10, output_tokens=4),
)
FAILED = RECORD._replace(status=502, error="provider_error", source="provider", head=None, first_token=None)
CALL = {"endpoint": "chat/completions", "provider": "openai", "model": "fast"}
TARGET = {"provider": "openai", "model": "fast"}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample that is exposed, by name and labels."""
    families = text_string_to_metric_families(metrics.expose().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(metrics: Metrics, name: str, labels: dict[str, str]) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def observed(*records: Record) -> Metrics:
    metrics = Metrics(["fast", "simulated"])
    for record in records:
        metrics(record)
    return metrics


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("runestone_requests_total", {**CALL, "status": "200", "cache": "none"}, 1.0),
        ("runestone_request_duration_seconds_count", CALL, 1.0),
        ("runestone_request_duration_seconds_sum", CALL, 1.5),
        ("runestone_overhead_seconds_sum", {"endpoint": "chat/completions"}, 0.002),
        ("runestone_time_to_first_token_seconds_sum", TARGET, 0.3),
        ("runestone_time_per_output_token_seconds_sum", TARGET, 0.4),
        ("runestone_time_per_output_token_seconds_count", TARGET, 1.0),
        ("runestone_tokens_total", {**TARGET, "type": "input"}, 10.0),
        ("runestone_tokens_total", {**TARGET, "type": "output"}, 4.0),
    ],
)
def test_a_call_is_counted(name: str, labels: dict[str, str], expected: float) -> None:
    """Under the promised names and labels, in base units."""
    assert value(observed(RECORD), name, labels) == pytest.approx(expected)


def test_calls_add_up() -> None:
    """The same series for the same kind of call, whatever their ids and callers."""
    metrics = observed(RECORD, RECORD._replace(id="id-2", caller="other", target_model="x", attempts=3))
    assert value(metrics, "runestone_requests_total", {**CALL, "status": "200", "cache": "none"}) == 2.0


def test_a_failure_is_counted_by_who_is_to_blame() -> None:
    """As a request with its status and as an error with its source and code."""
    metrics = observed(FAILED)
    assert value(metrics, "runestone_requests_total", {**CALL, "status": "502", "cache": "none"}) == 1.0
    assert value(metrics, "runestone_errors_total", {"source": "provider", "code": "provider_error"}) == 1.0


def test_a_stream_that_broke_is_a_200_and_an_error() -> None:
    """The client saw 200; the error is counted all the same."""
    metrics = observed(FAILED._replace(status=200))
    assert value(metrics, "runestone_requests_total", {**CALL, "status": "200", "cache": "none"}) == 1.0
    assert value(metrics, "runestone_errors_total", {"source": "provider", "code": "provider_error"}) == 1.0


def test_a_refusal_before_any_call_is_an_error_only() -> None:
    """Nobody was asked: there is no endpoint, provider or model to count it under."""
    metrics = observed()
    metrics.failed("client", "invalid_api_key")
    assert value(metrics, "runestone_errors_total", {"source": "client", "code": "invalid_api_key"}) == 1.0
    assert not [name for name, _ in samples(metrics) if name.startswith("runestone_requests")]


def test_a_call_that_reached_no_provider_has_one_anyway() -> None:
    """The label is `none`, not empty."""
    metrics = observed(FAILED._replace(provider=None, target_model=None, status=404))
    labels = {**CALL, "provider": "none", "status": "404", "cache": "none"}
    assert value(metrics, "runestone_requests_total", labels) == 1.0


@pytest.mark.parametrize("head", [None, 0.0])
def test_what_was_not_measured_is_not_observed(head: float | None) -> None:
    """A call without a head has no overhead; zero is a measurement."""
    metrics = observed(RECORD._replace(head=head, first_token=None))
    assert value(metrics, "runestone_overhead_seconds_count", {"endpoint": "chat/completions"}) == (
        0.0 if head is None else 1.0
    )
    assert value(metrics, "runestone_time_to_first_token_seconds_count", TARGET) is None


@pytest.mark.parametrize(
    "record",
    [
        RECORD._replace(first_token=None),
        RECORD._replace(summary=Summary(input_tokens=10)),
        RECORD._replace(summary=Summary(input_tokens=10, output_tokens=1)),
        RECORD._replace(summary=Summary(input_tokens=10, output_tokens=0)),
        RECORD._replace(cache="hit"),
        RECORD._replace(cache="stale"),
        RECORD._replace(cache="collapsed"),
        FAILED._replace(status=200, first_token=0.3),
    ],
)
def test_the_pace_is_that_of_streams_a_provider_wrote_and_counted(record: Record) -> None:
    """A whole answer, an unknown count, a single token, an answer of the cache and a broken stream have none."""
    metrics = observed(record)
    assert not value(metrics, "runestone_time_per_output_token_seconds_count", TARGET)
    assert time_per_output_token(record) is None
    metrics(RECORD)
    assert value(metrics, "runestone_time_per_output_token_seconds_count", TARGET) == 1.0


def test_whole_answers_make_no_series_of_streams() -> None:
    """A model that is never streamed has no times of streams, however often it is asked."""
    names = {name for name, _ in samples(observed(RECORD._replace(stream=False, first_token=None)))}
    assert not [name for name in names if "token_seconds" in name]


def test_stages_are_timed_by_name() -> None:
    """What `middleware` gives out is told seconds, and keeps its series."""
    metrics = observed()
    seen = metrics.middleware("limits")
    seen(0.00002)
    seen(0.5)
    metrics.middleware("limits")(0.5)
    labels = {"middleware": "limits"}
    assert value(metrics, "runestone_middleware_seconds_count", labels) == 3.0
    assert value(metrics, "runestone_middleware_seconds_sum", labels) == pytest.approx(1.00002)
    assert value(metrics, "runestone_middleware_seconds_bucket", {**labels, "le": "2.5e-05"}) == 1.0


def test_failures_of_stages_are_counted_by_name() -> None:
    """Of those that calls go on without."""
    metrics = observed()
    for _ in range(3):
        metrics.middleware_failed("tap")
    assert value(metrics, "runestone_middleware_failures_total", {"middleware": "tap"}) == 3.0


@pytest.mark.parametrize("what", ["retry", "failover", "hedge", "continuation"])
def test_second_attempts_are_counted(what: str) -> None:
    """Each under its own name; the others stay at nought."""
    names = {
        "retry": "runestone_retries_total",
        "failover": "runestone_failovers_total",
        "hedge": "runestone_hedges_total",
        "continuation": "runestone_stream_continuations_total",
    }
    metrics = observed()
    metrics.tried(what)
    assert {name: value(metrics, name, {}) for name in names.values()} == {
        name: float(kind == what) for kind, name in names.items()
    }


@pytest.mark.parametrize(
    ("source", "code"),
    [("provider", "provider_error"), ("gateway", "internal_error"), ("gateway", "service_unavailable")],
)
def test_failures_that_alerts_ask_for_begin_at_nought(source: str, code: str) -> None:
    """The first one is a step that Prometheus can see; a series that begins at 1 has no rate."""
    assert value(observed(), "runestone_errors_total", {"source": source, "code": code}) == 0.0


OUR_ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.RunestoneError) and kind.code is not None
]


@pytest.mark.parametrize("error", OUR_ERRORS)
def test_our_own_codes_are_told_by_name(error: type[errors.RunestoneError]) -> None:
    """Every code of errors.py is a label; only a provider's free text is "other"."""
    metrics = observed(FAILED._replace(error=error.code, source=error.source))
    assert value(metrics, "runestone_errors_total", {"source": error.source, "code": str(error.code)}) == 1.0


def test_the_text_is_what_the_library_would_write() -> None:
    """Line for line, also where labels and numbers need care, and in the second scrape, which uses what the first
    has prepared.
    """
    metrics = Metrics(["fast", 'quo"te\\ \n\u2028'])
    for number in range(3):
        for model in ("fast", 'quo"te\\ \n\u2028', "unknown"):
            summary = Summary(input_tokens=12_345_678 * number, output_tokens=7)
            metrics(RECORD._replace(model=model, summary=summary, duration=10.0**number))
        told = metrics.expose().decode()
        registry = CollectorRegistry()
        for family in metrics.families:
            registry.register(family)
        by_the_library = generate_latest(registry).decode()
        assert told.startswith(by_the_library)
        assert "runestone_build_info" in told.removeprefix(by_the_library)


def test_the_process_is_watched_when_asked() -> None:
    """A program has its memory and CPU in the scrape; a library's user has not."""
    metrics = observed()
    assert not [name for name, _ in samples(metrics) if name.startswith("process_")]
    metrics.watch_process()
    told = {name for name, _ in samples(metrics)}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= told


def test_any_number_of_model_names_makes_no_new_series() -> None:
    """A name nobody configured counts as its provider's: no client can fill memory, here or in Prometheus."""
    metrics = observed(RECORD._replace(model="made-up"))
    before = samples(metrics).keys()
    for number in range(100_000):
        metrics(RECORD._replace(model=f"made-up-{number}"))
    assert samples(metrics).keys() == before
    labels = {**CALL, "model": "openai/*", "status": "200", "cache": "none"}
    assert value(metrics, "runestone_requests_total", labels) == 100_001.0


def test_a_thousand_error_codes_of_a_provider_make_few_series() -> None:
    """A provider's own code is its free text: it counts, but does not become a label of its own each time."""
    metrics = observed(*(FAILED._replace(error=f"code-{number}") for number in range(1000)))
    errors = {labels: count for (name, labels), count in samples(metrics).items() if name == "runestone_errors_total"}
    assert sum(errors.values()) == 1000.0
    assert len(errors) < 50


@pytest.mark.parametrize("tokens", [None, 0])
def test_tokens_nobody_counted_are_not_guessed(tokens: int | None) -> None:
    """A provider that does not count adds no tokens, and the rest of the record is counted."""
    metrics = observed(FAILED._replace(summary=Summary(input_tokens=tokens, output_tokens=4)))
    assert value(metrics, "runestone_tokens_total", {**TARGET, "type": "input"}) == 0.0
    assert value(metrics, "runestone_tokens_total", {**TARGET, "type": "output"}) == 4.0
    assert value(metrics, "runestone_errors_total", {"source": "provider", "code": "provider_error"}) == 1.0


@pytest.mark.parametrize("model", ['quo"te', "back\\slash", "two\nlines"])
def test_a_configured_name_may_hold_anything(model: str) -> None:
    """The exposition stays readable."""
    metrics = Metrics([model])
    metrics(RECORD._replace(model=model))
    labels = {**CALL, "model": model, "status": "200", "cache": "none"}
    assert value(metrics, "runestone_requests_total", labels) == 1.0


def test_the_build_is_told() -> None:
    """Which version runs can be seen in every scrape."""
    ((_, labels),) = [key for key in samples(observed()) if key[0] == "runestone_build_info"]
    assert dict(labels)["version"] == __version__


def test_two_gateways_share_no_series() -> None:
    """Each has its own registry: nothing is kept in the library's global one."""
    assert value(observed(RECORD), "runestone_requests_total", {**CALL, "status": "200", "cache": "none"}) == 1.0
    assert not [name for name, _ in samples(observed()) if name.startswith("runestone_requests")]
