"""The shipped rules: sound, tested in both directions, explained, and about metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.settings import Idle
from agent.units import NS_PER_S
from tests.deploy.promql import faults

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind: alert or record."""
    return [
        rule
        for file in RULE_FILES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"] if kind in rule
    ]


def cases(kind: str) -> list[dict[str, Any]]:
    """All cases of a kind in the rules' tests: alert_rule_test or promql_expr_test."""
    return [
        case for file in TEST_FILES for test in yaml.safe_load(file.read_text())["tests"] for case in test.get(kind, [])
    ]


ALERTS = rules("alert")
ALERT_IDS = [f"{rule['alert']}-{rule['labels']['severity']}" for rule in ALERTS]


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda p: p.name)
def test_rules_are_sound(file: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", file)


def test_example_configuration_is_sound_and_loads_the_rules() -> None:
    answer = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(RULE_FILES)} rule files found" in answer


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda p: p.name)
def test_rules_do_what_their_tests_say(file: Path) -> None:
    promtool("test", "rules", file)


@pytest.mark.parametrize("rule", ALERTS, ids=ALERT_IDS)
def test_each_alert_is_seen_to_fire_and_not_to_fire(rule: dict[str, Any]) -> None:
    mine = [case for case in cases("alert_rule_test") if case["alertname"] == rule["alert"]]
    severities = [{a["exp_labels"]["severity"] for a in case["exp_alerts"]} for case in mine]
    assert any(rule["labels"]["severity"] in seen for seen in severities), "no case in which it fires"
    assert any(rule["labels"]["severity"] not in seen for seen in severities), "no case in which it does not"


def test_each_recorded_series_is_tested() -> None:
    asked = " ".join(case["expr"] for case in cases("promql_expr_test"))
    assert [rule["record"] for rule in rules("record") if rule["record"] not in asked] == []


@pytest.mark.parametrize("rule", ALERTS, ids=ALERT_IDS)
def test_each_alert_explains_itself_and_has_a_section_in_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert {"summary", "description", "runbook_url"} <= rule["annotations"].keys()
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()


def test_the_runbook_explains_no_alert_that_is_gone() -> None:
    headings = re.findall(r"^## (GpuFinops\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert set(headings) == {rule["alert"] for rule in ALERTS}
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("rule", [*ALERTS, *rules("record")], ids=lambda r: r.get("alert", r.get("record")))
def test_rules_name_only_what_the_agent_serves(rule: dict[str, Any]) -> None:
    texts = [rule["expr"]]
    for annotation in rule.get("annotations", {}).values():
        asked = re.findall(r'query \(printf "((?:[^"\\]|\\.)*)"', annotation)
        texts += [text.replace('\\"', '"') for text in asked]
    assert [fault for text in texts for fault in faults(text)] == []


def test_idle_alerts_wait_as_long_as_the_agents_defaults_say() -> None:
    waits = {rule["labels"]["severity"]: rule["for"] for rule in ALERTS if rule["alert"] == "GpuFinopsGpuIdle"}
    defaults = Idle()
    assert waits == {
        "warning": f"{defaults.warn_after_ns // NS_PER_S // 60}m",
        "critical": f"{defaults.critical_after_ns // NS_PER_S // 60}m",
    }
