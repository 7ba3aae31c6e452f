"""telemetry/workers.py: the metrics of several processes as one scrape."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from runestone.telemetry.metrics import Metrics
from runestone.telemetry.workers import labelled


def test_every_series_says_whose_it_is() -> None:
    """Nothing is added up and nothing is lost; each family stands there once, in one piece, as the format wants it."""
    one, other = Metrics(['quo"te {x} \\ \n']), Metrics(["fast"])
    one.failed("client", "bad_request")
    other.tried("retry")
    texts = {0: one.expose(), 3: other.expose()}
    whole = list(text_string_to_metric_families(labelled(texts).decode()))
    assert len({family.name for family in whole}) == len(whole)
    for worker, text in texts.items():
        own = {
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }
        told = {
            (
                sample.name,
                tuple(sorted((name, value) for name, value in sample.labels.items() if name != "worker")),
                sample.value,
            )
            for family in whole
            for sample in family.samples
            if sample.labels["worker"] == str(worker)
        }
        assert told == own
