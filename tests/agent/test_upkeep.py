"""Upkeep beside the ticks: old rows are rolled up, and a damaged file is given up on the tick's thread, not on its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.clock import SystemClock
from agent.jobs import Jobs
from agent.ledger.ledger import Ledger
from agent.settings import Retention
from agent.upkeep import LedgerUpkeep
from tests.agent.ledger.test_ledger_damage import damage, fall
from tests.agent.priced import book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")


class NoTime(Jobs):
    """Jobs that are done when the test says so."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.work: dict[str, Callable[[], None]] = {}

    def beside(self, seconds: int, work: Callable[[], None], name: str, first_s: int) -> None:
        self.work[name] = work


def test_upkeep(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger, jobs = Ledger(state, START_NS), NoTime()
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 96)
    LedgerUpkeep(ledger, jobs, SystemClock(), lambda: ("Asia/Kolkata", Retention(keep_quarter_hours_ns=1))).schedule()
    jobs.work["roll-up"]()
    with closing(sqlite3.connect(ledger.path)) as db:
        starts = [row[0] for row in db.execute("SELECT DISTINCT start_ns FROM usage ORDER BY start_ns")]
    assert len(starts) == 25                                 # local hours begin at :30 of UTC: two of them are halves
    jobs.work["ledger check"]()
    jobs.run_due()
    assert ledger.set_aside is None
    before = ledger.totals
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(state)
    jobs.work["ledger check"]()
    assert ledger.set_aside is None                          # only asked for
    jobs.run_due()
    assert ledger.set_aside is not None
    book(ledger, pricing(None), START_NS, 1, session="after")
    assert fall(before, ledger.totals) == []
    came: list[bool] = []
    LedgerUpkeep(ledger, jobs, SystemClock(), lambda: ("Asia/Kolkata", Retention()), lambda: came.append(True)).schedule()
    jobs.work["rows of a damaged ledger"]()
    jobs.work["rows of a damaged ledger"]()
    assert came == []                                        # every page of them was overwritten
    ledger.give_up("damaged", START_NS)
    jobs.work["rows of a damaged ledger"]()
    jobs.work["rows of a damaged ledger"]()
    assert came == [True]                                    # once: stages are built again from them
    ledger.close()
