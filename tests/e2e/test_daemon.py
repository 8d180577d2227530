"""The whole program against the test driver: true energy, true money, through kill -9, reload and a hung driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.driver.scenario import Constant, Device, Fault, Process, Scenario, Square, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, Series, killed, until

GPU_A = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
GPU_B = "GPU-bbbbbbbb-0000-0000-0000-000000000000"
CONFIG = """
interval = "200ms"
flush_interval = "200ms"
[site]
tariff = "flat"
pue = 1.5
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 0.96 }
rule = [{ rate = "all" }]
[[hardware]]
gpu = "NVIDIA H100*"
price = 250000
salvage = 25000
years = 4
"""
JOULES_PER_KWH = 3_600_000


@pytest.fixture
def trainer() -> Iterator[subprocess.Popen[bytes]]:
    environ = os.environ | {"FINOPS_PROJECT": "kronos", "FINOPS_TEAM": "quant", "FINOPS_MODEL": "kronos-base",
                            "FINOPS_MODEL_VERSION": "1.0"}
    with killed(["sleep", "infinity"], environ) as process:
        yield process


@pytest.fixture
def scenario(trainer: subprocess.Popen[bytes]) -> Scenario:
    return Scenario(
        devices=[
            Device(GPU_A, power=Constant(100) + Square(0, 400, period_s=1.7, duty=0.3), utilization=Constant(80),
                   processes=[Process(pid=trainer.pid, sm=Constant(80))]),
            Device(GPU_B, power=Constant(60)),
        ],
        epoch_ns=boottime_ns() - 100 * 10**9)


def start(directory: Path, scenario: Scenario, config: str = CONFIG) -> Daemon:
    scenario.write(directory / "scenario")
    return Daemon(directory / "agent", source="nvml", config=config, environ=driver_environ(directory / "scenario"))


def report(daemon: Daemon, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "agent", "report", "--config.file", str(daemon.config), "--state.dir", str(daemon.state),
               "--format", "json", *arguments]
    document: dict[str, object] = json.loads(subprocess.check_output(command), parse_float=Decimal)
    return document


def never_lower(before: Series, after: Series) -> None:
    assert before
    fallen = {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1.0) < value}
    assert not fallen


def test_energy_money_and_tags_are_the_true_ones(tmp_path: Path, scenario: Scenario) -> None:
    with start(tmp_path, scenario) as daemon:
        begun_ns = boottime_ns()
        first = daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A)
        until(lambda: boottime_ns() - begun_ns > 5 * 10**9, "five seconds of work")
        last = daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A)
        ended_ns = boottime_ns()
        truth = scenario.true_energy_mj(GPU_A, begun_ns, ended_ns) / 1000
        # Both ends are read within a tick, a flush and a counter update of the marks: 0.5 s at 500 W.
        assert abs((last - first) - truth) <= 250
        tags = {"project": "kronos", "team": "quant", "model": "kronos-base", "model_version": "1.0"}
        series = daemon.series()

        def total(name: str, **labels: str) -> float:
            return sum(v for (n, pairs), v in series.items() if n == name and labels.items() <= dict(pairs).items())

        energy = total("finops_workload_energy_joules_total", uuid=GPU_A, **tags)
        assert energy == pytest.approx(total("finops_gpu_energy_joules_total", uuid=GPU_A), abs=1e-6)
        cost = total("finops_workload_cost_total", uuid=GPU_A, component="energy", currency="CNY", **tags)
        assert cost == pytest.approx(energy / JOULES_PER_KWH * 0.96 * 1.5, abs=2e-9)
        hours = total("finops_workload_gpu_seconds_total", uuid=GPU_A, **tags) / 3600
        hardware = total("finops_workload_cost_total", uuid=GPU_A, component="hardware", **tags)
        assert hardware == pytest.approx(hours * 225_000 / (4 * 8_760), abs=2e-9)
        idle = total("finops_workload_energy_joules_total", uuid=GPU_B, project="__idle__")
        assert idle == pytest.approx(total("finops_gpu_energy_joules_total", uuid=GPU_B), abs=1e-6)
        assert total("finops_waste_cost_total", uuid=GPU_B, reason="unallocated") > 0
        assert total("finops_tariff_price_per_kwh", tariff="flat") == 0.96


def test_the_report_is_the_counters_to_the_nano(tmp_path: Path, scenario: Scenario) -> None:
    daemon = start(tmp_path, scenario)
    with daemon:
        until(lambda: daemon.value("finops_agent_ticks_total") > 10, "ten ticks")
        live = json.loads(daemon.get("/api/v1/usage?by=project,component"), parse_float=Decimal)
        assert {row["component"] for row in live["rows"]} == {"energy", "hardware"}
        daemon.signal(signal.SIGTERM)
        assert daemon.finish() == 0
    rows = report(daemon, "--by", "project,component")["rows"]
    assert isinstance(rows, list)
    costs = {(row["project"], row["component"]): row["cost"] for row in rows}
    with daemon:
        for (project, component), cost in costs.items():
            shown = daemon.value("finops_workload_cost_total", project=project, component=component)
            assert Decimal(str(shown)).quantize(Decimal("1e-9")) >= cost
    again = report(daemon, "--by", "gpu")["totals"]
    assert isinstance(again, list)
    assert sum(row["cost"] for row in again) >= sum(costs.values())


def test_kill_minus_nine_and_restart_go_on_from_where_it_was(tmp_path: Path, scenario: Scenario) -> None:
    daemon = start(tmp_path, scenario)
    before: Series = {}
    for _ in range(3):
        with daemon:
            never_lower(before, daemon.counters()) if before else None
            ticks = daemon.value("finops_agent_ticks_total")
            until(lambda: daemon.value("finops_agent_ticks_total") > ticks + 5, "five more ticks")  # noqa: B023
            before = daemon.counters()
            daemon.kill()
    with daemon:
        never_lower(before, daemon.counters())
        energy = daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A)
        shares = daemon.value("finops_workload_energy_joules_total", uuid=GPU_A)
        assert shares == pytest.approx(energy, abs=1e-6)


def test_a_good_reload_takes_effect_and_a_bad_one_changes_nothing(tmp_path: Path, scenario: Scenario) -> None:
    with start(tmp_path, scenario) as daemon:
        daemon.config.write_text(CONFIG.replace("0.96", "2.00"))
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.value("finops_tariff_price_per_kwh") == 2.0, "the new price")
        daemon.config.write_text("interval = 12\n")
        daemon.get("/-/reload", method="POST")
        until(lambda: daemon.value("finops_agent_config_reload_success") == 0.0, "the failed reload to show")
        assert daemon.value("finops_tariff_price_per_kwh") == 2.0
        assert "gpu-finops.toml:1: interval" in daemon.errors()
        daemon.config.write_text("")                            # as an editor leaves it in mid-save
        daemon.get("/-/reload", method="POST")
        until(lambda: "is empty" in daemon.errors(), "the empty file to be refused")
        assert daemon.value("finops_tariff_price_per_kwh") == 2.0
        daemon.config.write_text(CONFIG)
        daemon.get("/-/reload", method="POST")
        until(lambda: daemon.value("finops_agent_config_reload_success") == 1.0, "the mended reload")
        assert daemon.value("finops_tariff_price_per_kwh") == 0.96


def test_after_a_reload_days_are_the_new_ones_counters_go_on_and_what_must_wait_is_said(tmp_path: Path) -> None:
    kiritimati = CONFIG.replace("Asia/Shanghai", "Pacific/Kiritimati") + "[tags]\nmax_workloads = 1\n"
    elsewhere = kiritimati.replace("Pacific/Kiritimati", "Etc/GMT+12").replace('flush_interval = "200', 'flush_interval = "300')
    # The two zones are 26 hours apart: it is never the same day in both.

    def days(daemon: Daemon) -> set[str]:
        return {row["day"] for row in json.loads(daemon.get("/api/v1/usage?by=day"))["rows"]}

    sleep = ["sleep", "infinity"]
    with killed(sleep, os.environ | {"FINOPS_PROJECT": "a"}) as one, killed(sleep, os.environ | {"FINOPS_PROJECT": "b"}) as two:
        device = Device(GPU_A, power=Constant(100), processes=[Process(pid=one.pid), Process(pid=two.pid)])
        scenario = Scenario(devices=[device], epoch_ns=boottime_ns() - 100 * 10**9)
        with start(tmp_path, scenario, kiritimati) as daemon:
            until(lambda: daemon.value("finops_agent_dropped_series_total") >= 1.0, "the second project to overflow")
            before = days(daemon)
            Scenario(devices=[Device(GPU_A, power=Constant(100))], epoch_ns=scenario.epoch_ns).write(tmp_path / "scenario")
            until(lambda: daemon.value("finops_gpu_hidden_processes") == 0 and "finops_workload_memory_used_bytes{" not in
                  daemon.get("/metrics").decode(), "the processes to be gone")
            daemon.config.write_text(elsewhere)
            daemon.signal(signal.SIGHUP)
            until(lambda: "configuration reloaded" in daemon.errors(), "the reload")
            ticks = daemon.value("finops_agent_ticks_total")
            until(lambda: daemon.value("finops_agent_ticks_total") > ticks + 1, "ticks after it")
            assert daemon.value("finops_agent_dropped_series_total") >= 1.0
            assert before.isdisjoint(days(daemon))
            assert "flush_interval take effect at the next start only" in daemon.errors()


def test_a_driver_that_hangs_leaves_serving_alone_and_is_replaced(tmp_path: Path, scenario: Scenario) -> None:
    with start(tmp_path, scenario) as daemon:
        before = daemon.counters()
        hung = Scenario(devices=scenario.devices, epoch_ns=scenario.epoch_ns,
                        faults=[Fault("nvmlDeviceGetPowerUsage", hang=True)])
        hung.write(tmp_path / "scenario")
        until(lambda: daemon.value("finops_agent_probe_restarts_total") >= 1, "the probe to be replaced")
        assert not any(name == "finops_gpu_power_watts" for name, _ in daemon.series())
        assert all(value == 0 for (name, _), value in daemon.series().items() if name == "finops_gpu_up")
        never_lower(before, daemon.counters())
        scenario.write(tmp_path / "scenario")
        until(lambda: daemon.value("finops_gpu_up", uuid=GPU_A) == 1.0, "the GPU to be back", 30)
        energy = daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A)
        until(lambda: daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A) > energy, "energy to go on")
        assert daemon.value("finops_workload_energy_joules_total", uuid=GPU_A) > 0


def test_a_gpu_lost_in_mid_run_takes_nobody_with_it(tmp_path: Path, scenario: Scenario) -> None:
    with start(tmp_path, scenario) as daemon:
        before = daemon.counters()
        now_s = (boottime_ns() - scenario.epoch_ns) / 1e9
        lost = Device(GPU_B, power=Constant(60), lost=[(now_s, None)])
        Scenario(devices=[scenario.devices[0], lost], epoch_ns=scenario.epoch_ns).write(tmp_path / "scenario")
        until(lambda: daemon.value("finops_gpu_up", uuid=GPU_B) == 0.0, "the loss to show")
        assert daemon.value("finops_gpu_up", uuid=GPU_A) == 1.0
        assert daemon.value("finops_gpu_state", uuid=GPU_B, state="unknown") == 1.0
        energy = daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A)
        until(lambda: daemon.value("finops_gpu_energy_joules_total", uuid=GPU_A) > energy, "the other's energy to go on")
        never_lower(before, daemon.counters())


def test_a_recording_plays_back_to_the_same_money(tmp_path: Path, scenario: Scenario) -> None:
    scenario.write(tmp_path / "scenario")
    environ = os.environ | driver_environ(tmp_path / "scenario")
    (tmp_path / "gpu-finops.toml").write_text(CONFIG)
    trace = tmp_path / "trace.jsonl.gz"
    record = [sys.executable, "-m", "agent", "record", str(trace), "--source", "nvml", "--duration", "2s",
              "--config.file", str(tmp_path / "gpu-finops.toml")]
    subprocess.run(record, env=environ, check=True, capture_output=True)
    costs = []
    for name in ("one", "two"):
        daemon = Daemon(tmp_path / name, "--replay.file", str(trace), source="replay", config=CONFIG)
        daemon.start()
        assert daemon.finish(30) == 0
        costs.append(report(daemon, "--by", "project,component"))
    assert costs[0] == costs[1]
    rows = costs[0]["rows"]
    assert isinstance(rows, list)
    assert {row["project"] for row in rows} == {"kronos", "__idle__"}
    assert sum(row["energy_kwh"] for row in rows) > 0


def test_the_driver_is_released_and_taken_up_again_while_serving_goes_on(tmp_path: Path, scenario: Scenario) -> None:
    def finops(command: str, daemon: Daemon) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "agent", command, "--config.file", str(daemon.config),
                               "--state.dir", str(daemon.state)], capture_output=True, text=True, check=False)

    with start(tmp_path, scenario) as daemon:
        assert daemon.process is not None
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
        before = daemon.counters()
        assert len(children.read_text().split()) == 1
        done = finops("release", daemon)
        assert (done.returncode, done.stdout.split(":")[0]) == (0, "released")
        assert children.read_text() == ""                   # nobody of ours holds the driver
        until(lambda: daemon.value("finops_gpu_up") == 0.0, "no GPU to be up")
        never_lower(before, daemon.counters())
        assert finops("resume", daemon).returncode == 0
        until(lambda: daemon.value("finops_gpu_up") == 2.0, "both GPUs to be back")
        energy = daemon.value("finops_gpu_energy_joules_total")
        until(lambda: daemon.value("finops_gpu_energy_joules_total") > energy, "energy to go on")
    done = finops("release", daemon)
    assert done.returncode == 1
    assert "no daemon runs here" in done.stderr
