"""Run with the failing disk preloaded: reads of a ledger fail, of a good one and of a damaged one, once or for good. Prints one
JSON object. An assertion that fails ends it.

    python -m tests.faultfs.reads FOLDER
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

from agent.errors import LedgerError
from agent.ledger.file import FILE_NAME, fault_of
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.rescue import proven_tables
from agent.ledger.seal import BY_NAME
from agent.ledger.unreadable import BadPages
from agent.ledger.verify import verify
from tests.faultfs.flushes import DISK
from tests.faultfs.ticks import batch, compare

PAGE_BYTES = 4096
TICKS = 40
PASSING = {"EIO": errno.EIO, "ESTALE": errno.ESTALE}


def template(folder: Path) -> Path:
    """The file as a kill leaves it, all of it out of the log."""
    ledger = Ledger(folder / "live", 0)
    for n in range(TICKS):
        ledger.commit(batch(n), n)
    with contextlib.closing(sqlite3.connect(ledger.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    made = folder / "template"
    made.mkdir()
    shutil.copy(ledger.path, made)
    ledger.close()
    return made


def damaged(folder: Path, good: Path) -> Path:
    """The same with one amount that is not what was written."""
    made = folder / "damaged"
    shutil.copytree(good, made)
    with contextlib.closing(sqlite3.connect(made / FILE_NAME)) as db:
        db.execute("UPDATE usage SET cost_nano = cost_nano + 1 WHERE rate = 'peak' AND component = 'energy'")
        db.commit()
    return made


def arm(place: Path, n: int, error: int, lasting: int = 0) -> None:
    DISK.faultfs_arm(str(place).encode(), ord("r"), ctypes.c_long(n), error, lasting)


def spoil(file: Path, offset: int, error: int = errno.EIO) -> None:
    DISK.faultfs_spoil(str(file).encode(), ctypes.c_long(offset), error)


def fresh(made: Path) -> Path:
    place = made.with_name("state")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made, place)
    return place


def impatient(place: Path) -> Ledger:
    """A start that does not wait for what a disk does not give."""
    return Ledger(place, 0, 0.0)


def starts(made: Path, *, good: bool, error: int, lasting: int) -> int:
    """The last read of a start that can fail; it is refused then or good, and the next one has every total. Of a damaged ledger
    not each of the hundreds is tried."""
    step = 1 if good else 23
    n, failed = 1 - step, 1
    while failed:
        n += step
        place = fresh(made)
        arm(place, n, error, lasting)
        with contextlib.suppress(LedgerError):
            ledger = impatient(place)
            compare(ledger, TICKS)
            ledger.close()
        failed = DISK.faultfs_disarm()
        ledger = Ledger(place, 0)
        compare(ledger, TICKS)
        ledger.close()
        asides = list(place.glob("*.corrupt-*Z"))
        assert len(asides) == (0 if good else 1), f"read {n} failed: {asides}"
    return n - step


def commits(made: Path, error: int) -> int:
    """How many reads of a commit, which opens its file again, can fail; it is tried again, and nothing is set aside."""
    n, failed = 0, 1
    while failed:
        n += 1
        ledger = _let_go(fresh(made))
        arm(ledger.path.parent, n, error)
        with contextlib.suppress(LedgerError):
            ledger.commit(batch(TICKS), TICKS)
        failed = DISK.faultfs_disarm()
        _landed(ledger)
    return n - 1


def opens(made: Path, lasting: int) -> int:
    """How many opens of such a commit can fail for want of a descriptor: SQLite then opens the file to read, or not at all."""
    n, failed = 0, 1
    while failed:
        n += 1
        ledger = _let_go(fresh(made))
        DISK.faultfs_arm(str(ledger.path.parent).encode(), ord("o"), ctypes.c_long(n), errno.EMFILE, lasting)
        with contextlib.suppress(LedgerError):
            ledger.commit(batch(TICKS), TICKS)
        failed = DISK.faultfs_disarm()
        _landed(ledger)
    return n - 1


def _let_go(place: Path) -> Ledger:
    """A ledger in mid-run whose last commit was refused, so that it has let go of the file."""
    ledger = Ledger(place, 0)
    DISK.faultfs_arm(str(place).encode(), ord("w"), ctypes.c_long(1), errno.EIO, 0)
    with contextlib.suppress(LedgerError):
        ledger.commit(batch(TICKS), TICKS)
    assert DISK.faultfs_disarm() == 1
    return ledger


def _landed(ledger: Ledger) -> None:
    ledger.commit(batch(TICKS), TICKS)
    assert ledger.set_aside is None, "set aside a good ledger"
    compare(ledger, TICKS + 1)
    ledger.close()


def proofs(made: Path) -> int:
    """How many reads can fail, with all that follow, while a damaged file's totals are read: they are all proven, or it is said
    that the disk is at fault."""
    n, failed = 0, 1
    while failed:
        n += 1
        file = fresh(made) / FILE_NAME
        arm(file.parent, n, errno.EIO, 1)
        with contextlib.suppress(OSError, sqlite3.Error):
            assert proven_tables(file, BadPages(file))[0].keys() == BY_NAME.keys(), f"read {n}: given up"
        failed = DISK.faultfs_disarm()
    return n - 1


def looks(made: Path) -> list[str | None]:
    """What the check says of a good file while a page of it, each in turn, is not given."""
    file = fresh(made) / FILE_NAME
    said: set[str | None] = set()
    for error in PASSING.values():
        for offset in range(0, file.stat().st_size, PAGE_BYTES):
            spoil(file, offset, error)
            said.add(fault_of(file))
    spoil(file, -1)
    assert fault_of(file) is None
    return list(said)


def spots(made: Path) -> dict[str, str]:
    """What comes of a start where a page, each in turn, is never given, by what is on it: each cost as it was, or words."""
    with contextlib.closing(sqlite3.connect(made / FILE_NAME)) as db:
        owners = dict(db.execute("SELECT pageno, name FROM dbstat").fetchall())
    outcomes: dict[str, set[str]] = {}
    for page, owner in owners.items():
        place = fresh(made)
        spoil(place / FILE_NAME, (page - 1) * PAGE_BYTES)
        outcomes.setdefault(owner, set()).add(_outcome(place))
        spoil(place, -1)
    return {owner: " or ".join(sorted(found)) for owner, found in outcomes.items()}


def _outcome(place: Path) -> str:
    try:
        ledger = impatient(place)
    except LedgerError as error:
        assert "move it away to begin anew at zero" in str(error), str(error)
        assert [path.name for path in place.glob("*.corrupt*")] == []
        return "refused"
    wanted = costs(place.parent / "live")
    assert costs(place) == wanted, "a cost is another one"
    assert ledger.set_aside is not None
    with contextlib.closing(open_for_reading(place)) as db:
        faults = verify(db)
        assert faults == [], faults
    ledger.commit(batch(TICKS), TICKS)
    ledger.close()
    return "goes on"


def costs(place: Path) -> list[tuple[object, ...]]:
    """By device, workload and component."""
    with contextlib.closing(sqlite3.connect(place / FILE_NAME)) as db:
        return db.execute("SELECT uuid, tags, component, currency, cost_nano, credit_nano FROM cost_total "
                          "JOIN workload ON workload = id ORDER BY 1, 2, 3, 4").fetchall()


def main(folder: Path) -> None:
    logging.disable()
    good = template(folder)
    bad = damaged(folder, good)
    cases: dict[str, object] = {"look": looks(good), "spots": spots(good), "opens": [opens(good, 0), opens(good, 1)],
                                "proofs": proofs(bad)}
    for name, error in PASSING.items():
        cases[f"commit: {name}"] = commits(good, error)
        for lasting in (0, 1):
            for made in (good, bad):
                cases[f"{made.name}: {name}{' from then on' if lasting else ''}"] = starts(
                    made, good=made is good, error=error, lasting=lasting)
    print(json.dumps(cases))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
