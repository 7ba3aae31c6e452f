"""What deploy/ holds for Prometheus, judged by its own promtool."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.prometheus import RULES, needs_prometheus, promtool, questions

pytestmark = needs_prometheus
ALERTS = re.findall(r"- alert: (\S+)", (RULES / "alerts.yml").read_text())


def test_the_configuration_is_one() -> None:
    """Prometheus takes deploy/prometheus/prometheus.yml, and finds the rules it names."""
    code, said = promtool("check", "config", str(RULES / "prometheus.yml"))
    assert code == 0, said
    assert "2 rule files found" in said


@pytest.mark.parametrize("file", ["rules.yml", "alerts.yml"])
def test_rules_are_clean(file: str) -> None:
    """Syntax, and promtool's lint."""
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES / file))
    assert code == 0, said


def test_alerts_come_when_they_should() -> None:
    """deploy/prometheus/tests.yml: each alert on series that call for it, and on series that do not."""
    code, said = promtool("test", "rules", str(RULES / "tests.yml"))
    assert code == 0, said


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested(alert: str) -> None:
    """Once where it comes and once where it does not."""
    text = (RULES / "tests.yml").read_text()
    quiet = re.search(rf"alertname: {alert}, eval_time: \w+, exp_alerts: \[\]", text)
    loud = re.search(rf"alertname: {alert}\n\s+eval_time: \w+\n\s+exp_alerts:\n\s+- exp_labels", text)
    assert quiet is not None
    assert loud is not None


def test_the_tests_of_alerts_can_fail(tmp_path: Path) -> None:
    """A threshold that is wrong is seen."""
    head, *tests = (RULES / "tests.yml").read_text().split("\n  - name: ")
    (about_pools,) = [test for test in tests if test.startswith("a pool")]
    (tmp_path / "tests.yml").write_text(f"{head}\n  - name: {about_pools}")
    shutil.copy(RULES / "rules.yml", tmp_path)
    alerts, saturated = (RULES / "alerts.yml").read_text(), "(runestone_pool_capacity) > 0.9"
    assert saturated in alerts
    (tmp_path / "alerts.yml").write_text(alerts.replace(saturated, "(runestone_pool_capacity) > 0.7"))
    code, said = promtool("test", "rules", str(tmp_path / "tests.yml"))
    assert code == 1
    assert "RunestonePoolSaturated" in said


def test_the_dashboards_questions_are_promql(tmp_path: Path) -> None:
    """Each expression of deploy/grafana/runestone.json is one, by Prometheus' own parser."""
    rules = [{"record": f"panel:{number}", "expr": asked} for number, (_, asked) in enumerate(questions())]
    file = tmp_path / "questions.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, said = promtool("check", "rules", str(file))
    assert code == 0, said
    assert f"{len(rules)} rules found" in said
