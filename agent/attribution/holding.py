"""Who was on a device between two readings, and how busy each was. A process is (PID, start time).

The driver's rows name a PID only. It is looked for among the processes on the device at the interval's end and at its
begin, those that the reading names besides, and those known to have left it lately. A PID that two of them had is told apart by
the row's time. What is left over was somebody's all the same, and is nobody's by name: (PID, 0).

A row is a look of the driver's, six a second (older drivers), or the mean over the looks since it was asked before, one row a
process: so on an H100 and an H200 with driver 580.159.04, which look five times a second (docs/accuracy.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from agent.attribution.known_processes import Key
from agent.model import AccountingUse, DeviceReading, EnergyInterval, ProcessUse, UtilizationSample
from agent.units import NS_PER_MS, NS_PER_S

LOOK_US: Final = 166_667             # where a row is a look, the driver looks about six times a second
LOOKS_PER_S: Final = 6
MEAN_LOOK_NS: Final = 200_000_000    # where it is a mean, five times
FULL: Final = 100                    # percent; rows above it are the driver's garbage
_NS_PER_CLOCK_TICK: Final = 10_000_000
_SLACK_NS: Final = 100_000_000       # between the driver's clock and ours
_percent, _timestamp = attrgetter("sm_percent"), attrgetter("timestamp_us")


class Presence(Struct, frozen=True, gc=False):
    """Which processes held a device, and for how many halves of the interval each: 2 where it was there at both ends, 1
    where at one end or in between only."""

    halves: Mapping[Key, int]
    held_halves: int                     # of the interval in which any did


def keys_of(processes: Iterable[ProcessUse]) -> list[Key]:
    return [(process.pid, process.start_ticks) for process in processes]


def presence(before: Sequence[Key] | None, now: Sequence[Key], between: Iterable[Key] = ()) -> Presence:
    """``before`` None: nobody looked at the begin; who is there at the end then counts as there throughout."""
    if before is None or before == now:
        halves = dict.fromkeys(now, 2)
    else:
        halves = dict.fromkeys(before, 1)
        for key in now:
            halves[key] = halves.get(key, 0) + 1
    for key in between:
        halves.setdefault(key, 1)
    if 2 in halves.values():
        return Presence(halves, 2)
    return Presence(halves, max(bool(before) + bool(now), bool(halves)))


def told_before(waiting: Sequence[DeviceReading], device: DeviceReading) -> DeviceReading:
    """A reading with the rows of those before it that ended no interval, and those who were on the device then."""
    if not waiting:
        return device
    passed = {(use.pid, use.start_ticks): use for one in waiting for use in (*(one.processes or ()), *one.passed)}
    return replace(
        device, passed=(*passed.values(), *device.passed),
        utilization_samples=tuple(row for one in (*waiting, device) for row in one.utilization_samples),
        accounting=tuple(life for one in (*waiting, device) for life in one.accounting))


def has_row_a_look(samples: Sequence[UtilizationSample]) -> bool:
    """Whether what one call to the driver told shows that its rows are no means: a process has several."""
    return len({sample.pid for sample in samples}) < len(samples)


def looks(samples: Sequence[UtilizationSample], elapsed_ns: int, *, row_a_look: bool) -> int:
    """How often the driver looked and found somebody, as far as rows tell."""
    if row_a_look:
        return len({at_us // LOOK_US for at_us in set(map(_timestamp, samples))})
    percent = sum(sample.sm_percent for sample in samples if sample.sm_percent <= FULL) // _means(samples)
    return max(1, min(percent, FULL) * elapsed_ns // (FULL * MEAN_LOOK_NS)) if percent else 0


def _means(samples: Sequence[UtilizationSample]) -> int:
    """How many rows a process that was there throughout has, where they are means: one for each call."""
    return max(Counter(sample.pid for sample in samples).values(), default=1)


def busy_by_process(device: DeviceReading, interval: EnergyInterval, before: Sequence[Key], now: Sequence[Key],
                    recent: Callable[[int], Key | None]) -> dict[Key, int]:
    """Busy time by process, in percent x rows. ``before``, ``now``: who was on the device at the interval's begin and end;
    ``recent``: which process lately had a PID. Rows above 100 % are the driver's garbage."""
    rows = device.utilization_samples
    if max(map(_percent, rows), default=0) > FULL:
        rows = tuple(sample for sample in rows if sample.sm_percent <= FULL)
    sums: defaultdict[int, int] = defaultdict(int)
    for sample in rows:
        sums[sample.pid] += sample.sm_percent
    if not any(sums.values()):
        return {}
    listed = {*now, *keys_of(device.passed)} if before == now else {*before, *now, *keys_of(device.passed)}
    starts = dict(listed)
    busy: dict[Key, int] = {}
    if len(starts) < len(listed):
        for pid in sums.keys() & _repeated(listed):
            of_pid = sorted(start_ticks for other, start_ticks in listed if other == pid)
            busy |= _by_time(pid, of_pid, rows, device.boottime_ns - interval.end_utc_ns)
            del sums[pid]
    for pid, percent in sums.items():
        if percent:
            start = starts.get(pid)
            key = (pid, start) if start else recent(pid) or (pid, 0)
            busy[key] = busy.get(key, 0) + percent
    return busy


def _repeated(listed: Iterable[Key]) -> set[int]:
    """The PIDs that stand for more than one process."""
    counts = Counter(pid for pid, _ in listed)
    return {pid for pid, count in counts.items() if count > 1}


def _by_time(pid: int, starts: list[int], samples: Iterable[UtilizationSample], offset_ns: int) -> dict[Key, int]:
    """The rows of a PID that several processes had: each is of the one that had started last by then."""
    busy: dict[Key, int] = {}
    for sample in samples:
        if sample.pid == pid and sample.sm_percent:
            at_ns = sample.timestamp_us * 1_000 + offset_ns + _SLACK_NS
            started = [start for start in starts if start * _NS_PER_CLOCK_TICK <= at_ns]
            key = (pid, started[-1] if started else starts[0])
            busy[key] = busy.get(key, 0) + sample.sm_percent
    return busy


def accounted(device: DeviceReading, interval: EnergyInterval, before: Iterable[Key],
              sampled: Mapping[Key, int], *, row_a_look: bool) -> dict[Key, int]:
    """Busy time, in the unit of ``busy_by_process``, of the processes that came and went unseen by samples, from the driver's
    accounting. That is a mean over a whole life, so it serves for those whose life was within the interval. One of which the
    driver tells late, after the interval in which it ended, has no part in this one."""
    seen = {*before, *sampled}
    from_us, elapsed_ns = (interval.start_utc_ns - _SLACK_NS) // 1_000, interval.elapsed_ns
    rows = elapsed_ns * LOOKS_PER_S if row_a_look else _means(device.utilization_samples) * NS_PER_S     # x ns
    return {
        (use.pid, use.start_ticks): _busy(use, elapsed_ns, rows)
        for use in device.accounting if (use.pid, use.start_ticks) not in seen
        and 0 < use.sm_percent <= FULL and use.started_us + use.running_ms * 1_000 >= from_us
    }


def _busy(use: AccountingUse, elapsed_ns: int, rows: int) -> int:
    return max(1, use.sm_percent * min(use.running_ms * NS_PER_MS, elapsed_ns) * rows // (elapsed_ns * NS_PER_S))
