"""The machine around the GPUs, as psutil sees it: processors, memory, disks."""

from __future__ import annotations

from pathlib import Path

import psutil

from agent.model import HostReading


class Host:
    """Reads the machine. Utilization is that of the time since the previous call, so the first has none."""

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        self._block = sysfs / "block"
        self._physical: dict[str, bool] = {}
        self._busy_s, self._whole_s = _cpu_s()

    def read(self) -> HostReading:
        """One look. A part that the kernel does not give is None."""
        return HostReading(
            cpu_utilization_ratio=self._cpu_ratio(),
            memory_used_bytes=_memory_used_bytes(),
            **self._disks(),
        )

    def _cpu_ratio(self) -> float | None:
        busy_s, whole_s = _cpu_s()
        busy_delta_s, whole_delta_s = busy_s - self._busy_s, whole_s - self._whole_s
        self._busy_s, self._whole_s = busy_s, whole_s
        if whole_delta_s <= 0.0:
            return None
        return min(1.0, max(0.0, busy_delta_s / whole_delta_s))

    def _disks(self) -> dict[str, int | None]:
        """Bytes since boot over whole physical disks: a volume on top of a disk would count the same bytes again."""
        try:
            counters = psutil.disk_io_counters(perdisk=True)
        except (OSError, RuntimeError, NotImplementedError):
            return {"disk_read_bytes": None, "disk_written_bytes": None}
        read_bytes = written_bytes = 0
        for name, disk in counters.items():
            physical = self._physical.get(name)
            if physical is None:
                physical = self._physical[name] = (self._block / name / "device").exists()
            if physical:
                read_bytes += disk.read_bytes
                written_bytes += disk.write_bytes
        return {"disk_read_bytes": read_bytes, "disk_written_bytes": written_bytes}


def _cpu_s() -> tuple[float, float]:
    """(busy, whole) processor seconds since boot. Guest time is a part of user time already; waiting for a disk is idle."""
    times = psutil.cpu_times()
    whole_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return whole_s - times.idle - getattr(times, "iowait", 0.0), whole_s


def _memory_used_bytes() -> int | None:
    """What programs could not have: total less available, as free(1) reckons."""
    try:
        memory = psutil.virtual_memory()
    except (OSError, RuntimeError):
        return None
    return int(memory.total - memory.available)
