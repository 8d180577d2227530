"""What docs/accuracy.md tells an operator to do, done with the real program."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from agent.config.config import load
from tests.driver.scenario import Constant, Device, Process, Scenario, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, until

CALIBRATED, OTHER = "GPU-8f2a0000-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
UNSEEN = 4_000_000                       # no PID of this machine, as one of another PID namespace


def example() -> str:
    return PAGE.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]


def test_the_factor_of_the_page_multiplies_energy_and_power_and_hidden_processes_are_counted(tmp_path: Path) -> None:
    (rule,) = tomllib.loads(example())["calibration"]
    calibration = example().replace(str(rule["factor"]), "1.5")          # far enough from 1 to be seen within seconds
    Scenario(devices=[Device(CALIBRATED, power=Constant(200), processes=[Process(pid=UNSEEN)]),
                      Device(OTHER, power=Constant(200))], epoch_ns=boottime_ns() - 100 * 10**9).write(tmp_path / "scenario")
    config = 'interval = "200ms"\nflush_interval = "200ms"\n[site]\ntariff = "flat"\n' + calibration + """
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 0.96 }
rule = [{ rate = "all" }]
"""
    with Daemon(tmp_path / "agent", source="nvml", config=config, environ=driver_environ(tmp_path / "scenario")) as daemon:
        until(lambda: daemon.value("finops_gpu_energy_joules_total", uuid=OTHER) > 400, "some energy")
        seen = daemon.series()
    value = {(name, dict(labels).get("uuid")): number for (name, labels), number in seen.items()}
    energy = [value["finops_gpu_energy_joules_total", uuid] for uuid in (CALIBRATED, OTHER)]
    # One tick reads two counters at two moments: each may be an update of 20 J ahead of the other.
    assert energy[0] == pytest.approx(1.5 * energy[1], abs=50)
    assert value["finops_gpu_power_watts", CALIBRATED] == pytest.approx(300)
    assert value["finops_gpu_power_watts", OTHER] == 200
    assert (value["finops_gpu_hidden_processes", CALIBRATED], value["finops_gpu_hidden_processes", OTHER]) == (1, 0)


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    file = tmp_path / "gpu-finops.toml"
    file.write_text(example())
    assert [(rule.gpu, str(rule.factor)) for rule in load(file).calibration] == [("GPU-8f2a*", "1.034")]
