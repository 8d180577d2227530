"""The host around the GPUs: what it drew or cost in a tick, and how that is shared over the workloads on its devices.

By CPU time, as the probe reads it of the processes on the devices every few seconds; between two looks the last one
stands. Where no CPU time is known, by GPU time. Split by largest remainder: the parts sum to the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from agent.energy.off_time import SETTLED_NS, OffTime, off_time
from agent.model import DeviceReading, EnergyInterval, ProcessUse, Reading, Share, Workload
from agent.settings import Host
from agent.units import NS_PER_S, split_integer

BY_GPU_TIME = "by GPU time"                      # marks the rate of a charge that no CPU time was known for


class HostSpan(Struct, frozen=True, gc=False):
    """The host's part of a tick. Spans follow each other without gap or overlap, through a restart of the agent too."""

    start_utc_ns: int
    end_utc_ns: int
    watched: bool                                # False: the agent was not looking, so nobody knows what it drew


class HostState(Struct, frozen=True):
    """Up to where the host has been charged: kept in the ledger, so that nothing is charged twice or never."""

    boot_id: str
    boottime_ns: int
    utc_ns: int
    off_from_ns: int | None = None               # the last boot's last instant, until the time off since then is charged


class HostMeter:
    """The host's time, which goes on whatever devices a reading has."""

    def __init__(self, state: HostState | None = None) -> None:
        self.state = state
        self.off: tuple[OffTime, ...] = ()       # what the last reading told of times in which the machine was off

    def advance(self, reading: Reading, intervals: Sequence[EnergyInterval]) -> HostSpan | None:
        """What a tick adds: from where the last one ended to the latest end of the devices' intervals. The first of all begins
        where all of these have; the first of a boot, with the boot."""
        self.off = ()
        if not intervals:
            return None
        boottimes_ns = {device.uuid: device.boottime_ns for device in reading.devices}
        end = max(intervals, key=lambda interval: boottimes_ns[interval.uuid])
        end_ns, last, off_from_ns = boottimes_ns[end.uuid], self.state, None
        off: list[OffTime | None] = []
        if last is None:
            start_ns = max(boottimes_ns[interval.uuid] - interval.elapsed_ns for interval in intervals)
        elif last.boot_id != reading.boot_id:
            start_ns, off_from_ns = 0, last.utc_ns
            if last.off_from_ns is not None:
                off.append(off_time("", last.off_from_ns, last.utc_ns - last.boottime_ns))       # before the last boot
        else:
            start_ns, off_from_ns = last.boottime_ns, last.off_from_ns
        if end_ns <= start_ns:
            return None
        if off_from_ns is not None and end_ns >= SETTLED_NS:
            off.append(off_time("", off_from_ns, end.end_utc_ns - end_ns))
            off_from_ns = None
        self.off = tuple([time for time in off if time is not None])
        self.state = HostState(reading.boot_id, end_ns, end.end_utc_ns, off_from_ns)
        return HostSpan(end.end_utc_ns - (end_ns - start_ns), end.end_utc_ns, not end.bridged)


class HostPower:
    """The host's energy from its CPU's utilization: from ``idle_watts`` at 0 to ``max_watts`` at 1."""

    def __init__(self, host: Host) -> None:
        self._idle_mw = int((host.idle_watts or 0) * 1_000)
        self._span_mw = int((host.max_watts or 0) * 1_000) - self._idle_mw
        self._rest_pj = 0

    def power_mw(self, cpu_ratio: float | None) -> int:
        """What it draws at a utilization; without one as much as when idle."""
        return self._idle_mw + round(self._span_mw * (cpu_ratio or 0.0))

    def energy_mj(self, span: HostSpan, cpu_ratio: float | None) -> int:
        """What it used in a span; what a millijoule leaves over is in the next. Without a utilization it counts as idle, and a
        span in which nobody looked has none."""
        if not span.watched:
            return 0
        power_mw = self.power_mw(cpu_ratio)
        energy_mj, self._rest_pj = divmod(power_mw * (span.end_utc_ns - span.start_utc_ns) + self._rest_pj, NS_PER_S)
        return energy_mj


class CpuTime:
    """CPU time of each workload between the last two looks at it."""

    def __init__(self) -> None:
        self._seen_ns: dict[tuple[int, int], int] = {}
        self.by_workload_ns: Mapping[Workload, int] = {}

    def learn(self, reading: Reading, owner: Callable[[ProcessUse, DeviceReading], Workload]) -> None:
        """Take up a reading; most bring no look. A process counts from its second look on."""
        if not reading.process_cpu:
            return
        holders = {(process.pid, process.start_ticks): (process, device)
                   for device in reading.devices for process in device.processes or ()}
        seen_ns: dict[tuple[int, int], int] = {}
        used_ns: dict[Workload, int] = {}
        for look in reading.process_cpu:
            key = (look.pid, look.start_ticks)
            seen_ns[key] = look.cpu_ns
            before_ns = self._seen_ns.get(key)
            if before_ns is not None and key in holders and look.cpu_ns > before_ns:
                workload = owner(*holders[key])
                used_ns[workload] = used_ns.get(workload, 0) + look.cpu_ns - before_ns
        self._seen_ns, self.by_workload_ns = seen_ns, used_ns


def split_host(amount: int, shares: Sequence[Share], cpu_ns: Mapping[Workload, int]) -> tuple[list[tuple[Share, int]], bool]:
    """The parts of an amount that shares bear, and whether CPU time told. A workload's part goes to its shares by GPU time."""
    by_workload: dict[Workload, list[Share]] = {}
    for share in shares:
        by_workload.setdefault(share.workload, []).append(share)
    weights = [cpu_ns.get(workload, 0) for workload in by_workload]
    if not any(weights):
        return _by_time(amount, shares), False
    parts: list[tuple[Share, int]] = []
    for group, part in zip(by_workload.values(), split_integer(amount, weights), strict=True):
        if part:
            parts += _by_time(part, group)
    return parts, True


def _by_time(amount: int, shares: Sequence[Share]) -> list[tuple[Share, int]]:
    parts = split_integer(amount, [share.gpu_ns for share in shares])
    return [(share, part) for share, part in zip(shares, parts, strict=True) if part]


def anybody(shares: Iterable[Share]) -> bool:
    """Whether somebody was on a device: a split by GPU time is then an estimate worth a mark."""
    return any(share.method != "idle" for share in shares)
