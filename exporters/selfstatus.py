"""How the daemon itself is doing: its process, as /proc tells, and its web server's connections.

The numbers have the names and meanings that every Prometheus client library gives its own process. They are read here
and not by prometheus_client, whose import costs 3 MiB of a daemon that may have 48.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from msgspec import Struct


class ProcessStatus(Struct, frozen=True, gc=False):
    """One look at a process."""

    cpu_seconds: float                           # user and system
    resident_bytes: int
    virtual_bytes: int
    start_utc_seconds: float
    open_descriptors: int
    max_descriptors: int | None                  # None: unlimited


class WebStatus(Struct, frozen=True, gc=False):
    """What the web server has seen since it started."""

    connections: int = 0                         # open now
    evicted: int = 0                             # closed because the cap was reached
    timed_out: int = 0                           # closed because a deadline passed
    refused: int = 0                             # requests refused because a queue was full


class SelfStatus(Struct, frozen=True, gc=False):
    """What the agent exports about itself beside the Snapshot. ``process`` is None where /proc cannot be read."""

    process: ProcessStatus | None = None
    web: WebStatus = WebStatus()


class ProcessReader:
    """Reads the own process. The start time is taken once: it is a clock tick since boot, and boot time drifts."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._start_utc_seconds: float | None = None

    def read(self) -> ProcessStatus | None:
        """One look; None where /proc is not there or hidden."""
        try:
            # The command name is in parentheses and may hold any character; numbers begin after the last one.
            fields = (self._proc / "self/stat").read_bytes().rpartition(b")")[2].split()
            # less the one that the listing itself holds
            descriptors = sum(1 for _ in (self._proc / "self/fd").iterdir()) - 1
        except OSError:
            return None
        if self._start_utc_seconds is None:
            boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
            self._start_utc_seconds = round(boot + int(fields[19]) / self._ticks_per_second, 2)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return ProcessStatus(
            cpu_seconds=(int(fields[11]) + int(fields[12])) / self._ticks_per_second,
            resident_bytes=int(fields[21]) * self._page_bytes,
            virtual_bytes=int(fields[20]),
            start_utc_seconds=self._start_utc_seconds,
            open_descriptors=descriptors,
            max_descriptors=None if limit == resource.RLIM_INFINITY else limit,
        )
