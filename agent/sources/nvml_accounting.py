"""Who has ended, as the driver's accounting tells: also a process that came and went between two looks."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ctypes import byref, c_uint, create_string_buffer

from msgspec import Struct

from agent.sources.nvml import INSUFFICIENT_SIZE, NOT_FOUND, Fault, Handle, Nvml

_STATISTICS = struct.Struct("=IIQQQI20x")                          # nvmlAccountingStats_t
_NOT_AVAILABLE = 2**64 - 1
_MOST_A_LOOK = 256                                                 # questions; the rest in the next look
_FIRST_ROOM = 256                                                  # PIDs; the driver keeps some thousands


class Ended(Struct, frozen=True, gc=False):
    """One process that has left the device: its whole life there."""

    pid: int
    started_us: int                                                # on the driver's clock
    running_ms: int
    sm_percent: int
    memory_bytes: int | None


class Accounting:
    """One GPU's accounting buffer, followed from look to look. Who had ended before the first look is not told."""

    def __init__(self, driver: Nvml) -> None:
        self._driver = driver
        self._known: frozenset[int] | None = None
        self._there: frozenset[int] = frozenset()
        self._open: set[int] = set()                       # to be asked about: new in the buffer, or gone from the device
        self._told: dict[int, int] = {}                    # PID -> the start of the life that was told
        self._room = _FIRST_ROOM

    def forget(self) -> None:
        """Accounting is off, or the device is another: begin anew."""
        self._known, self._open, self._told = None, set(), {}

    def ended(self, handle: Handle, on_device: Iterable[int]) -> tuple[Ended, ...]:
        """Processes that ended since the last call. ``on_device`` are those that are on it now. Raises Fault."""
        there, listed = frozenset(on_device), self._pids(handle)
        if self._known is None:
            self._known, self._there = listed, there
            return ()
        self._open |= (listed - self._known) | (self._there - there)
        self._open -= there
        self._known, self._there = listed, there
        found: list[Ended] = []
        for pid in sorted(self._open)[:_MOST_A_LOOK]:
            try:
                life, running = self._statistics(handle, pid)
            except Fault as fault:
                if fault.code != NOT_FOUND:
                    raise
                self._open.discard(pid)                    # the buffer is a ring: it has been overwritten
                continue
            if running:
                continue                                   # listed in the next look
            self._open.discard(pid)
            if self._told.get(pid) != life.started_us:
                self._told[pid] = life.started_us
                found.append(life)
        if len(self._told) > len(listed) + _MOST_A_LOOK:
            self._told = {pid: at_us for pid, at_us in self._told.items() if pid in listed}
        return tuple(found)

    def _pids(self, handle: Handle) -> frozenset[int]:
        for _ in range(5):
            count, rows = c_uint(self._room), (c_uint * self._room)()
            try:
                self._driver.call("nvmlDeviceGetAccountingPids", handle, byref(count), rows)
            except Fault as fault:
                if fault.code != INSUFFICIENT_SIZE:
                    raise
                self._room = max(count.value + 16, 2 * self._room)
            else:
                return frozenset(rows[:count.value]) - {0}
        raise Fault(INSUFFICIENT_SIZE)

    def _statistics(self, handle: Handle, pid: int) -> tuple[Ended, bool]:
        buffer = create_string_buffer(_STATISTICS.size)
        self._driver.call("nvmlDeviceGetAccountingStats", handle, c_uint(pid), buffer)
        percent, _, memory, running_ms, started_us, running = _STATISTICS.unpack(buffer)
        most_bytes = None if memory == _NOT_AVAILABLE else memory
        return Ended(pid, started_us, running_ms, min(100, percent), most_bytes), bool(running)
