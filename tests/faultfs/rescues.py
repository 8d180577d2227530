"""Run with the failing disk preloaded: makes the n-th operation fail, for every n, while the rows of a damaged ledger are
carried over, one whose tables are well described and one whose description is damaged. Prints one JSON object: cases by file
and error, and what is logged where there are no hard links. An assertion that fails ends it.

    python -m tests.faultfs.rescues FOLDER
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
from pathlib import Path

from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.rescue import Backfill
from tests.agent.priced import book, instant_ns, pricing
from tests.faultfs.flushes import DISK

START_NS = instant_ns("2026-03-01")
ROWS = 2 * 2 * 8                                 # two workloads, energy and hardware, eight quarters of an hour
FAULTS = {"open EIO": ("o", errno.EIO, 0), "open EMFILE": ("o", errno.EMFILE, 1), "write ENOSPC": ("w", errno.ENOSPC, 1),
          "link EIO": ("l", errno.EIO, 0), "read EIO": ("r", errno.EIO, 0), "read ESTALE": ("r", errno.ESTALE, 0)}


def expecting(state: Path, *, described: bool) -> str:
    """A ledger whose rows are still to come from a file set aside; that file's name."""
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(None), START_NS, 8)
    ledger.give_up("damaged", START_NS)
    aside = ledger.set_aside
    ledger.close()
    assert aside is not None
    data = bytearray(aside.read_bytes())
    if not described:
        data[data.index(b"CREATE TABLE usage") + 7] ^= 1 << 7
    aside.write_bytes(data)
    return aside.name


def arm(folder: Path, operation: str, n: int, error: int, lasting: int) -> None:
    DISK.faultfs_arm(str(folder).encode(), ord(operation), ctypes.c_long(n), error, lasting)


def carried(place: Path) -> int:
    with contextlib.closing(sqlite3.connect(place / FILE_NAME)) as db:
        return int(db.execute("SELECT COUNT(*) FROM usage").fetchone()[0])


def passing(template: Path, place: Path, fault: tuple[str, int, int]) -> int:
    """How many operations there are that can fail; each of them holds the rows up and loses none."""
    operation, error, lasting = fault
    n = 0
    while True:
        n += 1
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place)
        arm(place, operation, n, error, lasting)
        with contextlib.suppress(sqlite3.Error, OSError):
            Backfill(place / FILE_NAME)()
        failed = DISK.faultfs_disarm()
        Backfill(place / FILE_NAME)()
        assert carried(place) == ROWS, f"{template.name}: operation {n} of {operation} failed, and rows were given up"
        if not failed:
            return n - 1


def without_links(template: Path, place: Path) -> list[str]:
    """What is said where the file system has none; the rows are then not waited for."""
    shutil.copytree(template, place)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("agent.ledger.rescue").addHandler(handler)
    arm(place, "l", 1, errno.EPERM, 1)
    assert Backfill(place / FILE_NAME)() == 0
    DISK.faultfs_disarm()
    assert Backfill(place / FILE_NAME)() == carried(place) == 0
    return said


def main(folder: Path) -> None:
    logging.getLogger().addHandler(logging.NullHandler())
    cases: dict[str, object] = {}
    for name, described in (("described", True), ("damaged", False)):
        template = folder / name
        expecting(template, described=described)
        for fault, how in FAULTS.items():
            cases[f"{name}: {fault}"] = passing(template, folder / "state", how)
    cases["without links"] = without_links(folder / "damaged", folder / "unlinked")
    print(json.dumps(cases))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
