"""What idle devices cost, through the whole program: states, whose they were, waste, and idle cost shared in reports."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.driver.scenario import Constant, Device, Process, Scenario, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, Series, killed, until
from tests.e2e.test_daemon import CONFIG

ACTIVE, UNDERUSED, PARKED, UNALLOCATED = (f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abcd")
STATES = {ACTIVE: "active", UNDERUSED: "underused", PARKED: "parked", UNALLOCATED: "unallocated"}
HARDWARE_PER_S = 225_000 / 35_040 / 3600
ENERGY_PER_J = 0.96 * 1.5 / 3.6e6


@pytest.fixture
def pids() -> Iterator[list[int]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(killed(["sleep", "infinity"], os.environ | {"FINOPS_PROJECT": project})).pid
               for project in ("kronos", "atlas", "atlas")]


@pytest.fixture
def daemon(tmp_path: Path, pids: list[int]) -> Iterator[Daemon]:
    kronos, atlas, parked = pids
    Scenario(devices=[
        Device(ACTIVE, power=Constant(400), utilization=Constant(80), processes=[Process(kronos, Constant(80))]),
        Device(UNDERUSED, power=Constant(130), utilization=Constant(3), processes=[Process(atlas, Constant(3))]),
        Device(PARKED, power=Constant(110), processes=[Process(parked)]),
        Device(UNALLOCATED, power=Constant(60)),
    ], epoch_ns=boottime_ns() - 100 * 10**9).write(tmp_path / "scenario")
    with Daemon(tmp_path / "agent", source="nvml", config=CONFIG, environ=driver_environ(tmp_path / "scenario")) as started:
        until(lambda: started.value("finops_gpu_state_seconds_total") > 8, "two seconds of four GPUs")
        yield started


def total(series: Series, name: str, **labels: str) -> float:
    return sum(value for (given, pairs), value in series.items() if given == name and labels.items() <= dict(pairs).items())


def test_each_state_has_its_time_energy_and_cost_under_its_owners_tags(daemon: Daemon) -> None:
    series = daemon.series()
    for uuid, state in STATES.items():
        assert total(series, "finops_gpu_state", uuid=uuid, state=state) == 1
        seconds = total(series, "finops_gpu_state_seconds_total", uuid=uuid, state=state)
        assert seconds == pytest.approx(total(series, "finops_gpu_state_seconds_total", uuid=uuid), abs=1e-6)
        used = total(series, "finops_workload_state_seconds_total", uuid=uuid, state=state)
        assert used == pytest.approx(seconds, abs=1e-6)
        energy = total(series, "finops_workload_state_energy_joules_total", uuid=uuid, state=state)
        assert energy == pytest.approx(total(series, "finops_gpu_energy_joules_total", uuid=uuid), abs=1e-6)
        cost = total(series, "finops_workload_state_cost_total", uuid=uuid, state=state, currency="CNY")
        assert cost == pytest.approx(energy * ENERGY_PER_J + seconds * HARDWARE_PER_S, abs=2e-8)
        assert cost == pytest.approx(total(series, "finops_workload_cost_total", uuid=uuid), abs=1e-9)
        waste = total(series, "finops_waste_cost_total", uuid=uuid, reason=state, currency="CNY")
        assert waste == pytest.approx(0 if state == "active" else cost, abs=1e-9)
        assert total(series, "finops_waste_cost_total", uuid=uuid) == waste
    owners = {UNDERUSED: "atlas", PARKED: "atlas", UNALLOCATED: "__idle__"}
    for uuid, project in owners.items():
        assert total(series, "finops_waste_cost_total", uuid=uuid, project=project) > 0
    assert {dict(pairs)["project"] for (name, pairs) in series if name == "finops_waste_cost_total"} == {"atlas", "__idle__"}


def test_the_report_and_the_api_share_idle_cost_and_keep_the_raw_one(daemon: Daemon) -> None:
    def usage(query: str) -> dict[str, dict[str, Any]]:
        rows = json.loads(daemon.get(f"/api/v1/usage?by=project&{query}"), parse_float=Decimal)["rows"]
        return {row["project"]: row for row in rows}

    daemon.config.write_text(CONFIG + '[idle]\npolicy = "even"\n')
    daemon.get("/-/reload", method="POST")
    until(lambda: usage("")["__idle__"]["cost_with_idle"] == 0, "the policy to be taken up")
    assert all(row["cost"] == row["cost_with_idle"] for row in usage("idle_policy=separate").values())
    daemon.stop()
    for policy, options in (("even", []), ("proportional", ["--idle-policy", "proportional"])):
        command = [sys.executable, "-m", "agent", "report", "--config.file", str(daemon.config), "--state.dir",
                   str(daemon.state), "--format", "json", *options]
        document = json.loads(subprocess.check_output(command), parse_float=Decimal)
        rows = {row["project"]: row for row in document["rows"]}
        kronos, atlas, idle = (rows[project] for project in ("kronos", "atlas", "__idle__"))
        assert idle["cost_with_idle"] == 0 < idle["cost"]
        part = Decimal("0.5") if policy == "even" else kronos["cost"] / (kronos["cost"] + atlas["cost"])
        assert abs(kronos["cost_with_idle"] - kronos["cost"] - idle["cost"] * part) <= Decimal("2e-9")
        (whole,) = document["totals"]
        assert whole["cost"] == whole["cost_with_idle"] == sum(row["cost"] for row in rows.values())
