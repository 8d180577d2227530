"""A divided GPU through the whole program: its energy is shown once, its instances' workloads under their own UUIDs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.driver.scenario import Constant, Device, Instance, Process, Scenario, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, killed, until

GPU = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
CONFIG = """
interval = "200ms"
flush_interval = "200ms"
[site]
tariff = "flat"
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 0.96 }
rule = [{ rate = "all" }]
"""


def test_instances_sum_to_their_gpu_and_nothing_is_shown_twice(tmp_path: Path) -> None:
    with killed(["sleep", "infinity"], os.environ | {"FINOPS_PROJECT": "kronos"}) as child:
        Scenario(epoch_ns=boottime_ns() - 100 * 10**9, devices=[Device(
            GPU, power=Constant(350), mig=True,
            instances=[Instance("MIG-3", "3g.40gb", gpu_instance=1, compute_slices=3),
                       Instance("MIG-2", "2g.20gb", gpu_instance=2, compute_slices=2)],
            processes=[Process(child.pid, gpu_instance=1, sm=Constant(90))])]).write(tmp_path / "scenario")
        daemon = Daemon(tmp_path / "agent", source="nvml", config=CONFIG, environ=driver_environ(tmp_path / "scenario"))
        with daemon:
            until(lambda: daemon.value("finops_gpu_energy_joules_total") > 300, "300 J")
            series = daemon.series()
    found = {(name, labels["uuid"], labels.get("project", "")): value
             for (name, pairs), value in series.items() if "uuid" in (labels := dict(pairs))}
    energy = {key[1:]: value for key, value in found.items() if key[0] == "finops_workload_energy_joules_total"}
    assert energy.keys() == {("MIG-3", "kronos"), ("MIG-2", "__idle__"), (GPU, "__idle__")}
    assert sum(energy.values()) == pytest.approx(found["finops_gpu_energy_joules_total", GPU, ""], abs=1e-6)
    assert [key[1] for key in found if key[0] == "finops_gpu_energy_joules_total"] == [GPU]
    seconds = {key[1]: value for key, value in found.items() if key[0] == "finops_workload_gpu_seconds_total"}
    assert seconds["MIG-3"] / sum(seconds.values()) == pytest.approx(3 / 7, abs=1e-6)
    assert found["finops_gpu_mig_info", "MIG-3", ""] == 1
    methods = {labels["uuid"]: labels["method"] for (name, pairs), _ in series.items()
               if name == "finops_workload_attribution_info" and (labels := dict(pairs))}
    assert methods == {"MIG-3": "mig", "MIG-2": "idle", GPU: "idle"}
