"""The slow work, on APScheduler: budgets, file refresh. A job only asks for its work; the tick's thread does it.

APScheduler's triggers follow the wall clock: after a step back of an hour an interval trigger fires nothing for an hour. So
the daemon tells ``clock_stepped``, and every job is scheduled anew.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

STEP_NS = 5 * 10**9


class Jobs:
    """Periodic work, done between two ticks by ``run_due``."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._due: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = wake
        self._offset_ns: int | None = None
        self._scheduler = BackgroundScheduler(
            timezone=UTC, executors={"default": ThreadPoolExecutor(1), "beside": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1})

    def every(self, seconds: int, work: Callable[[], None], name: str) -> None:
        """Have ``work`` done on the tick's thread each so many seconds."""
        self._scheduler.add_job(self._ask, IntervalTrigger(seconds=seconds, timezone=UTC), args=[work], id=name)

    def beside(self, seconds: int, work: Callable[[], None], name: str, first_s: int) -> None:
        """Have ``work`` done each so many seconds on a thread of its own, beside the ticks: it must not touch their state."""
        first = datetime.now(UTC) + timedelta(seconds=first_s)
        self._scheduler.add_job(
            work, IntervalTrigger(seconds=seconds, timezone=UTC), id=name, executor="beside", next_run_time=first)

    def soon(self, work: Callable[[], None]) -> None:
        """Have ``work`` done once on the tick's thread. From any thread."""
        self._ask(work)

    def start(self) -> None:
        self._scheduler.start()

    def _ask(self, work: Callable[[], None]) -> None:
        self._due.put(work)
        self._wake()

    def run_due(self) -> None:
        """Do what is due, on the caller's thread."""
        while True:
            try:
                work = self._due.get_nowait()
            except queue.Empty:
                return
            work()

    def watch_clock(self, monotonic_ns: int, utc_ns: int) -> bool:
        """Compare the wall clock with the monotonic one; reschedule every job and say so when it stepped."""
        offset_ns = utc_ns - monotonic_ns
        previous_ns, self._offset_ns = self._offset_ns, offset_ns
        if previous_ns is None or abs(offset_ns - previous_ns) < STEP_NS:
            return False
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))
        self._scheduler.wakeup()
        return True

    def close(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
