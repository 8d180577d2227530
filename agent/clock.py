"""The three clocks, passed in wherever time is needed, so that tests hold them still.

BOOTTIME measures intervals (it goes on through suspend and never steps), MONOTONIC tells suspend apart (it stops there),
UTC only prices and names periods. See clock_gettime(2).
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the program reads time. All in integer nanoseconds."""

    def boottime_ns(self) -> int: ...
    def monotonic_ns(self) -> int: ...
    def utc_ns(self) -> int: ...


class SystemClock:
    """The kernel's clocks."""

    def boottime_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def monotonic_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def utc_ns(self) -> int:
        return time.time_ns()
