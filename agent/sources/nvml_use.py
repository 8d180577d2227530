"""Who uses one GPU: the processes on it, their sampled time shares, and those that came or went between two looks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from agent.clock import Clock
from agent.model import AccountingUse, PowerSample, ProcessUse, UtilizationSample
from agent.sources.nvml import LACKING, Fault, Handle, Nvml
from agent.sources.nvml_accounting import Accounting, Ended
from agent.sources.processes import ProcessTable
from agent.units import NS_PER_S, NS_PER_US

_FIRST_SPAN_US = 1_000_000             # how far back the first samples of a buffer reach
_EMPTY_READS = 15                      # after so many reads without a sample, see whether the driver's clock was set back
_AHEAD_US = 60_000_000                 # a sample from this far in the future is none
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_Sample = TypeVar("_Sample", UtilizationSample, PowerSample)


def uses(found: dict[int, tuple[int | None, str]], processes: ProcessTable) -> tuple[ProcessUse, ...]:
    """The driver's list of processes with the start time of each."""
    ticks = processes.start_ticks
    return tuple([ProcessUse(pid, ticks(pid), memory, kind) for pid, (memory, kind) in found.items()])


class Fresh:
    """Takes each sample of a driver's buffer once, by the driver's own timestamps, whatever clock those follow."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_us = 0
        self._empty_reads = 0

    def of(self, question: Callable[[Handle, int], tuple[_Sample, ...]], handle: Handle) -> tuple[_Sample, ...]:
        """Samples newer than those of the previous call; in the first, those of the last second."""
        look_back = self._seen_us == 0 or self._empty_reads >= _EMPTY_READS
        ahead_us = self._clock.utc_ns() // NS_PER_US + _AHEAD_US
        found = [sample for sample in question(handle, 0 if look_back else self._seen_us) if sample.timestamp_us < ahead_us]
        if not found:
            self._empty_reads += 1
            return ()
        newest_us = max([sample.timestamp_us for sample in found])
        since_us = self._seen_us or newest_us - _FIRST_SPAN_US
        self._seen_us, self._empty_reads = newest_us, 0    # lower than before where the clock was set back
        return tuple([sample for sample in found if sample.timestamp_us > since_us])


class Passing:
    """Processes of a GPU that are not on its list now: named by a sample, or by accounting where that is enabled."""

    def __init__(self, driver: Nvml, clock: Clock) -> None:
        self._driver, self._clock = driver, clock
        self._accounting = Accounting(driver)
        self._enabled = False

    def look(self, handle: Handle) -> None:
        """See whether accounting is enabled: by an administrator's hand, so now and then is enough."""
        try:
            enabled = self._driver.accounting_enabled(handle)
        except Fault:
            enabled = False                                # not on this GPU
        if enabled != self._enabled:
            self._accounting.forget()
        self._enabled = enabled

    def of(self, handle: Handle, on_device: tuple[ProcessUse, ...], samples: tuple[UtilizationSample, ...],
           processes: ProcessTable) -> tuple[tuple[ProcessUse, ...], tuple[AccountingUse, ...]]:
        """(who passed, what accounting says of those that ended). Raises Fault only where the GPU is lost."""
        there = {use.pid for use in on_device}
        last_us = {sample.pid: sample.timestamp_us for sample in samples if sample.pid not in there}
        ended = self._ended(handle, there)
        for life in ended:
            if life.pid not in there:
                last_us[life.pid] = max(last_us.get(life.pid, 0), life.started_us + life.running_ms * 1_000)
        if not last_us:
            return (), _accounted(ended, {})
        zero_ns = self._clock.utc_ns() - self._clock.boottime_ns()
        ticks = {pid: processes.passed(pid, (at_us * NS_PER_US - zero_ns) * _TICKS_PER_S // NS_PER_S)
                 for pid, at_us in last_us.items()}
        memory = {life.pid: life.memory_bytes for life in ended}
        return (tuple([ProcessUse(pid, ticks[pid], memory.get(pid)) for pid in last_us]), _accounted(ended, ticks))

    def _ended(self, handle: Handle, there: set[int]) -> tuple[Ended, ...]:
        if not self._enabled:
            return ()
        try:
            return self._accounting.ended(handle, there)
        except Fault as fault:
            if fault.code in LACKING:
                self._enabled = False                      # switched off meanwhile
            return ()


def _accounted(ended: tuple[Ended, ...], ticks: dict[int, int]) -> tuple[AccountingUse, ...]:
    return tuple([AccountingUse(life.pid, ticks.get(life.pid, 0), life.started_us, life.running_ms, life.sm_percent,
                                life.memory_bytes) for life in ended])
