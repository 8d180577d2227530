"""What a damaged ledger still proves goes on in the file that takes its place: totals at once, rows after them.

The new file begins with the totals, all of them as openings (total - opening = sum of rows), so that it is there in a moment.
``Backfill`` then carries the rows over, some spans at a time, each with its part of the openings: at every step the sums agree.
Where it stands is in the new file's ``mark``; one that is interrupted goes on at the next start.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.ledger.at_rest import Tables
from agent.ledger.damaged import Damaged, is_described, mended, readable, reading
from agent.ledger.file import SMALLEST_BYTES, Beside
from agent.ledger.seal import BY_NAME, Touched, broken_slices
from agent.ledger.unreadable import LASTING_S, BadPages, let_go
from agent.ledger.write import ADD_CORRECTION, ADD_SUMMARY, ADD_USAGE
from agent.model import FOREVER_NS

_ADD: Final = {"usage": ADD_USAGE, "correction": ADD_CORRECTION}
# Emissions and unpriced energy are told by nobody else where their table could not be read: they come with the rows.
_LESS_WORK: Final = ("UPDATE workload_total SET opening_mj = opening_mj - ?1, opening_ns = opening_ns - ?2, "
                     "emissions_ug = emissions_ug + MAX(0, ?3 - opening_ug), opening_ug = MAX(0, opening_ug - ?3) "
                     "WHERE uuid = ?4 AND workload = ?5")
_LESS_COST: Final = ("UPDATE cost_total SET opening_nano = opening_nano - ? "
                     "WHERE uuid = ? AND workload = ? AND component = ? AND currency = ?")
_LESS_DEVICE: Final = ("UPDATE device SET opening_mj = opening_mj - ?1, "
                       "unpriced_mj = unpriced_mj + MAX(0, ?2 - opening_unpriced_mj), "
                       "opening_unpriced_mj = MAX(0, opening_unpriced_mj - ?2) WHERE uuid = ?3")
_RERATED: Final = ("correction_run", "cost_total", "state_cost")     # what a re-rating writes to, of seal.BY_NAME
# So that sums agree: of states all that is known is then how much they come to.
_TOLD_BY_OTHERS: Final = {
    "workload_total": "INSERT INTO workload_total (uuid, workload, energy_mj, gpu_ns, emissions_ug) "
                      "SELECT uuid, workload, SUM(energy_mj), SUM(gpu_ns), 0 FROM state_total GROUP BY uuid, workload",
    "state_total": "INSERT INTO state_total SELECT uuid, workload, 'unknown', gpu_ns, energy_mj FROM workload_total",
    "state_cost": "INSERT INTO state_cost SELECT uuid, workload, 'unknown', currency, SUM(cost_nano) "
                  "FROM cost_total GROUP BY uuid, workload, currency",
    "device": "INSERT INTO device (uuid, name, energy_mj) SELECT uuid, '', SUM(energy_mj) FROM workload_total GROUP BY uuid",
}
_MARK: Final = "rows to come: "                  # then the table and the name of the file set aside
_SPANS: Final = 64                               # a transaction: short enough for a daemon that waits to commit

log = logging.getLogger(__name__)

Row = tuple[Any, ...]                            # of usage or correction, column by column


class _Piece(NamedTuple):
    """Proven rows up to an instant, FOREVER_NS for the last piece; how many spans are not. ``unread``: why nothing of the
    table from here on could be read."""

    rows: list[Row]
    lost: int
    until_ns: int
    unread: str = ""


def proven_tables(old: Path, disk: BadPages) -> tuple[Tables, str]:
    """The tables of names and totals of a damaged ledger of which its seals prove every row, all or those that are left; and
    why no more of it can be read, where that is known. Raises sqlite3.Error and OSError for a fault that may pass."""
    proven, why = _proven_tables(old)
    if proven.keys() != BY_NAME.keys() and not disk.look():
        proven, why = _proven_tables(old)                # the disk gives all of it: also what it may not have given just now
        if proven.keys() != BY_NAME.keys():
            disk.look()
    return proven, why


def _proven_tables(old: Path) -> tuple[Tables, str]:
    proven: Tables = {}
    if not _holds_something(old):
        return proven, "nothing of it is there"
    missing, described = {*BY_NAME}, False
    with Damaged(old) as looking, contextlib.closing(reading(old)) as source:
        proven = _proven_of(source, old)
        missing -= proven.keys()
        described = is_described(source, old, missing)
    why = looking.why
    if missing and not described:
        with Damaged(old) as mending, mended(old, BY_NAME) as source:
            proven = max(proven, _proven_of(source, old), key=len)
        why = mending.why or why
    return proven, why


def _proven_of(source: sqlite3.Connection, old: Path) -> Tables:
    """As of one state of the file, which ends with the connection: SQLite does not end it after a page that it cannot read."""
    proven: Tables = {}
    source.execute("BEGIN")
    for table in BY_NAME:
        with Damaged(old):
            if not broken_slices(source, table):
                proven[table] = source.execute(f"SELECT * FROM {table} NOT INDEXED").fetchall()  # noqa: S608 - names from seal.py
    return proven


def corrections_of(tables: Tables) -> int:
    """How many rows re-ratings have written; 0 where the tables do not tell."""
    return sum(row[-1] for row in tables.get("correction_run", ()) if isinstance(row[-1], int))


def rerated_since(tables: Tables, corrections: int) -> Tables:
    """Of the tables of a ledger those that re-ratings have changed since there were so many rows of them; none where there
    were no more, or where one of these tables is not proven."""
    changed: Tables = {table: tables[table] for table in _RERATED if table in tables}
    return changed if len(changed) == len(_RERATED) and corrections_of(tables) > corrections else {}


def is_enough(tables: Tables) -> bool:
    """Whether a ledger can go on from those tables alone: they have what everything cost, and whose it was."""
    return {"workload", "cost_total"} <= tables.keys() and not {"workload_total", "state_total"}.isdisjoint(tables)


def begin_with(fresh: sqlite3.Connection, tables: Tables) -> None:
    """Fill an empty ledger with names and totals, none of which a row stands for yet. What of a table that is not there the
    others tell goes over too."""
    for table, rows in tables.items():
        _fill(fresh, table, rows)
    for table, told in _TOLD_BY_OTHERS.items():
        filled = f"SELECT EXISTS (SELECT 1 FROM {table})"  # noqa: S608 - names from above
        if table not in tables and not fresh.execute(filled).fetchone()[0]:
            fresh.execute(told)
    fresh.execute("UPDATE workload_total SET opening_mj = energy_mj, opening_ns = gpu_ns, opening_ug = emissions_ug")
    fresh.execute("UPDATE cost_total SET opening_nano = cost_nano - credit_nano")
    fresh.execute("UPDATE device SET opening_mj = energy_mj, opening_unpriced_mj = unpriced_mj")


def keep_records(fresh: sqlite3.Connection, tables: Tables) -> None:
    """Of tables that are not all proven, those that stand alone: what was committed, rolled up, re-rated, and is to come."""
    for table in {"session", "mark", "correction_run"} & tables.keys():
        _fill(fresh, table, tables[table])


def _fill(fresh: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    """Have a table hold these rows and no others."""
    fresh.execute(f"DELETE FROM {table}")  # noqa: S608 - names from seal.py
    if rows:
        fresh.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608 - the same names


def expect_rows(fresh: sqlite3.Connection, aside: str) -> None:
    """Note that the rows of a file of that name, beside the ledger, are still to be carried over."""
    fresh.executemany("INSERT OR REPLACE INTO mark VALUES (?, 0)", [(f"{_MARK}{table} {aside}",) for table in _ADD])


def expected(db: sqlite3.Connection) -> list[str]:
    """The names of the files whose rows are still to come, the newest first."""
    names = db.execute("SELECT name FROM mark WHERE name GLOB ? ORDER BY name DESC", (f"{_MARK}usage *",))
    return [name.removeprefix(f"{_MARK}usage ") for (name,) in names]


class Backfill:
    """Carries over the rows that a ledger expects, on a connection of its own, and says so."""

    def __init__(self, path: Path, stop: Callable[[], bool] = lambda: False, patience_s: float = LASTING_S) -> None:
        """``stop`` is asked after each transaction. A part that the disk has not given for so long is given up."""
        self._path = path
        self._stop = stop
        self._patience_s = patience_s
        self._disks: dict[Path, BadPages] = {}
        self._rows = 0
        self._lost = 0
        self._unread = ""

    def __call__(self) -> int:
        """Go on until all is over, or stopped; how many rows went over. Raises sqlite3.Error and OSError where the new ledger
        cannot be written, or the disk does not give the old one: what is left is tried again the next time."""
        self._rows, self._lost, self._unread = 0, 0, ""
        with contextlib.closing(Beside(self._path)) as beside:
            marks = "SELECT name, value FROM mark WHERE name GLOB ? ORDER BY name DESC"      # usage before correction
            for name, next_ns in beside.db.execute(marks, (f"{_MARK}*",)).fetchall():
                table, aside = name.removeprefix(_MARK).split(" ", 1)
                if not self._carry(beside, name, table, self._path.with_name(aside), next_ns):
                    break
                if table == "correction":
                    log.warning("%s: %s", self._path, self._outcome(aside))
        return self._rows

    def _outcome(self, aside: str) -> str:
        if self._unread and not self._rows:
            return f"none of the rows of {aside} went over: {self._unread}"
        rest = f"; the rest of them did not: {self._unread}" if self._unread else ""
        return f"{self._rows} rows of {aside} went over; {self._lost} spans of them were damaged and did not{rest}"

    def _carry(self, beside: Beside, mark: str, table: str, old: Path, next_ns: int) -> bool:
        known = dict(beside.db.execute("SELECT id, tags FROM workload").fetchall())
        disk = self._disks.setdefault(old, BadPages(old, self._patience_s))
        sure = False
        try:
            while next_ns < FOREVER_NS:
                for piece in _spans(old, table, next_ns, known):
                    if (piece.lost or piece.unread) and not sure and not disk.look():
                        sure = True              # the disk gives all of it: also what it may not have given just now
                        break
                    sure = False
                    next_ns = piece.until_ns
                    self._add(beside, mark, table, piece)
                    if next_ns != FOREVER_NS and self._stop():
                        return False
        finally:
            let_go(old)
        return True

    def _add(self, beside: Beside, mark: str, table: str, piece: _Piece) -> None:
        db = beside.db
        with beside.transaction():
            touched = _touched(table, piece.rows)
            touched.require_good(db)
            _add(db, table, piece.rows)
            if piece.until_ns == FOREVER_NS:
                db.execute("DELETE FROM mark WHERE name = ?", (mark,))
            else:
                db.execute("UPDATE mark SET value = ? WHERE name = ?", (piece.until_ns, mark))
            touched.seal(db)
        self._rows += len(piece.rows)
        self._lost += piece.lost
        self._unread = self._unread or piece.unread


def _holds_something(old: Path) -> bool:
    """Whether there is a file to read. SQLite takes an empty one for new, and deletes the log beside it."""
    try:
        return old.stat().st_size >= SMALLEST_BYTES
    except FileNotFoundError:
        return False


def _spans(old: Path, table: str, next_ns: int, known: Mapping[int, str]) -> Iterator[_Piece]:
    """What a damaged file proves, from a start on. ``known``: the tags of the new ledger's workloads, by number. Raises
    sqlite3.Error and OSError for a fault that may pass."""
    if not _holds_something(old):
        yield _Piece([], 0, FOREVER_NS, "nothing of it is there")
        return
    with readable(old, ("workload", table)) as (source, sealless):
        same = {number for number, tags in _proven_workloads(source, old) if known.get(number) == tags}
        while next_ns < FOREVER_NS:
            starts: list[int] = []
            with Damaged(old) as damaged:                # whose seals cannot be read is not proven: all that is left is lost
                starts = [row[0] for row in source.execute(
                    "SELECT slice FROM seal WHERE name = ? AND slice >= ? AND slice < ? AND typeof(slice) = 'integer' "
                    "ORDER BY slice LIMIT ?", (table, next_ns, FOREVER_NS, _SPANS))]
            until_ns = starts[-1] + 1 if len(starts) == _SPANS else FOREVER_NS
            rows, lost = _proven_rows(source, old, table, starts, (next_ns, until_ns))
            foreign = {row[0] for row in rows if row[2] not in same}      # whose workload nobody can name
            why = "" if starts else sealless or damaged.why
            yield _Piece([row for row in rows if row[0] not in foreign], lost + len(foreign), until_ns,
                         f"the seals that prove them cannot be read: {why}" if why else "")
            next_ns = until_ns


def _proven_workloads(source: sqlite3.Connection, old: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    with Damaged(old):
        broken = set(broken_slices(source, "workload"))
        found = [row for row in source.execute("SELECT id, tags FROM workload NOT INDEXED").fetchall() if row[0] not in broken]
    return found


def _proven_rows(source: sqlite3.Connection, old: Path, table: str, starts: list[int],
                 span_ns: tuple[int, int]) -> tuple[list[Row], int]:
    select = f"SELECT * FROM {table} WHERE start_ns = ?"  # noqa: S608 - names from above
    together: tuple[list[Row], int] | None = None
    with Damaged(old):
        broken = set(broken_slices(source, table, span_ns))
        good = [start_ns for start_ns in starts if start_ns not in broken]
        together = [row for start_ns in good for row in source.execute(select, (start_ns,))], len(broken)
    if together is not None:
        return together
    rows: list[Row] = []                                 # not in one go: one after the other
    lost = 0
    for start_ns in starts:
        found: list[Row] | None = None
        with Damaged(old):
            if not broken_slices(source, table, (start_ns, start_ns + 1)):
                found = source.execute(select, (start_ns,)).fetchall()
        if found is None:
            lost += 1
        else:
            rows += found
    return rows, lost


def _touched(table: str, rows: list[Row]) -> Touched:
    touched = Touched()
    touched.add("mark", [()])
    touched.add(table, {(row[0],) for row in rows})
    touched.add("summary", {(row[0],) for row in rows})
    touched.add("device", {(row[1],) for row in rows})
    for totals in ("workload_total", "cost_total"):
        touched.add_totals(totals, {(row[1], row[2]) for row in rows})
    return touched


def _add(db: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    """Rows, what the summary has of them, and that much less in the openings."""
    summary: dict[tuple[int, int, str], list[int]] = {}
    works: dict[tuple[str, int], list[int]] = {}
    costs: dict[tuple[str, int, str, str], int] = {}
    devices: dict[str, list[int]] = {}
    for (start_ns, uuid, workload, component, currency, _, rate, _,
         energy_mj, gpu_ns, cost_nano, emissions_ug, span_ns) in rows:
        amounts = summary.setdefault((start_ns, workload, currency), [0, 0, 0, 0, 0])
        work = works.setdefault((uuid, workload), [0, 0, 0])
        device = devices.setdefault(uuid, [0, 0])
        for i, amount in enumerate((energy_mj, gpu_ns, cost_nano, emissions_ug)):
            amounts[i] += amount
        amounts[4] = max(amounts[4], span_ns)
        for i, amount in enumerate((energy_mj, gpu_ns, emissions_ug)):
            work[i] += amount
        cost = (uuid, workload, component, currency)
        costs[cost] = costs.get(cost, 0) + cost_nano
        if table == "usage":
            device[0] += energy_mj
            device[1] += energy_mj if component == "energy" and not rate else 0
    db.executemany(_ADD[table], rows)
    db.executemany(ADD_SUMMARY, [(*key, *amounts) for key, amounts in summary.items()])
    db.executemany(_LESS_WORK, [(*amounts, *key) for key, amounts in works.items()])
    db.executemany(_LESS_COST, [(nano, *key) for key, nano in costs.items()])
    db.executemany(_LESS_DEVICE, [(*amounts, uuid) for uuid, amounts in devices.items()])
