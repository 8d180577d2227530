"""Agent, Prometheus and Alertmanager, all real: an idle GPU and an overrun budget reach a webhook, every panel has data, and
what Prometheus adds up is what the ledger holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.deploy.test_dashboard import QUERIES, filled
from tests.driver.scenario import Constant, Device, Process, Scenario, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, killed
from tests.e2e.monitoring import RULES, alertmanager, prometheus, scaled_rules, wait_until, webhook

BUSY, IDLE = "GPU-bbbbbbbb-0000-0000-0000-000000000000", "GPU-eeeeeeee-0000-0000-0000-000000000000"
FACTOR = 1 / 900                                # 15 minutes become a second
CONFIG = """
interval = "250ms"
flush_interval = "250ms"
[site]
name = "shanghai-1"
tariff = "tou"
pue = 1.35
carbon = 570
[tariff.tou]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { peak = 1.20, valley = 0.33 }
rule = [{ rate = "peak", hours = ["08:00-22:00"] }, { rate = "valley" }]
[[hardware]]
gpu = "NVIDIA H100*"
price = 250000
salvage = 25000
years = 4
maintenance_per_year = 6000
[[budget]]
name = "kronos daily"
match = { project = "kronos" }
period = "day"
limit = 0.001
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    environ = os.environ | {"FINOPS_PROJECT": "kronos", "FINOPS_TEAM": "quant", "FINOPS_MODEL": "kronos-base",
                            "FINOPS_MODEL_VERSION": "1.0"}
    with killed(["sleep", "infinity"], environ) as worker:
        Scenario(
            devices=[
                Device(BUSY, power=Constant(650), utilization=Constant(95),
                       processes=[Process(pid=worker.pid, sm=Constant(95))]),
                Device(IDLE, power=Constant(70)),
            ],
            epoch_ns=boottime_ns() - 10**12,
        ).write(tmp_path / "scenario")
        with Daemon(tmp_path / "agent", source="nvml", config=CONFIG, environ=driver_environ(tmp_path / "scenario")) as running:
            yield running


def test_idle_and_overspent_reach_the_webhook_and_prometheus_agrees_with_the_ledger(daemon: Daemon, tmp_path: Path) -> None:
    rules = [scaled_rules(RULES / name, tmp_path / name, FACTOR) for name in ("alerts.yml", "recording.yml")]
    with (
        webhook() as hook,
        alertmanager(tmp_path / "alertmanager", hook.url) as alertmanager_url,
        prometheus(tmp_path / "prometheus", f"127.0.0.1:{daemon.port}", rules=rules,
                   alertmanager_url=alertmanager_url) as server,
    ):
        idle = hook.wait_for("GpuFinopsGpuIdle", severity="warning", uuid=IDLE)
        assert "It is unallocated and costs" in idle["annotations"]["description"]
        # Budgets are judged every 15 s; 0.001 CNY is a second of an H100's straight line and power.
        overspent = hook.wait_for("GpuFinopsBudgetOverspent", budget="kronos daily", severity="critical")
        assert "CNY more than the limit are spent" in overspent["annotations"]["description"]
        assert not any(alert["labels"].get("uuid") == BUSY for alert in hook.alerts)

        empty = [title for title, query in QUERIES.items() if not server.query(filled(query))]
        assert empty == []

        def caught_up() -> bool:
            live = json.loads(daemon.get("/api/v1/usage?by=project,component"), parse_float=Decimal)
            ledger = {(row["project"], row["component"]): row["cost"] for row in live["rows"]}
            shown = {
                (labels["project"], labels["component"]): Decimal(repr(value)).quantize(Decimal("1e-9"))
                for labels, value in server.query("sum by (project, component) (finops_workload_cost_total)")}
            return bool(shown) and shown == ledger

        # Ledger and Prometheus are read at different moments of a moving sum: equal as soon as no commit falls between.
        wait_until(caught_up, "Prometheus and the ledger to hold the same costs, to the nano-unit", 60)
