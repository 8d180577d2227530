"""Energy attributed against energy caused: the real NVML source on the driver double, the real meter, and a turned clock.

    python -m benchmarks.accuracy.attribution [--seeds 20]

The double draws ``BARE_W``, ``CONTEXT_W`` more while a process holds it, and what the processes' work adds; who worked in
which of the driver's looks (six a second) is drawn by seed. So each workload's true share of the dynamic energy is known.
Every run begins with an empty device, then with parked processes, so that static power is learned as it would be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.attribution.attribution import Attribution, instances_by_parent
from agent.energy.metering import EnergyMeter
from agent.model import IDLE, UNATTRIBUTED
from agent.settings import Tags
from agent.sources.nvml_source import NvmlSource
from agent.tags.resolver import WorkloadResolver
from agent.units import MJ_PER_J, NS_PER_S
from benchmarks.accuracy.driver_clock import DriverClock
from tests.driver.scenario import (
    ClockFile,
    Constant,
    Device,
    Instance,
    Points,
    Process,
    Scenario,
    Square,
    Turn,
    Wave,
    driver_environ,
)

UUID = "GPU-attribution"
BARE_W, CONTEXT_W, WORK_W = 70, 45, 500
PARKED_S, WORK_S = 60.0, 120.0                   # when the processes come, and when they begin to work
FIRST_PID = 5_000_000                            # above any real one: /proc is the benchmark's own
KEYS = ("project",)


@dataclass(frozen=True)
class Case:
    name: str
    promise: str
    device: Device
    projects: dict[int, str]                     # by PID
    seconds: int
    dynamic_j: float                             # drawn by work, in truth
    judge: str                                   # own, share, named, instances
    subject: str = ""                            # the project that is judged
    true_share: float = 0.0
    promised: float = 0.0


@dataclass(frozen=True)
class Row:
    """``found`` is what the promise is about: a part of the dynamic energy, the error of a share, or mJ. ``off_mj``: shares
    less device."""

    name: str
    promise: str
    found: float
    kept: bool
    methods: list[str]
    half_width: float | None
    off_mj: int


def working(load: Wave, from_s: float = PARKED_S) -> Wave:
    return Constant(BARE_W) + Points((0, 0), (from_s, CONTEXT_W)) + load


def cases(seed: int) -> list[Case]:
    one, two = FIRST_PID, FIRST_PID + 1
    there = [(PARKED_S, None)]
    half_busy = Points((0, 0), (WORK_S, WORK_W))
    pulses = [(WORK_S + 3.4 * n, WORK_W if n % 2 == 0 else 0) for n in range(60)]
    pulsed_sm = [(at_s, 100 if watts else 0) for at_s, watts in pulses]
    pulsed_j = float(sum(watts * 3.4 for _, watts in pulses))
    found = [
        Case("one process alone", "≥ 99 % its own",
             Device(UUID, power=working(Points((0, 0), *pulses)), utilization=Points((0, 0), *pulsed_sm),
                    processes=[Process(one, sm=Points((0, 0), *pulsed_sm), windows=there)]),
             {one: "own"}, 330, pulsed_j, "own", "own", promised=0.99),
        Case("parked beside busy", "≤ 1 % the parked one's",
             Device(UUID, power=working(half_busy), utilization=Points((0, 0), (WORK_S, 100)),
                    processes=[Process(one, sm=Points((0, 0), (WORK_S, 100)), windows=there), Process(two, windows=there)]),
             {one: "busy", two: "parked"}, 720, 600.0 * WORK_W, "own", "parked", promised=0.01),
    ]
    for share in (0.5, 0.9):
        name = "two equal" if share == 0.5 else "90 / 10"
        device = Device(UUID, power=working(half_busy), utilization=Points((0, 0), (WORK_S, 100)), seed=seed, processes=[
            Process(one, sm=Turn(0, share), windows=[(WORK_S, None)]),
            Process(two, sm=Turn(share, 1), windows=[(WORK_S, None)]),
            Process(two + 1, windows=[(PARKED_S, WORK_S)])])
        found.append(Case(f"{name}, 10 minutes", "within 2.5 points", device, {one: "a", two: "b", two + 1: "c"}, 720,
                          600.0 * WORK_W, "share", "a", share, promised=0.025))
    short = [Process(FIRST_PID + n, sm=Constant(100), windows=[(WORK_S + 2 * n + 0.3, WORK_S + 2 * n + 2.3)])
             for n in range(200)]
    begin_s, end_s = WORK_S + 0.3, WORK_S + 400.3
    load = Points((0, 0), (begin_s, CONTEXT_W + WORK_W), (end_s, 0))
    found.append(Case(
        "200 processes of 2 s each", "≥ 85 % named",
        Device(UUID, power=Constant(BARE_W) + load, utilization=Points((0, 0), (begin_s, 100), (end_s, 0)), processes=short),
        {FIRST_PID + n: f"job-{n % 50}" for n in range(200)}, 530, 400.0 * WORK_W, "named", promised=0.85))
    turns = [Process(FIRST_PID + n, gpu_instance=n + 1, windows=there,
                     sm=Points((0, 0), (WORK_S, 0)) + Square(0, 100, period_s=20, duty=0.5, phase_s=10 * n))
             for n in range(2)]
    found.append(Case(
        "MIG 3g + 4g busy alternately", "Σ instances = parent, 0 mJ off",
        Device(UUID, power=working(half_busy), mig=True, processes=turns, instances=[
            Instance("MIG-3", "3g.40gb", gpu_instance=1, gpu_slices=3, compute_slices=3),
            Instance("MIG-4", "4g.40gb", gpu_instance=2, gpu_slices=4, compute_slices=4)]),
        {FIRST_PID: "a", FIRST_PID + 1: "b"}, 320, 200.0 * WORK_W, "instances", "a", 0.5, promised=0.025))
    return found


def write_procfs(root: Path, projects: dict[int, str]) -> None:
    """A /proc of these processes, and of nobody else."""
    boot = root / "sys/kernel/random"
    boot.mkdir(parents=True, exist_ok=True)
    (boot / "boot_id").write_text("benchmark\n")
    for pid, project in projects.items():
        folder = root / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(f"{pid} (job) S 1 {' '.join(['0'] * 17)} 100 0\n")
        (folder / "environ").write_bytes(f"FINOPS_PROJECT={project}\0".encode())
        (folder / "cmdline").write_bytes(b"job\0")


def run(case: Case, folder: Path) -> Row:
    file = ClockFile(folder / "clock", start_ns=NS_PER_S // 7)
    Scenario(devices=[case.device], clock=file).write(folder / "scenario")
    write_procfs(folder / "proc", case.projects)
    source = NvmlSource({"look_s": 0, "procfs": str(folder / "proc"), "sysfs": str(folder)}, DriverClock(file))
    resolver = WorkloadResolver(Tags(keys=KEYS))
    attribution, meter = Attribution(resolver.resolve, KEYS), EnergyMeter()
    sums: dict[str, int] = {}
    places: dict[str, int] = {}
    whole_mj, methods, width = 0, set(), None
    source.open()
    try:
        for sequence in range(case.seconds):
            reading = source.read(sequence)
            resolver.forget(attribution.learn(reading))
            devices = {device.uuid: device for device in reading.devices}
            instances = instances_by_parent(reading)
            for interval in meter.advance(reading):
                whole_mj += interval.energy_mj
                for share in attribution.split(interval, devices[interval.uuid], instances.get(interval.uuid, ()), {}):
                    places[share.uuid] = places.get(share.uuid, 0) + share.energy_mj
                    if file.now_ns >= int(WORK_S * NS_PER_S):
                        name = share.workload[0]
                        sums[name] = sums.get(name, 0) + share.energy_mj
                        methods.add(share.method)
                        if name == case.subject:
                            width = attribution.share_error(share)
            file.advance_s(1)
    finally:
        source.close()
    off_mj = sum(places.values()) - whole_mj
    found, kept = judged(case, sums, places, whole_mj)
    return Row(case.name, case.promise, found, kept, sorted(methods), width, off_mj)


def judged(case: Case, sums: dict[str, int], places: dict[str, int], whole_mj: int) -> tuple[float, bool]:
    named = {name: mj for name, mj in sums.items() if name not in (IDLE, UNATTRIBUTED)}
    if case.judge in ("share", "instances"):     # both hold it for as long: the contexts' part is equal, and taken off
        contexts_mj = CONTEXT_W * (case.seconds - WORK_S) * MJ_PER_J
        error = abs((named["a"] - contexts_mj / 2) / (named["a"] + named["b"] - contexts_mj) - case.true_share)
        if case.judge == "share":
            return error, error <= case.promised
        off_mj = abs(whole_mj - places["MIG-3"] - places["MIG-4"])
        return float(off_mj), off_mj == 0 and error <= case.promised
    whole_named = case.judge == "named"
    contexts_mj = CONTEXT_W * (case.dynamic_j / WORK_W if whole_named else case.seconds - WORK_S) * MJ_PER_J
    mine_mj = sum(named.values()) - contexts_mj if whole_named else named[case.subject] - contexts_mj / len(named)
    part = mine_mj / (case.dynamic_j * MJ_PER_J)
    return part, part <= case.promised if case.subject == "parked" else part >= case.promised


def measure(seeds: Sequence[int]) -> list[list[Row]]:
    """The rows of every case, one a seed; cases in which nothing is drawn by lot have one."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, **driver_environ(Path(folder) / "scenario")}
        command = [sys.executable, "-m", "benchmarks.accuracy.attribution", "--folder", folder,
                   "--seeds", ",".join(str(seed) for seed in seeds)]
        done = subprocess.run(command, env=environ, check=True, cwd=Path(__file__).resolve().parents[2],
                              stdout=subprocess.PIPE, text=True)
    return [[Row(**row) for row in rows] for rows in json.loads(done.stdout)]


def run_all(seeds: Sequence[int], folder: Path) -> list[list[Row]]:
    found: list[list[Row]] = []
    for case in cases(seeds[0]):
        drawn = seeds if case.judge == "share" else seeds[:1]
        found.append([run(replace(case, device=replace(case.device, seed=seed)), folder) for seed in drawn])
    return found


def table(found: list[list[Row]]) -> str:
    lines = ["| case | promised | found | methods | exported half-width | seeds within it | shares less device |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for rows in found:
        first = rows[0]
        points = "points" in first.promise
        worst = max(row.found for row in rows)
        shown = f"{worst * 100:.2f} points" if points else f"{worst:g} mJ" if "mJ" in first.promise else f"{worst:.2%}"
        width = f"{first.half_width * 100:.2f} points" if points and first.half_width is not None else "-"
        within = f"{sum(row.found <= (row.half_width or 0) for row in rows)} of {len(rows)}" if points else "-"
        lines.append(f"| {first.name} | {first.promise} | {shown}{'' if all(row.kept for row in rows) else ' (broken)'} "
                     f"| {', '.join(first.methods)} | {width} | {within} | {max(abs(row.off_mj) for row in rows)} mJ |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="20", help="how many, or which: 1,2,3")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    given = [int(word) for word in arguments.seeds.split(",")]
    if arguments.folder:
        print(json.dumps([[asdict(row) for row in rows] for rows in run_all(given, Path(arguments.folder))]))
    else:
        print(table(measure(range(1, given[0] + 1) if len(given) == 1 else given)))


if __name__ == "__main__":
    main()
