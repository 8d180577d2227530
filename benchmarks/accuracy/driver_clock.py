"""The agent's clocks, turned by the driver double's clock file: two minutes take milliseconds."""

from __future__ import annotations

from agent.units import NS_PER_S
from tests.driver.scenario import ClockFile

UTC_AT_ZERO_NS = 1_782_302_400 * NS_PER_S        # 2026-06-24T12:00:00Z


class DriverClock:
    """BOOTTIME is the driver's clock. MONOTONIC stands still in the spans of sleep."""

    def __init__(self, file: ClockFile, asleep: tuple[tuple[float, float], ...] = ()) -> None:
        self._file = file
        self._asleep = [(int(a * NS_PER_S), int(b * NS_PER_S)) for a, b in asleep]

    def boottime_ns(self) -> int:
        return self._file.now_ns

    def monotonic_ns(self) -> int:
        now_ns = self._file.now_ns
        return now_ns - sum(max(0, min(now_ns, to_ns) - from_ns) for from_ns, to_ns in self._asleep)

    def utc_ns(self) -> int:
        return UTC_AT_ZERO_NS + self._file.now_ns
