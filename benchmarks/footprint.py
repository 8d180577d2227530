"""CPU and memory of the daemon and its probe, against the test driver, with nvitop-exporter beside them in the same run.

    python benchmarks/footprint.py [--seconds 600] [--processes 20] [--workloads 4] [--rival PATH]

8 GPUs, so many processes each (real ones, with FINOPS_* in their environment), a tick a second, both scraped every 15 s.
CPU is the kernel's own account (utime + stime) from 10 s after the start to the end; memory is the proportional set size.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.driver.scenario import Constant, Device, Process, Scenario, Turn, boottime_ns, driver_environ  # noqa: E402
from tests.e2e.daemon import Daemon, free_port, until  # noqa: E402

GPUS = 8
SETTLE_S = 10
SCRAPE_S = 15
CONFIG = """
interval = "1s"
[site]
tariff = "tou"
pue = 1.35
carbon = 570
[tariff.tou]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { peak = 1.20, valley = 0.33 }
rule = [{ rate = "peak", hours = ["08:00-22:00"] }, { rate = "valley" }]
[[hardware]]
gpu = "NVIDIA H100*"
price = 250000
salvage = 25000
years = 4
maintenance_per_year = 6000
[[budget]]
name = "all"
match = { instance = "*" }
period = "month"
limit = 30000
"""


def cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_mib(pids: list[int]) -> float:
    kib = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [one for child in children for one in family(int(child))]


def scrape_ms(port: int) -> float:
    started = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        response.read()
    return (time.perf_counter() - started) * 1000


def scenario(children: list[list[subprocess.Popen[bytes]]]) -> Scenario:
    """Each GPU's processes take turns at being busy, as many workers of a few jobs do."""
    devices = []
    for gpu, group in enumerate(children):
        processes = [Process(pid=child.pid, sm=Turn(i / len(group), (i + 1) / len(group))) for i, child in enumerate(group)]
        devices.append(Device(f"GPU-{gpu:08d}-0000-0000-0000-000000000000", power=Constant(350), utilization=Constant(90),
                              processes=processes))
    return Scenario(devices=devices, epoch_ns=boottime_ns() - 3_600 * 10**9)


def start_children(processes: int, workloads: int) -> list[list[subprocess.Popen[bytes]]]:
    sleep = shutil.which("sleep") or "sleep"
    return [
        [subprocess.Popen([sleep, "infinity"], env=os.environ | {
            "FINOPS_PROJECT": f"project-{i % workloads}", "FINOPS_TEAM": "bench", "FINOPS_MODEL": f"model-{i % workloads}",
            "FINOPS_MODEL_VERSION": "1.0"}) for i in range(processes)]
        for _ in range(GPUS)]


class Watched:
    """One program under measurement: CPU between two marks, memory at each minute."""

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name, self._pid, self._port = name, pid, port
        self._cpu_s = self._at_s = 0.0
        self.memory_mib: list[float] = []
        self.scrapes_ms: list[float] = []

    def mark(self) -> None:
        self._cpu_s, self._at_s = cpu_s(family(self._pid)), time.monotonic()

    def cpu_percent(self) -> float:
        return (cpu_s(family(self._pid)) - self._cpu_s) / (time.monotonic() - self._at_s) * 100

    def weigh(self) -> None:
        self.memory_mib.append(pss_mib(family(self._pid)))

    def scrape(self) -> None:
        self.scrapes_ms.append(scrape_ms(self._port))


def start_rival(command: str, environ: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    rival = subprocess.Popen(
        [command, "--hostname", "127.0.0.1", "--port", str(port), "--interval", "1.0"],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return scrape_ms(port) > 0
        except OSError:
            return False

    until(answers, "nvitop-exporter to answer", 60)
    return rival, port


def measure(seconds: int, processes: int, workloads: int, rival_command: str | None) -> None:
    children = start_children(processes, workloads)
    rival = None
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        scenario(children).write(directory / "scenario")
        environ = os.environ | driver_environ(directory / "scenario")
        try:
            started = time.monotonic()
            with Daemon(directory / "ours", source="nvml", config=CONFIG, environ=environ) as daemon:
                first_cost_s = time.monotonic() - started
                if daemon.process is None:
                    raise SystemExit("the daemon did not start")
                watched = [Watched("gpu-finops (daemon + probe)", daemon.process.pid, daemon.port)]
                if rival_command:
                    rival, port = start_rival(rival_command, environ)
                    watched.append(Watched("nvitop-exporter", rival.pid, port))
                wait = threading.Event()
                wait.wait(SETTLE_S)
                for one in watched:
                    one.mark()
                for elapsed in range(0, seconds, SCRAPE_S):
                    wait.wait(min(SCRAPE_S, seconds - elapsed))
                    for one in watched:
                        one.scrape()
                        one.weigh()
                series = len(daemon.series())
                print(f"\n{GPUS} GPUs x {processes} processes in {workloads} workloads each, {seconds} s, a tick a second")
                print(f"start to first served cost: {first_cost_s:.2f} s; {series} series\n")
                print("| program | CPU, % of one core | PSS MiB, first minute | PSS MiB, end | scrape ms, median |")
                print("| --- | ---: | ---: | ---: | ---: |")
                for one in watched:
                    early = one.memory_mib[min(3, len(one.memory_mib) - 1)]
                    median_ms = sorted(one.scrapes_ms)[len(one.scrapes_ms) // 2]
                    late = one.memory_mib[-1]
                    print(f"| {one.name} | {one.cpu_percent():.2f} | {early:.1f} | {late:.1f} | {median_ms:.1f} |")
                if len(watched) == 2:
                    print(f"\nCPU ratio, nvitop-exporter to us: {watched[1].cpu_percent() / watched[0].cpu_percent():.1f}")
                ticks = daemon.value("finops_agent_ticks_total")
                print(f"ticks {ticks:.0f}, missed {daemon.value('finops_agent_missed_ticks_total'):.0f}")
        finally:
            if rival is not None:
                rival.terminate()
                rival.wait()
            for child in (child for group in children for child in group):
                child.kill()
            for child in (child for group in children for child in group):
                child.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--workloads", type=int, default=4)
    parser.add_argument("--rival", help="path of the nvitop-exporter command; left out, nothing is measured beside us")
    options = parser.parse_args()
    measure(options.seconds, options.processes, options.workloads, options.rival)


if __name__ == "__main__":
    main()
