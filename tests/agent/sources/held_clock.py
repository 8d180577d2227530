"""A clock that stands still until a test moves it."""

from __future__ import annotations

from agent.units import NS_PER_S


class HeldClock:
    """UTC as given, BOOTTIME and MONOTONIC a thousand seconds after a boot of their own."""

    def __init__(self, utc_ns: int) -> None:
        self.utc = utc_ns
        self.boottime = self.monotonic = 1_000 * NS_PER_S

    def advance(self, duration_ns: int) -> None:
        self.utc += duration_ns
        self.boottime += duration_ns
        self.monotonic += duration_ns

    def boottime_ns(self) -> int:
        return self.boottime

    def monotonic_ns(self) -> int:
        return self.monotonic

    def utc_ns(self) -> int:
        return self.utc
