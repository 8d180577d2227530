"""Process lists, per-process utilization and accounting, read through the real pynvml."""

from __future__ import annotations

import math

import pynvml
import pytest

from tests.driver.client import NvmlFailed, World
from tests.driver.scenario import (
    Chance,
    ClockFile,
    Constant,
    Device,
    Junk,
    Process,
    Scenario,
    Square,
    Turn,
    ns,
)

HANDLE = "n.nvmlDeviceGetHandleByIndex(0)"
USE = f"[[u.pid, u.timeStamp, u.smUtil, u.memUtil, u.encUtil, u.decUtil] for u in n.{{}}({HANDLE}, {{}})]"


def uses(world: World, last_seen_us: int, function: str = "nvmlDeviceGetProcessUtilization") -> list[list[int]]:
    return world.client(USE.format(function, last_seen_us))


def listed(world: World, which: str) -> list[list[int | None]]:
    return world.client(f"[[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGet{which}({HANDLE})]")


def test_processes_by_kind_and_window(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a", processes=[
        Process(11, memory_bytes=1000), Process(12, memory_bytes=None), Process(13, kind="graphics", memory_bytes=30),
        Process(14, kind="mps", memory_bytes=40), Process(15, memory_bytes=50, windows=[(10, 20), (30, None)])])],
        clock=clock))
    clock.set_ns(ns(9.9))
    for version in ("", "_v2", "_v3"):
        assert listed(world, f"ComputeRunningProcesses{version}") == [[11, 1000], [12, None]]
    assert listed(world, "GraphicsRunningProcesses") == [[13, 30]]
    assert listed(world, "MPSComputeRunningProcesses") == [[14, 40]]
    there = []
    for at_s in (10, 19.99, 20, 30, 1e6):
        clock.set_ns(ns(at_s))
        there.append([15, 50] in listed(world, "ComputeRunningProcesses"))
    assert there == [True, True, False, True, True]


def test_list_that_does_not_fit(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a", processes=[Process(pid) for pid in range(1, 101)])], clock=clock))
    call = ("(lambda c, a: [n.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3({}, n.byref(c), a), c.value, a[1].pid])"
            "(n.c_uint({}), (n.c_nvmlProcessInfo_t * 200)())")
    assert world.client(call.format(HANDLE, 2)) == [pynvml.NVML_ERROR_INSUFFICIENT_SIZE, 100, 2]
    assert world.client(call.format(HANDLE, 100)) == [0, 100, 2]
    assert [pid for pid, _ in listed(world, "ComputeRunningProcesses")] == list(range(1, 101))


def test_use_is_the_mean_of_each_slot(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a", use_period_s=0.5, use_depth=4, processes=[
        Process(11, sm=Constant(80), mem=Constant(5), enc=Constant(6), dec=Constant(7)),
        Process(12, sm=Square(0, 100, period_s=1, duty=0.3)),       # 0.3 s of every other slot
        Process(13),                                                # does nothing: no rows
        Process(14, sm=Constant(90), windows=[(8.6, 8.8)])])], clock=clock))
    clock.set_ns(ns(10.1))
    first, second, third, fourth = (ns(at_s) // 1000 for at_s in (8.5, 9.0, 9.5, 10.0))
    rows = uses(world, 0)
    assert rows == [
        [11, first, 80, 5, 6, 7], [12, first, 60, 0, 0, 0],
        [11, second, 80, 5, 6, 7], [14, second, 36, 0, 0, 0],
        [11, third, 80, 5, 6, 7], [12, third, 60, 0, 0, 0],
        [11, fourth, 80, 5, 6, 7],
    ]
    assert uses(world, second) == rows[4:]
    assert uses(world, second, "nvmlDeviceGetProcessesUtilizationInfo") == rows[4:]
    assert world.error("GetProcessUtilization", str(fourth)) == pynvml.NVML_ERROR_NOT_FOUND


def test_other_manners_of_drivers(world: World, clock: ClockFile) -> None:
    processes = [Process(11, sm=Constant(80)), Process(12, sm=Constant(20), windows=[(0, 3)])]
    world.use(Scenario([
        Device("GPU-a", use_period_s=1, use_summary=True, use_empty_success=True, processes=processes),
        Device("GPU-b", use_period_s=0, processes=processes)], clock=clock))
    clock.set_ns(ns(5.5))
    assert [row[:3] for row in uses(world, 0)] == [[11, 5_000_000, 80], [12, 3_000_000, 20]]
    with pytest.raises(NvmlFailed) as failed:           # pynvml takes an empty success for an error, of code 0
        uses(world, 5_000_000)
    assert failed.value.code == 0
    assert world.error("GetProcessUtilization", "0", device=1) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_junk_rows(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a", use_period_s=1, processes=[Process(11, sm=Constant(80))],
                               junk=[Junk(11, every=2), Junk(99, sm=50, age_s=100, every=3)])], clock=clock))
    clock.set_ns(ns(202.5))
    assert [row[:3] for row in uses(world, 199_500_000)] == [
        [11, 200_000_000, 80], [11, 200_000_000, 4_294_967_295], [11, 201_000_000, 80], [99, 101_000_000, 50],
        [11, 202_000_000, 80], [11, 202_000_000, 4_294_967_295]]


def busy(world: World, clock: ClockFile, seed: int, *processes: Process) -> dict[int, set[int]]:
    samples = 6000
    world.use(Scenario([Device("GPU-a", use_depth=samples, processes=processes, seed=seed)], clock=clock))
    clock.set_ns(ns(samples / 6 + 0.01))
    found: dict[int, set[int]] = {process.pid: set() for process in processes}
    for pid, at_us, sm, *_ in uses(world, 0):
        assert sm == 100
        found[pid].add(at_us)
    return found


def test_chance_and_turns(world: World, clock: ClockFile) -> None:
    def five_sigma(p: float) -> float:
        return 5 * math.sqrt(p * (1 - p) / 6000)

    alone = busy(world, clock, 1, Process(11, sm=Chance(0.3)), Process(12, sm=Chance(0.5)))
    assert len(alone[11]) / 6000 == pytest.approx(0.3, abs=five_sigma(0.3))
    assert len(alone[12]) / 6000 == pytest.approx(0.5, abs=five_sigma(0.5))
    assert len(alone[11] & alone[12]) / 6000 == pytest.approx(0.15, abs=five_sigma(0.15))      # independent
    turns = busy(world, clock, 1, Process(21, sm=Turn(0, 0.9)), Process(22, sm=Turn(0.9, 1)))
    assert not turns[21] & turns[22] and len(turns[21] | turns[22]) == 6000
    assert len(turns[22]) / 6000 == pytest.approx(0.1, abs=five_sigma(0.1))
    assert busy(world, clock, 1, Process(11, sm=Chance(0.3)))[11] == alone[11]
    assert busy(world, clock, 2, Process(11, sm=Chance(0.3)))[11] != alone[11]


def test_accounting(world: World, clock: ClockFile) -> None:
    processes = [
        Process(11, sm=Square(0, 100, period_s=1, duty=0.4), memory_bytes=77, windows=[(10, 20)], accounting=True),
        Process(12, windows=[(30, None)], accounting=True), Process(13)]
    world.use(Scenario([Device("GPU-a", accounting=True, processes=processes), Device("GPU-b")], clock=clock))
    stats = ("(lambda s: [s.gpuUtilization, s.maxMemoryUsage, s.time, s.startTime, s.isRunning])"
             f"(n.nvmlDeviceGetAccountingStats({HANDLE}, 11))")
    clock.set_ns(ns(15))
    assert world.client(stats) == [40, 77, 5_000, 10_000_000, 1]
    clock.set_ns(ns(25))
    assert world.client(stats) == [40, 77, 10_000, 10_000_000, 0]
    assert world.ask("GetAccountingPids") == [11]
    assert world.error("GetAccountingStats", "12") == pynvml.NVML_ERROR_NOT_FOUND
    assert [world.ask("GetAccountingMode", device=i) for i in (0, 1)] == [1, 0]
    assert world.error("GetAccountingStats", "11", device=1) == pynvml.NVML_ERROR_NOT_SUPPORTED
