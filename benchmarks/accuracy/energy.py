"""Energy booked against energy drawn: the real NVML source on the driver double, the real meter, and a turned clock.

The double's power is a waveform, so what was drawn is known in closed form. ``measure()`` gives one Row a case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agent.energy.metering import EnergyMeter
from agent.sources.nvml_source import NvmlSource
from agent.units import NS_PER_S
from benchmarks.accuracy.driver_clock import DriverClock
from tests.driver.scenario import (
    ClockFile,
    Constant,
    Counter,
    Device,
    Fault,
    Points,
    Samples,
    Scenario,
    Square,
    driver_environ,
)

UUID = "GPU-accuracy"
PHASES_S = (0.0, 0.037, 0.31, 0.55, 0.84)        # where in a second the ticks fall; the worst counts
HOUR_S = 3600.0
NO_AVERAGE = Fault("nvmlDeviceGetFieldValues:185", error=3)


@dataclass(frozen=True)
class Case:
    name: str
    device: Device
    promise: str                                 # what issue and docs/accuracy.md say of it
    faults: tuple[Fault, ...] = ()
    seconds: int = 120
    interval_s: float = 1.0
    asleep: tuple[tuple[float, float], ...] = ()
    reopened_s: float | None = None              # the source is closed and opened again: a driver reload
    phases_s: tuple[float, ...] = PHASES_S


@dataclass(frozen=True)
class Row:
    """Worst over the phases. ``error`` is relative to what was drawn; mJ are booked less drawn, gap in seconds."""

    name: str
    promise: str
    method: str
    error: float
    over_mj: int                                 # booked beyond what was drawn; 0: nothing double, nothing invented
    under_mj: int
    off_counter_mj: int                          # booked less the counter's own difference; counters without a fault
    gap_s: float
    ratio: float | None = field(default=None)    # finops_gpu_energy_disagreement_ratio at the end


def wave(period_s: float) -> Square:
    return Square(100, 700, period_s=period_s, duty=0.3)


def cases() -> list[Case]:
    pulsed = [(period_s, Device(UUID, power=wave(period_s))) for period_s in (0.2, 1.7, 7.0)]
    found = [Case(f"{p:g} s wave, counter", d, "0.2 %") for p, d in pulsed]
    rings = (("means of 100 ms", "1 %", Samples(0.1, 100, 0.1)), ("means of 20 ms", "1 %", Samples(0.02, 119, 0.02)),
             ("instants every 20 ms", "2 %", Samples(0.02, 119, 0.0)),
             ("instants every 100 ms", "none", Samples(0.1, 100, 0.0)))
    for name, promise, samples in rings:
        found += [Case(f"{p:g} s wave, samples: {name}", replace(d, counter=None, samples=samples), promise) for p, d in pulsed]
    neither = [(p, replace(d, counter=None, samples=None)) for p, d in pulsed]
    found += [Case(f"{p:g} s wave, average power", d, "5 % from 4 s up") for p, d in neither]
    found += [Case(f"{p:g} s wave, instant power only", replace(d, power_window_s=0), "none", (NO_AVERAGE,))
              for p, d in neither]
    steady = Constant(300)
    nap = (160.0, 160.0 + 8 * HOUR_S)
    night = Points((0, 300), (nap[0], 0), (nap[1], 300))
    found += [
        Case("frozen 30 s, then catching up", Device(UUID, power=steady, counter=Counter(freezes=[(130, 160)])), "0 mJ"),
        Case("frozen 30 s on a 1.7 s wave", Device(UUID, power=wave(1.7), counter=Counter(freezes=[(130, 160)])), "0 mJ"),
        Case("reset", Device(UUID, power=steady, counter=Counter(offset_mj=10**9, resets=[150.25])), "one tick of gap"),
        Case("fallen for 20 s and recovered",
             Device(UUID, power=steady, counter=Counter(offset_mj=10**9, falls=[(140, 160, 5_000)])), "0 mJ"),
        Case("frozen, then fallen, then recovered",
             Device(UUID, power=steady,
                    counter=Counter(offset_mj=10**9, freezes=[(125, 139)], falls=[(139, 160, 5_000)])), "0 mJ"),
        Case("leapt 20 MJ, then back",
             Device(UUID, power=steady, counter=Counter(jumps=[(140, 2 * 10**10), (150, -2 * 10**10)])), "0 mJ"),
        Case("leapt 20 MJ", Device(UUID, power=steady, counter=Counter(jumps=[(140, 2 * 10**10)])), "one tick of gap"),
        Case("suspended 8 h", Device(UUID, power=night), "0 mJ", seconds=90, asleep=(nap,)),
        Case("driver reloaded within 5 s", Device(UUID, power=steady, counter=Counter(offset_mj=10**9, resets=[152])),
             "what the new counter shows", reopened_s=150),
        Case("counter fails for 40 s", Device(UUID, power=steady), "0 mJ",
             (Fault("nvmlDeviceGetTotalEnergyConsumption", error=999, from_s=130, to_s=170),)),
        Case("two minutes without a tick", Device(UUID, power=steady), "0 mJ", interval_s=120, seconds=600),
    ]
    return found


def run(case: Case, phase_s: float, folder: Path) -> Row:
    file = ClockFile(folder / "clock", start_ns=int((100 + phase_s) * NS_PER_S))
    scenario = Scenario(devices=[case.device], faults=case.faults, clock=file)
    scenario.write(folder / "scenario")
    clock = DriverClock(file, case.asleep)
    source, meter = NvmlSource({"look_s": 0}, clock), EnergyMeter()
    booked_mj, gap_ns, method, counters = 0, 0, "", []
    from_ns, end_ns = file.now_ns, file.now_ns + case.seconds * NS_PER_S
    source.open()
    try:
        sequence = 0
        while True:
            reading = source.read(sequence)
            sequence += 1
            for interval in meter.advance(reading):
                booked_mj += interval.energy_mj
                gap_ns += interval.gap_ns
                method = interval.method
            counters.append(reading.devices[0].energy_mj)
            if file.now_ns >= end_ns:
                break
            file.advance_s(case.interval_s)
            for nap_from_s, nap_to_s in case.asleep:
                if nap_from_s <= file.now_ns / NS_PER_S < nap_to_s:
                    end_ns += int((nap_to_s - nap_from_s) * NS_PER_S)
                    file.advance_s(nap_to_s - nap_from_s)
            if case.reopened_s is not None and file.now_ns >= case.reopened_s * NS_PER_S and sequence < 10**6:
                sequence = 10**6
                source.close()
                file.advance_s(5)
                source = NvmlSource({"look_s": 0}, clock)
                source.open()
    finally:
        source.close()
    true_mj = scenario.true_energy_mj(UUID, from_ns, file.now_ns)
    first_mj, last_mj = counters[0], counters[-1]
    off_mj = booked_mj - (last_mj - first_mj) if first_mj is not None and last_mj is not None else 0
    check = meter.check(UUID)
    return Row(case.name, case.promise, method, abs(booked_mj - true_mj) / true_mj, max(0, booked_mj - true_mj),
               max(0, true_mj - booked_mj), off_mj, gap_ns / NS_PER_S, check.ratio if check is not None else None)


def worst(rows: list[Row]) -> Row:
    found = max(rows, key=lambda row: row.error)
    return replace(found, over_mj=max(row.over_mj for row in rows), under_mj=max(row.under_mj for row in rows),
                   off_counter_mj=max((row.off_counter_mj for row in rows), key=abs), gap_s=max(row.gap_s for row in rows),
                   ratio=max((row.ratio for row in rows if row.ratio is not None), key=abs, default=None))


def measure() -> list[Row]:
    """Every case, in a process that has the driver double for its driver."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, **driver_environ(Path(folder) / "scenario")}
        done = subprocess.run([sys.executable, "-m", "benchmarks.accuracy.energy", folder], env=environ, check=True,
                              cwd=Path(__file__).resolve().parents[2], stdout=subprocess.PIPE, text=True)
    return [Row(**row) for row in json.loads(done.stdout)]


def table(rows: list[Row]) -> str:
    lines = ["| case | promised | method | off | booked too much | booked too little | gap |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {r.name} | {r.promise} | {r.method} | {r.error:.3%} | {r.over_mj / 1000:g} J | {r.under_mj / 1000:g} J "
              f"| {r.gap_s:g} s |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        place = Path(sys.argv[1])
        print(json.dumps([asdict(worst([run(case, phase_s, place) for phase_s in case.phases_s])) for case in cases()]))
    else:
        print(table(measure()))
