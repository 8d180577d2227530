"""The example configuration in a real Alertmanager: sound, and silencing what a greater fault explains."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.monitoring import alertmanager, get, wait_until, webhook

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"


def test_amtool_finds_no_fault() -> None:
    done = subprocess.run(["amtool", "check-config", str(CONFIG)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with webhook() as hook, alertmanager(tmp_path_factory.mktemp("alertmanager"), hook.url) as address:
        yield address


def alert(name: str, severity: str, **labels: str) -> dict[str, dict[str, str]]:
    return {"labels": {"alertname": name, "severity": severity, **labels}}


GPU = {"uuid": "GPU-a"}
MONTHLY = {"budget": "monthly"}


@pytest.mark.parametrize(
    ("machine", "greater", "silenced", "heard"),
    [
        ("idle", alert("GpuFinopsGpuIdle", "critical", **GPU), alert("GpuFinopsGpuIdle", "warning", **GPU),
         alert("GpuFinopsGpuIdle", "warning", uuid="GPU-b")),
        ("down", alert("GpuFinopsAgentDown", "critical"), alert("GpuFinopsGpuStale", "warning", **GPU),
         alert("NodeDiskFull", "warning")),
        ("stale", alert("GpuFinopsSamplesStale", "critical"), alert("GpuFinopsGpuStale", "warning", **GPU),
         alert("GpuFinopsConfigReloadFailed", "warning")),
        ("overspent", alert("GpuFinopsBudgetOverspent", "critical", **MONTHLY),
         alert("GpuFinopsBudgetBurn", "critical", **MONTHLY), alert("GpuFinopsBudgetBurn", "critical", budget="other")),
        ("limit", alert("GpuFinopsBudgetNearLimit", "warning", **MONTHLY),
         alert("GpuFinopsBudgetNearLimit", "info", **MONTHLY), alert("GpuFinopsBudgetNearLimit", "info", budget="other")),
    ],
)
def test_a_greater_fault_silences_what_it_explains_and_nothing_else(
    url: str,
    machine: str,
    greater: dict[str, dict[str, str]],
    silenced: dict[str, dict[str, str]],
    heard: dict[str, dict[str, str]],
) -> None:
    def put(*alerts: dict[str, dict[str, str]], instance: str) -> None:
        body = [{"labels": {**a["labels"], "instance": instance}} for a in alerts]
        request = urllib.request.Request(
            f"{url}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=5).close()

    def states() -> dict[tuple[str, str, str], bool]:
        """Whether each alert is silenced, by instance, name and what it is about."""
        status, body = get(f"{url}/api/v2/alerts")
        assert status == 200
        result = {}
        for a in json.loads(body):
            labels = a["labels"]
            key = (labels["instance"], labels["alertname"], "/".join(sorted(labels.values())))
            result[key] = bool(a["status"]["inhibitedBy"])
        return result

    def key(a: dict[str, dict[str, str]], instance: str) -> tuple[str, str, str]:
        values = [*a["labels"].values(), instance]
        return instance, a["labels"]["alertname"], "/".join(sorted(values))

    put(greater, silenced, heard, instance=machine)
    put(silenced, instance=f"{machine}-2")
    wait_until(lambda: states().get(key(silenced, machine)), "the lesser alert silenced")
    seen = states()
    assert not seen[key(greater, machine)]
    assert not seen[key(heard, machine)]
    assert not seen[key(silenced, f"{machine}-2")]
