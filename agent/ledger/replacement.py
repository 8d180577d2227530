"""A file that takes the place of a damaged ledger, or of one that was removed: whole before it has the ledger's name."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from agent.ledger.at_rest import Tables
from agent.ledger.file import SIDE_FILES
from agent.ledger.rescue import (
    begin_with,
    corrections_of,
    expect_rows,
    expected,
    is_enough,
    keep_records,
    rerated_since,
)
from agent.ledger.schema import migrate
from agent.ledger.seal import BY_NAME, install, seal_all
from agent.ledger.standing import WRONG_CONTENT, Standing, read_standing, write_opening


def write_replacement(path: Path, memory: Standing | None, tables: Tables, aside: str | None = None) -> str:
    """Write the new file, as ``.new`` beside the ledger; a sentence on what it begins with. That is the old one's names and
    totals, where all are given and are no less than those in memory, else those in memory with what re-ratings have added
    since; where there are none, what is given, if it is enough, else nothing. ``aside``: what the old one will be called, whose
    rows are then still to come. Raises sqlite3.Error and OSError."""
    fresh = _new(path)
    fresh.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        install(db)
        migrate(db, fresh)
        db.execute("BEGIN IMMEDIATE")
        began = "counters begin anew"
        missing = BY_NAME.keys() - tables.keys()
        if (is_enough(tables) if memory is None else not missing) and _begun(db, tables, memory):
            began = "a new one goes on with its totals, and its rows are carried over"
            if missing:
                began += f"; what cannot be read of it begins anew: {', '.join(sorted(missing))}"
        elif memory is not None:
            keep_records(db, tables)
            write_opening(db, memory)
            began = "a new one goes on with the totals in memory, and what rows can be read are carried over"
            later = rerated_since(tables, memory.corrections)
            if corrections_of(tables) > memory.corrections and not (later and _begun(db, later, memory)):
                began += "; what a re-rating has just added is in reports, and not in the counters"
        else:
            aside = None
        if aside is not None:
            expect_rows(db, aside)
        seal_all(db)
        db.execute("COMMIT")
    return began


def _begun(db: sqlite3.Connection, tables: Tables, memory: Standing | None) -> bool:
    """Whether the file now begins with the tables: not where they are nonsense, sealed as it may be, nor where something that
    was committed is not in them."""
    db.execute("SAVEPOINT tried")
    begin_with(db, tables)
    try:
        standing = read_standing(db)
        if memory is None or standing.covers(memory):
            return True
    except WRONG_CONTENT:
        pass
    db.execute("ROLLBACK TO tried")
    return False


def finish_replacement(path: Path) -> None:
    """Give the new file the ledger's name, where that is free: also after a crash that came in between."""
    fresh = _new(path)
    if fresh.exists() and not path.exists():
        for suffix in SIDE_FILES[1:]:                # of the one set aside: they would be laid over the new file
            left = path.with_name(path.name + suffix)
            if left.exists():
                left.rename(path.with_name((_aside_of(fresh) or f"{path.name}.corrupt") + suffix))
        fresh.rename(path)


def _aside_of(fresh: Path) -> str | None:
    """What the file is called that a new one took the place of."""
    with contextlib.closing(sqlite3.connect(f"{fresh.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return next(iter(expected(db)), None)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")
