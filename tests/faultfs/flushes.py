"""Run with the failing disk preloaded: makes the n-th operation of a flush, or of a start, fail for every n, and looks at
what comes of it. Prints one JSON object: cases by operation and error. An assertion that fails ends it.

    python -m tests.faultfs.flushes FOLDER
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import shutil
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.errors import LedgerError
from agent.ledger.batch import Batch
from agent.ledger.file import FILE_NAME
from agent.ledger.journal import Journal
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from tests.faultfs.ticks import batch, compare

DISK = ctypes.CDLL(None)
FAULTS = {
    "write EIO": ("w", errno.EIO, 0), "write ENOSPC": ("w", errno.ENOSPC, 1), "write short": ("w", 0, 0),
    "fsync EIO": ("s", errno.EIO, 0), "fsync ENOSPC": ("s", errno.ENOSPC, 1),
    "open EIO": ("o", errno.EIO, 0), "open ENOSPC": ("o", errno.ENOSPC, 1), "open EMFILE": ("o", errno.EMFILE, 1)}
FRAME_BYTES = 4096 + 24
CHECKPOINT_FRAMES = 1_000                # SQLite's own: the commit that reaches it moves the log into the file


def template(folder: Path) -> int:
    """A ledger whose next commit makes SQLite move its log into the file: the files as a kill leaves them; its ticks."""
    live = folder / "live"
    ledger = Ledger(live, 0)
    ticks = 0
    log = live / f"{FILE_NAME}-wal"
    while not log.exists() or log.stat().st_size // FRAME_BYTES < CHECKPOINT_FRAMES - 6:
        ledger.commit(batch(ticks), ticks)
        ticks += 1
    (folder / "template").mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(live / (FILE_NAME + suffix), folder / "template" / (FILE_NAME + suffix))
    ledger.close()
    return ticks


def flush(place: Path, ticks: int, arm: Callable[[], None]) -> tuple[int, bool]:
    """One flush that fails, the ticks after it, and the flush that lands all; failed operations, and whether it failed."""
    ledger = Ledger(place, 0)
    journal = Journal(ledger, 0, lambda done: None)
    before = ledger.totals
    arm()
    journal.batch = batch(ticks)
    landed = journal.flush(ticks)
    if not landed:
        assert ledger.totals == before, "published what is not committed"
    journal.batch = _joined(journal.batch, ticks + 1)
    journal.flush(ticks)                         # a second time on the bad disk
    journal.batch = _joined(journal.batch, ticks + 2)
    failed = DISK.faultfs_disarm()
    assert journal.flush(ticks), "does not recover"
    assert journal.queued_ticks == 0
    _same(ledger, ticks + 3)
    ledger.close()
    return failed, landed


def _joined(waiting: Batch, sequence: int) -> Batch:
    """What waits, and one tick more."""
    first = waiting.first_sequences.get("s", sequence)
    return batch(*range(first, sequence + 1))


def start(place: Path, ticks: int, arm: Callable[[], None]) -> tuple[int, bool]:
    """A start on a bad disk: it is refused in a sentence or good; the next one is good."""
    arm()
    try:
        ledger = Ledger(place, 0)
        ledger.close()
        landed = True
    except LedgerError:
        landed = False
    failed = DISK.faultfs_disarm()
    ledger = Ledger(place, 0)
    ledger.commit(batch(ticks, ticks + 1, ticks + 2), 0)
    _same(ledger, ticks + 3)
    ledger.close()
    return failed, landed


def _same(ledger: Ledger, ticks: int) -> None:
    compare(ledger, ticks)
    assert ledger.set_aside is None, "set aside a good ledger"


def main(folder: Path) -> None:
    logging.disable()
    ticks = template(folder)
    disk = folder / "state"
    cases: dict[str, int] = {}
    for scenario in (flush, start):
        for name, (operation, error, lasting) in FAULTS.items():
            n, failed = 0, 1
            while failed:
                n += 1
                shutil.rmtree(disk, ignore_errors=True)
                shutil.copytree(folder / "template", disk)
                place, which, nth = str(disk).encode(), ord(operation), ctypes.c_long(n)
                failed, landed = scenario(disk, ticks, partial(DISK.faultfs_arm, place, which, nth, error, lasting))
                assert landed or failed, f"{scenario.__name__}, {name}: refused without a fault"
                _reopened(disk, ticks + 3)
            cases[f"{scenario.__name__}: {name}"] = n - 1
    print(json.dumps(cases))


def _reopened(place: Path, ticks: int) -> None:
    ledger = Ledger(place, 0)
    _same(ledger, ticks)
    ledger.close()
    with contextlib.closing(open_for_reading(place)) as db:
        assert verify(db) == []
    with contextlib.closing(sqlite3.connect(place / FILE_NAME)) as db:
        assert db.execute("SELECT sequence FROM session").fetchall() == [(ticks - 1,)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
