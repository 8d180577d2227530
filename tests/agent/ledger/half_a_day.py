"""A small ledger, and how tests look at it and change it behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from tests.agent.priced import book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")
QUARTERS = 48


def closed_ledger(directory: Path) -> Path:
    """The state directory of two workloads that used a kWh each every quarter of half a day, for 1 CNY; closed."""
    ledger = Ledger(directory / "state", START_NS)
    book(ledger, pricing(tariff(directory, "flat = 1")), START_NS, QUARTERS)
    ledger.close()
    return directory / "state"


def faults(state: Path) -> list[str]:
    with closing(open_for_reading(state)) as db:
        return verify(db)


def change(state: Path, sql: str) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute(sql)
