"""What the ledger needs beside the ticks: old rows rolled up, and a look for damage."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

from agent.clock import Clock
from agent.errors import LedgerError
from agent.jobs import Jobs
from agent.ledger.file import fault_of, identity
from agent.ledger.ledger import Ledger
from agent.ledger.rescue import Backfill
from agent.ledger.rollup import PAUSE_S, RollUp
from agent.settings import Retention

log = logging.getLogger(__name__)

BACKFILL_SECONDS: Final = 60
ROLL_UP_SECONDS: Final = 15 * 60
CHECK_SECONDS: Final = 60 * 60       # a large file is not checked at the start, and any may be damaged later


class LedgerUpkeep:
    """Works on the jobs' own thread; what changes the ledger in the daemon's hands is done on the tick's thread."""

    def __init__(self, ledger: Ledger, jobs: Jobs, clock: Clock, kept: Callable[[], tuple[str, Retention]],
                 rows_came: Callable[[], None] = lambda: None) -> None:
        """``kept`` gives the present configuration's: whose days and hours (an IANA timezone), and how long. ``rows_came`` is
        called when the rows of a damaged ledger have been carried over."""
        self._ledger = ledger
        self._path = ledger.path
        self._jobs = jobs
        self._clock = clock
        self._kept = kept
        self._rows_came = rows_came
        self._stopping = threading.Event()
        self._backfill = Backfill(ledger.path, lambda: self._stopping.wait(PAUSE_S))
        self._roll_up = RollUp(ledger.path, self._spans_kept, clock.utc_ns)

    def schedule(self) -> None:
        """Have the work done from now on."""
        self._jobs.beside(BACKFILL_SECONDS, self._carry_over, "rows of a damaged ledger", first_s=1)
        self._jobs.beside(ROLL_UP_SECONDS, self._roll_up, "roll-up", first_s=60)
        self._jobs.beside(CHECK_SECONDS, self._check, "ledger check", first_s=30)

    def stop(self) -> None:
        """Have what is going on end after its present transaction."""
        self._stopping.set()
        self._roll_up.stop()

    def _spans_kept(self) -> tuple[ZoneInfo, int, int]:
        timezone, kept = self._kept()
        return ZoneInfo(timezone), kept.keep_quarter_hours_ns, kept.keep_hours_ns

    def _carry_over(self) -> None:
        try:
            if self._backfill():
                self._rows_came()
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: a damaged ledger's rows are not carried over yet (%s); tried again in a minute", self._path, error)

    def _check(self) -> None:
        try:
            looked_at = identity(self._path)
        except OSError:                                  # removed: the next commit sees to that
            return
        fault = fault_of(self._path)
        if fault is not None:
            self._jobs.soon(lambda: self._give_up(fault, looked_at))
        else:
            self._jobs.soon(self._ledger.look_around)

    def _give_up(self, fault: str, looked_at: tuple[int, int]) -> None:
        try:
            self._ledger.give_up(fault, self._clock.utc_ns(), looked_at)
        except LedgerError as error:
            log.error("the ledger is damaged (%s), and a new one could not be begun: %s; tried again in an hour", fault, error)
