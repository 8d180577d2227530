"""A real NVIDIA GPU, the driver's own figures beside ours: joules, money, restarts, and what looking costs.

    python benchmarks/real_gpu.py [--out DIRECTORY] [--load PYTHON] [--kills 20]

Needs an NVIDIA driver, and a Python that has PyTorch for the load (``--load``; this one where left out). About four minutes.
The daemon is killed again and again under load, and the counters that it serves may not fall.
Beside the daemon run ``gpu-finops record`` and ``nvidia-smi``, and a thread here that asks for the energy counter and for
power every 10 ms. Ends with 1 where the daemon's joules are not the counter's to the millijoule, its money is not joules times
price to the nano-unit, or ``verify`` finds a fault. What it shows of the sensor itself is judged by nobody.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pynvml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.ledger.query import open_for_reading  # noqa: E402
from agent.ledger.verify import verify  # noqa: E402
from agent.sources.nvml_source import NvmlSource  # noqa: E402
from benchmarks.footprint import cpu_s, family, pss_mib  # noqa: E402
from tests.e2e.daemon import Daemon, until  # noqa: E402

PRICE = Fraction("0.3127")
CONFIG = f"""
interval = "1s"
[site]
tariff = "flat"
[tariff.flat]
currency = "EUR"
timezone = "Europe/Berlin"
rates = {{ all = {float(PRICE)} }}
rule = [{{ rate = "all" }}]
[[hardware]]
gpu = "*"
price = 27000
years = 4
"""
LOAD = """
import sys, time, torch
on_s, off_s, seconds = map(float, sys.argv[1:])
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
torch.cuda.synchronize()
end = time.monotonic() + seconds
while time.monotonic() < end:
    pause = time.monotonic() + on_s
    while time.monotonic() < pause:
        for _ in range(4):
            a @ a
        torch.cuda.synchronize()
    time.sleep(off_s)
"""
# name, and (project, busy s, pause s) of each process at once; for so many seconds
PHASES: tuple[tuple[str, tuple[tuple[str, float, float], ...], float], ...] = (
    ("nobody", (), 15),
    ("steady", (("steady", 1, 0),), 20),
    ("0.2 s wave", (("pulse", 0.06, 0.14),), 20),
    ("1.7 s wave", (("pulse", 0.51, 1.19),), 20),
    ("two at once", (("one", 1, 0), ("other", 0.3, 0.7)), 20),
    ("parked", (("parked", 0, 1),), 20),
    ("nobody again", (), 15),
)
CALLS: dict[str, Callable[[Any], object]] = {
    "nvmlDeviceGetTotalEnergyConsumption": pynvml.nvmlDeviceGetTotalEnergyConsumption,
    "nvmlDeviceGetFieldValues, the energy": lambda gpu: pynvml.nvmlDeviceGetFieldValues(
        gpu, [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION]),
    "nvmlDeviceGetPowerUsage": pynvml.nvmlDeviceGetPowerUsage,
    "nvmlDeviceGetFieldValues, two of power": lambda gpu: pynvml.nvmlDeviceGetFieldValues(
        gpu, [pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_FI_DEV_POWER_AVERAGE]),
    "nvmlDeviceGetUtilizationRates": pynvml.nvmlDeviceGetUtilizationRates,
    "nvmlDeviceGetMemoryInfo": pynvml.nvmlDeviceGetMemoryInfo,
    "nvmlDeviceGetTemperature": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
    "nvmlDeviceGetComputeRunningProcesses": pynvml.nvmlDeviceGetComputeRunningProcesses,
    "nvmlDeviceGetProcessUtilization": lambda gpu: pynvml.nvmlDeviceGetProcessUtilization(gpu, 0),
    "nvmlDeviceGetSamples, power": lambda gpu: pynvml.nvmlDeviceGetSamples(gpu, pynvml.NVML_TOTAL_POWER_SAMPLES, 0),
}


class Look(NamedTuple):
    """What the driver says at an instant of CLOCK_MONOTONIC and of the wall clock; a power is None where it does not say."""

    at_s: float
    utc_s: float
    counter_mj: int
    power_mw: int | None
    instant_mw: int | None


class Watcher(threading.Thread):
    """Asks the driver every 10 ms."""

    def __init__(self, gpu: Any) -> None:
        super().__init__(daemon=True)
        self._gpu = gpu
        self._stopping = threading.Event()
        self.looks: list[Look] = []

    def run(self) -> None:
        while not self._stopping.wait(0.01):
            at_s, utc_s = time.monotonic(), time.time()
            counter_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)
            power_mw, instant_mw = None, None
            with contextlib.suppress(pynvml.NVMLError):
                power_mw = pynvml.nvmlDeviceGetPowerUsage(self._gpu)
            (field,) = pynvml.nvmlDeviceGetFieldValues(self._gpu, [pynvml.NVML_FI_DEV_POWER_INSTANT])
            if field.nvmlReturn == pynvml.NVML_SUCCESS:
                instant_mw = int(field.value.uiVal)
            self.looks.append(Look(at_s, utc_s, counter_mj, power_mw, instant_mw))

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def between(self, from_s: float, to_s: float) -> list[Look]:
        return [look for look in self.looks if from_s <= look.at_s <= to_s]


def joules(points: list[tuple[float, float]]) -> float:
    """The area under (s, W), each in force until the next."""
    return sum(watts * (after - at) for (at, watts), (after, _) in pairwise(points))


def period_ms(looks: list[Look], of: Callable[[Look], object]) -> str:
    """The median time between two changes of a figure."""
    changes = [look.at_s for before, look in pairwise(looks) if of(look) != of(before)]
    gaps = [1_000 * (after - at) for at, after in pairwise(changes)]
    return f"{statistics.median(gaps):.0f} ms" if gaps else "never"


def call_costs(gpu: Any) -> Iterator[str]:
    for name, call in CALLS.items():
        took_us = []
        for _ in range(200):
            began = time.perf_counter()
            with contextlib.suppress(pynvml.NVMLError):
                call(gpu)
            took_us.append((time.perf_counter() - began) * 1e6)
        took_us.sort()
        yield f"| {name} | {statistics.median(took_us):.0f} | {took_us[-3]:.0f} |"


def reading_cost() -> str:
    source, took_ms = NvmlSource({}), []
    source.open()
    cpu = time.process_time()
    for sequence in range(100):
        began = time.perf_counter()
        source.read(sequence)
        took_ms.append((time.perf_counter() - began) * 1_000)
    cpu_ms = (time.process_time() - cpu) * 10
    source.close()
    return f"a reading of all that the daemon asks for: {statistics.median(took_ms):.2f} ms, {cpu_ms:.2f} ms of CPU"


def smi_points(file: Path) -> list[tuple[float, float]]:
    """(wall clock s, W) that nvidia-smi wrote."""
    points = []
    for line in file.read_text().splitlines():
        stamp, _, watts = line.partition(", ")
        with contextlib.suppress(ValueError):
            points.append((dt.datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f").astimezone().timestamp(), float(watts)))
    return points


class Run:
    """Everything that goes on, and what it came to."""

    def __init__(self, out: Path, load: str, kills: int) -> None:
        self._out, self._load, self._kills = out, load, kills
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._watcher = Watcher(self._gpu)
        self._spans: list[tuple[str, float, float]] = []
        self._execs: list[str] = []
        self.lines: list[str] = []

    def live(self) -> bool:
        say = self.lines.append
        say(f"{pynvml.nvmlDeviceGetName(self._gpu)}, driver {pynvml.nvmlSystemGetDriverVersion()}, "
            f"{pynvml.nvmlDeviceGetCount()} GPU(s) here, the first is watched")
        say("\n| NVML call | us, median of 200 | us, third worst |\n| --- | ---: | ---: |")
        self.lines += call_costs(self._gpu)
        say(reading_cost())
        self._watcher.start()
        smi_file = self._out / "nvidia-smi.csv"
        with smi_file.open("w") as smi_out, contextlib.ExitStack() as stack:
            for command, output in (
                    ([sys.executable, "-m", "agent", "record", str(self._out / "trace.jsonl.gz"), "--source", "nvml"], None),
                    (["nvidia-smi", "-i", "0", "--query-gpu=timestamp,power.draw.instant", "--format=csv,noheader,nounits",
                      "-lms", "20"], smi_out)):
                beside = subprocess.Popen(command, stdout=output)
                stack.callback(beside.wait)
                stack.callback(beside.send_signal, signal.SIGINT)
            good = self._with_daemon()
        self._watcher.stop()
        self._tell_energy(smi_points(smi_file))
        self.lines += self._execs
        return good

    def _with_daemon(self) -> bool:
        with Daemon(self._out / "daemon", source="nvml", config=CONFIG) as daemon:
            assert daemon.process is not None
            pids, began_s = family(daemon.process.pid), time.monotonic()
            cpu_before_s = cpu_s(pids)
            for name, processes, seconds in PHASES:
                self._phase(name, processes, seconds)
            spent_s, wall_s = cpu_s(pids) - cpu_before_s, time.monotonic() - began_s
            self.lines.append(f"daemon and probe: {100 * spent_s / wall_s:.2f} % of a core, {pss_mib(pids):.1f} MiB, "
                              f"{daemon.value('finops_agent_ticks_total'):.0f} ticks, "
                              f"{daemon.value('finops_agent_missed_ticks_total'):.0f} missed")
            fallen = self._killed(daemon)
            (self._out / "metrics.txt").write_bytes(daemon.get("/metrics"))
            daemon.stop()
        report = subprocess.run(
            [sys.executable, "-m", "agent", "report", "--by", "project,component", "--config.file", str(daemon.config),
             "--state.dir", str(daemon.state)], capture_output=True, text=True, check=False)
        self.lines.append(report.stdout + report.stderr)
        return self._judge(daemon.state) and not fallen

    def _killed(self, daemon: Daemon) -> int:
        """Kill the daemon under load, and start it again; how many counters were lower, or gone, than before."""
        load, pause, fallen = self._start("killed", 1, 0, 3 * self._kills), Random(1), 0
        for _ in range(self._kills):
            threading.Event().wait(1 + 2 * pause.random())
            before = daemon.counters()
            daemon.kill()
            daemon.start()
            until(daemon.first_cost, "the daemon to serve again")
            after = daemon.counters()
            fallen += sum(after.get(key, -1) < value for key, value in before.items())
        load.kill()
        load.wait()
        self.lines.append(f"killed {self._kills} times under load: {fallen} counters lower than before")
        return fallen

    def _start(self, project: str, on_s: float, off_s: float, seconds: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self._load, "-c", LOAD, str(on_s), str(off_s), str(seconds)],
                                env=os.environ | {"FINOPS_PROJECT": project})

    def _phase(self, name: str, processes: tuple[tuple[str, float, float], ...], seconds: float) -> None:
        began_s = time.monotonic()
        if len(processes) == 1:
            (project, on_s, off_s), = processes
            answer = self._out / f"exec-{project}-{on_s:g}.json"
            subprocess.run(
                [sys.executable, "-m", "agent", "exec", "--project", project, "--json", str(answer), "--gpu", "0",
                 "--", self._load, "-c", LOAD, str(on_s), str(off_s), str(seconds)], check=False, capture_output=True)
            ended_s = time.monotonic()
            looks = self._watcher.between(began_s, ended_s)
            told = json.loads(answer.read_text())
            self._execs.append(f"exec, {name}: {told['energy_joules']} J, {told['certainty']}; the counter while it ran: "
                               f"{(looks[-1].counter_mj - looks[0].counter_mj) / 1_000} J")
        elif processes:
            for one in [self._start(*process, seconds) for process in processes]:
                one.wait()
        else:
            threading.Event().wait(seconds)
        self._spans.append((name, began_s, time.monotonic()))

    def _tell_energy(self, smi: list[tuple[float, float]]) -> None:
        looks = self._watcher.looks
        self.lines.append(
            f"{len(looks)} looks, {1_000 * (looks[-1].at_s - looks[0].at_s) / len(looks):.1f} ms apart; "
            f"the counter moves every {period_ms(looks, lambda look: look.counter_mj)}, "
            f"power every {period_ms(looks, lambda look: look.power_mw)}, "
            f"instant power every {period_ms(looks, lambda look: look.instant_mw)}")
        self.lines.append("\n| phase | s | counter, J | mean W | power usage, % off the counter | instant power, % off | "
                          "nvidia-smi's instant power, % off |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        wall = [at for at, _ in smi]
        for name, from_s, to_s in self._spans:
            found = self._watcher.between(from_s, to_s)
            truth_j = (found[-1].counter_mj - found[0].counter_mj) / 1_000
            areas = [joules([(look.at_s, look.power_mw / 1_000) for look in found if look.power_mw is not None]),
                     joules([(look.at_s, look.instant_mw / 1_000) for look in found if look.instant_mw is not None])]
            areas.append(joules(smi[bisect_left(wall, found[0].utc_s):bisect_left(wall, found[-1].utc_s)]))
            off = " | ".join(f"{100 * (area / truth_j - 1):+.2f}" if area and truth_j else "" for area in areas)
            self.lines.append(f"| {name} | {to_s - from_s:.1f} | {truth_j:.1f} | {truth_j / (to_s - from_s):.1f} | {off} |")

    def _judge(self, state: Path) -> bool:
        uuid = pynvml.nvmlDeviceGetUUID(self._gpu)
        with contextlib.closing(open_for_reading(state)) as db:
            faults = verify(db)
            meter = json.loads(db.execute("SELECT meter FROM device WHERE uuid = ?", (uuid,)).fetchone()[0])
            (booked_mj, gap_ns), = db.execute("SELECT energy_mj, gap_ns FROM device WHERE uuid = ?", (uuid,))
            (spent_nano,), = db.execute("SELECT SUM(cost_nano) FROM usage WHERE component = 'energy' AND uuid = ?", (uuid,))
            (totals,), = db.execute("SELECT COUNT(*) FROM cost_total WHERE component = 'energy'")
        first_mj = meter["energy_mj"] - booked_mj
        seen = {look.counter_mj for look in self._watcher.looks}
        owed_nano = booked_mj * PRICE * 10**9 / Fraction(3_600_000_000)
        exact = first_mj in seen and meter["energy_mj"] in seen
        paid = 0 <= owed_nano - spent_nano < totals
        self.lines.append(
            f"the daemon booked {booked_mj} mJ through {self._kills} kills, {gap_ns / 1e9:.3f} s without energy: the counter's "
            f"difference from {first_mj} to {meter['energy_mj']}, {'both' if exact else 'NOT both'} seen beside it\n"
            f"energy at {float(PRICE)} EUR/kWh: {spent_nano} nano-EUR of {float(owed_nano):.3f}, "
            f"{'less than one carried by each of' if paid else 'WRONG for'} {totals} totals; verify finds {len(faults)} faults")
        return exact and paid and not faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a directory for the recording and what else was written")
    parser.add_argument("--load", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        run = Run(out, options.load, options.kills)
        try:
            good = run.live()
        finally:
            print("\n".join(run.lines), flush=True)
    print("good" if good else "NOT good")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
