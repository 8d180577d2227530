"""CPU of attribution in a tick, and what many short processes leave behind.

    python benchmarks/attribution.py [--gpus 8] [--processes 100] [--ticks 200] [--short 10000]

The first part starts so many real processes for each GPU, each with FINOPS_* in its environment, and carries readings that
list them through everything that attribution takes: the probe's process table over the real /proc, taking up the facts,
and the split with resolved tags. Each process has a row in each of the driver's six looks a second. One process on each
GPU is replaced in each tick. CPU is this process's own (user + system); the first tick, which reads the facts of all,
is told apart. The second part lets so many real short processes come and go, ten at a time, and counts what is still held
of them: facts, open descriptors of this process, memory. Ends with 1 where a descriptor is.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.attribution.attribution import Attribution  # noqa: E402
from agent.model import DeviceReading, EnergyInterval, ProcessFacts, ProcessUse, Reading, UtilizationSample  # noqa: E402
from agent.settings import Tags  # noqa: E402
from agent.sources.processes import ProcessTable  # noqa: E402
from agent.sources.procfs import Procfs  # noqa: E402
from agent.tags.resolver import WorkloadResolver  # noqa: E402
from agent.units import NS_PER_S, NS_PER_US  # noqa: E402

LOOKS_PER_S = 6
AT_A_TIME = 10
READINGS_REMEMBERED = 700                # more than the ten minutes for which shares are remembered
KEYS = ("project", "team", "model", "model_version")


def child(number: int) -> subprocess.Popen[bytes]:
    tags = {"FINOPS_PROJECT": f"project-{number % 20}", "FINOPS_TEAM": f"team-{number % 3}"}
    return subprocess.Popen(["/bin/sleep", "1000000"], env=tags, stdout=subprocess.DEVNULL)


def uuid(gpu: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{gpu:012d}"


def look(tick: int, gpu: int, processes: tuple[ProcessUse, ...]) -> DeviceReading:
    now_us = tick * NS_PER_S // NS_PER_US
    rows = tuple(UtilizationSample(process.pid, now_us - n * 166_667, 1 + process.pid % 3)
                 for n in range(LOOKS_PER_S) for process in processes)
    return DeviceReading(uuid=uuid(gpu), index=gpu, name="NVIDIA H100 80GB HBM3", boottime_ns=tick * NS_PER_S,
                         utilization_ratio=0.9, processes=processes, utilization_samples=rows)


def interval(tick: int, gpu: int) -> EnergyInterval:
    return EnergyInterval(uuid=uuid(gpu), start_utc_ns=(tick - 1) * NS_PER_S, end_utc_ns=tick * NS_PER_S,
                          elapsed_ns=NS_PER_S, energy_mj=500_000, gap_ns=0, method="counter")


def reading(tick: int, devices: list[DeviceReading], started: tuple[ProcessFacts, ...]) -> Reading:
    return Reading(session="benchmark", sequence=tick, boot_id="boot", boottime_ns=tick * NS_PER_S,
                   monotonic_ns=tick * NS_PER_S, utc_ns=tick * NS_PER_S, driver_version="", devices=tuple(devices),
                   started=started)


def carry(attribution: Attribution, resolver: WorkloadResolver, tick: int, devices: list[DeviceReading],
          started: tuple[ProcessFacts, ...]) -> int:
    """Attribution's part of a tick; the number of shares."""
    resolver.forget(attribution.learn(reading(tick, devices, started)))
    shares = 0
    for gpu, device in enumerate(devices):
        found = attribution.split(interval(tick, gpu), device, (), {})
        if sum(share.energy_mj for share in found) != 500_000:
            raise SystemExit("shares do not sum to the interval")
        shares += len(found)
    return shares


def measure_ticks(gpus: int, processes: int, ticks: int) -> None:
    children = [[child(gpu * processes + n) for n in range(processes)] for gpu in range(gpus)]
    table = ProcessTable(Procfs())
    resolver = WorkloadResolver(Tags(keys=KEYS))
    attribution = Attribution(resolver.resolve, KEYS)
    whole_ms: list[float] = []
    table_ms: list[float] = []
    shares = 0
    try:
        for tick in range(1, ticks + 1):
            for gpu in range(gpus):
                if tick > 1:
                    place = tick * 7 % processes
                    children[gpu][place].kill()
                    children[gpu][place].wait()
                    children[gpu][place] = child(tick)
            pids = [[process.pid for process in row] for row in children]
            begun_ns = time.process_time_ns()
            table.begin()
            uses = [tuple([ProcessUse(pid, table.start_ticks(pid), 2**30) for pid in row]) for row in pids]
            started = table.finish()
            table_ns = time.process_time_ns() - begun_ns
            table_ms.append(table_ns / 1e6)
            devices = [look(tick, gpu, found) for gpu, found in enumerate(uses)]     # the driver's work, not counted
            begun_ns = time.process_time_ns()
            shares = carry(attribution, resolver, tick, devices, started)
            whole_ms.append((table_ns + time.process_time_ns() - begun_ns) / 1e6)
    finally:
        for row in children:
            for process in row:
                process.kill()
                process.wait()
        table.close()
    print(f"{gpus} GPUs x {processes} processes, {shares} shares and {gpus} processes replaced a tick; CPU a tick:")
    for name, spent in (("attribution, /proc included", whole_ms), ("of which process table and /proc", table_ms)):
        steady = sorted(spent[1:])
        print(f"  {name}: median {statistics.median(steady):.2f} ms, 95 % {steady[len(steady) * 95 // 100]:.2f} ms; "
              f"the first tick {spent[0]:.1f} ms")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measure_growth(short: int) -> int:
    """Real processes, ten at a time: each is met in /proc with a descriptor of its own, is on the device for one reading, and
    ends. Before each count one more reading, in which nobody is there, so that those who have just ended do not count.
    Returns how many descriptors are left."""
    table = ProcessTable(Procfs())
    resolver = WorkloadResolver(Tags(keys=KEYS))
    attribution = Attribution(resolver.resolve, KEYS)
    tick = most = 0

    def live(processes: int) -> None:
        nonlocal tick, most
        children = [child(n) for n in range(processes)]
        tick += 1
        table.begin()
        uses = tuple([ProcessUse(process.pid, table.start_ticks(process.pid), 2**20) for process in children])
        started = table.finish()
        most = max(most, table.descriptors)
        carry(attribution, resolver, tick, [look(tick, 0, uses)], started)
        for process in children:
            process.kill()
            process.wait()

    tracemalloc.start()
    for _ in range(READINGS_REMEMBERED):
        live(AT_A_TIME)
    live(0)
    descriptors, remembered = open_descriptors(), attribution.remembered
    before = tracemalloc.take_snapshot()
    for _ in range(short // AT_A_TIME):
        live(AT_A_TIME)
    live(0)
    after = tracemalloc.take_snapshot()
    grown = sum(entry.size_diff for entry in after.compare_to(before, "filename") if "tracemalloc" not in str(entry.traceback))
    left = open_descriptors() - descriptors
    print(f"{short} short processes, at most {most} descriptors of theirs at a time: "
          f"{attribution.remembered - remembered:+d} facts held, {left:+d} descriptors, "
          f"{len(resolver.known)} workloads in all, {grown / 1024:+.0f} KiB")
    table.close()
    return left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--short", type=int, default=10_000)
    arguments = parser.parse_args()
    measure_ticks(arguments.gpus, arguments.processes, arguments.ticks)
    return 1 if measure_growth(arguments.short) else 0


if __name__ == "__main__":
    sys.exit(main())
