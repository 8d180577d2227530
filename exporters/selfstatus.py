"""How the daemon itself is doing: its process, as /proc tells, and its web server's connections.

The numbers have the names and meanings that every Prometheus client library gives its own process; prometheus_client
reads them.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector


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
    """Reads the own process, through prometheus_client."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._collector = ProcessCollector(proc=str(proc), registry=CollectorRegistry())

    def read(self) -> ProcessStatus | None:
        """One look; None where /proc is not there or hidden."""
        found = {metric.name: metric.samples[0].value for metric in self._collector.collect()}
        if "process_cpu_seconds" not in found:
            return None
        limit = found.get("process_max_fds")
        return ProcessStatus(
            cpu_seconds=found["process_cpu_seconds"], resident_bytes=int(found["process_resident_memory_bytes"]),
            virtual_bytes=int(found["process_virtual_memory_bytes"]),
            start_utc_seconds=found["process_start_time_seconds"], open_descriptors=int(found["process_open_fds"]),
            max_descriptors=int(limit) if limit is not None and limit >= 0 else None)
