"""The machine's own counters, against the kernel's files read directly."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from agent.sources.host import Host


def disk_bytes() -> tuple[int, int]:
    """(read, written) by the fields of /proc/diskstats in 512-byte sectors, over disks that have a device below them."""
    rows = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    whole = [row for row in rows if Path("/sys/block", row[2], "device").exists()]
    return sum(int(row[5]) * 512 for row in whole), sum(int(row[9]) * 512 for row in whole)


def test_disks_count_whole_physical_disks_only() -> None:
    before = disk_bytes()
    reading = Host().read()
    after = disk_bytes()
    assert reading.disk_read_bytes is not None
    assert reading.disk_written_bytes is not None
    assert before[0] <= reading.disk_read_bytes <= after[0]
    assert before[1] <= reading.disk_written_bytes <= after[1]


def test_a_machine_without_physical_disks_has_read_nothing(tmp_path: Path) -> None:
    reading = Host(tmp_path).read()
    assert (reading.disk_read_bytes, reading.disk_written_bytes) == (0, 0)


def test_memory_is_what_programs_could_not_have() -> None:
    fields = {line.split(":")[0]: int(line.split()[1]) * 1024
              for line in Path("/proc/meminfo").read_text().splitlines()}
    used = Host().read().memory_used_bytes
    assert used is not None
    assert abs(used - (fields["MemTotal"] - fields["MemAvailable"])) < 0.05 * fields["MemTotal"]


def test_cpu_time_that_this_process_burns_is_busy_time() -> None:
    host = Host()
    began_s, used_before_s = time.monotonic(), time.process_time()
    while time.process_time() - used_before_s < 0.5:
        sum(range(10_000))
    ratio = host.read().cpu_utilization_ratio
    elapsed_s = time.monotonic() - began_s
    assert ratio is not None
    ours = 0.5 / (elapsed_s * (psutil.cpu_count() or 1))
    assert ratio <= 1.0
    assert ratio >= ours - 0.1 - 2 / (os.sysconf("SC_CLK_TCK") * elapsed_s)
