"""The shipped rules in a real Prometheus, through a real Alertmanager, to a webhook."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import MetricsPage
from tests.e2e.monitoring import RULES, alertmanager, prometheus, scaled_rules, wait_until, webhook

FACTOR = 1 / 1800                                 # 15 minutes become half a second


def test_scaling_changes_time_and_nothing_else(tmp_path: Path) -> None:
    source, target = tmp_path / "in.yml", tmp_path / "out.yml"
    rule = {"alert": "A", "expr": 'rate(m{t="[1h]5m"}[1h30m]) > 60', "for": "15m", "labels": {"severity": "warning"}}
    source.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    scaled_rules(source, target, 0.01, window_seconds=1)
    (changed,) = yaml.safe_load(target.read_text())["groups"][0]["rules"]
    assert changed == {**rule, "expr": 'rate(m{t="[1h]5m"}[54000ms]) > 60', "for": "9000ms"}


@pytest.mark.parametrize("name", ["alerts.yml", "recording.yml"])
def test_scaled_rules_keep_every_rule(tmp_path: Path, name: str) -> None:
    scaled = yaml.safe_load(scaled_rules(RULES / name, tmp_path / name, FACTOR).read_text())
    original = yaml.safe_load((RULES / name).read_text())
    assert [len(g["rules"]) for g in scaled["groups"]] == [len(g["rules"]) for g in original["groups"]]


def test_an_idle_gpu_and_an_overspent_budget_reach_the_webhook_and_are_resolved(
    tmp_path: Path, metrics_page: MetricsPage
) -> None:
    metrics_page.values |= {
        "finops_gpu_state": 0, "finops_budget_spent": 31_000, "finops_budget_limit": 30_000,
        "finops_budget_forecast": 45_000, "finops_workload_cost_per_hour": 12.5,
    }
    rules = [scaled_rules(RULES / n, tmp_path / n, FACTOR) for n in ("alerts.yml", "recording.yml")]
    with (
        webhook() as hook,
        alertmanager(tmp_path / "alertmanager", hook.url) as alertmanager_url,
        prometheus(tmp_path / "prometheus", metrics_page.address, rules=rules, alertmanager_url=alertmanager_url) as server,
    ):
        overspent = hook.wait_for("GpuFinopsBudgetOverspent", severity="critical")
        assert "1000.00 CNY more than the limit are spent" in overspent["annotations"]["description"]
        assert not any(name == "GpuFinopsGpuIdle" for name, _ in server.firing())

        metrics_page.values |= {"finops_gpu_state": 1, "finops_budget_spent": 10_000}
        idle = hook.wait_for("GpuFinopsGpuIdle", severity="warning", uuid="GPU-a")
        assert "It is parked and costs 12.50 CNY an hour" in idle["annotations"]["description"]
        hook.wait_for("GpuFinopsGpuIdle", severity="critical", uuid="GPU-a")
        hook.wait_for("GpuFinopsBudgetOverspent", status="resolved")

        metrics_page.values["finops_gpu_state"] = 0
        wait_until(lambda: not any(n == "GpuFinopsGpuIdle" for n, _ in server.firing()), "the idle alert gone")
