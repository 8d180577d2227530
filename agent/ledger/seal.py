"""A digest of what each part of the ledger says, written in the transaction that wrote it.

SQLite finds a page whose structure is broken; a flipped bit within a number or a name it cannot tell from a good one. So the
table ``seal`` has, for each slice of each table, the digest of its rows: a slice is a quarter of an hour of ``usage``, the
totals of a few workloads on a device, or a whole small table. Who writes rows seals their slices again (``Touched``);
``broken`` names the slices that say something else than was written.

The digest is BLAKE2b (RFC 7693) of 8 bytes, over the rows as SQL literals, in the order of their keys. It is no secret: it
tells damage, not forgery.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Final, NamedTuple

from agent.calendar.instants import format_instant
from agent.ledger.tables import model

DIGEST_BYTES: Final = 8

WORKLOADS: Final = 32                # numbers of workloads in a slice: fewer slices to seal, and none that grows without end


class _Slicing(NamedTuple):
    """``name``: the slice of a row, as an SQL expression. ``rows``: the rows of one, by the values that name it."""

    name: str
    rows: str


_WHOLE: Final = _Slicing("''", "true")
_BY_START: Final = _Slicing("start_ns", "start_ns = ?1")
_BY_DEVICE: Final = _Slicing("uuid", "uuid = ?1")
_BY_WORKLOADS: Final = _Slicing(
    f"uuid || '/' || (workload / {WORKLOADS})",
    f"uuid = ?1 AND workload >= ?2 * {WORKLOADS} AND workload < (?2 + 1) * {WORKLOADS}")

BY_TIME: Final = {"usage": _BY_START, "correction": _BY_START, "summary": _BY_START}
BY_NAME: Final = {
    "session": _WHOLE, "mark": _WHOLE, "host": _WHOLE, "correction_run": _WHOLE, "workload": _Slicing("id", "id = ?1"),
    "device": _BY_DEVICE, "device_state": _BY_DEVICE, "workload_total": _BY_WORKLOADS, "cost_total": _BY_WORKLOADS,
    "state_total": _BY_WORKLOADS, "state_cost": _BY_WORKLOADS,
}
_SLICES: Final = BY_NAME | BY_TIME
SEALED: Final = tuple(_SLICES)

Slice = tuple[str | int, ...]


def install(db: sqlite3.Connection) -> None:
    """Give a connection the SQL function that seals; before any statement of it is under way."""
    db.create_function("digest", 1, _digest, deterministic=True)


def _digest(rows: bytes) -> bytes:
    return hashlib.blake2b(rows, digest_size=DIGEST_BYTES).digest()


def seal_all(db: sqlite3.Connection, tables: Iterable[str] = SEALED) -> None:
    """Seal what the tables say now. For a file whose content is known to be good: a new one, or one that is migrated."""
    for table in tables:
        db.execute("DELETE FROM seal WHERE name = ?", (table,))
        db.execute(_sealing(table))


def seal_span(db: sqlite3.Connection, start_ns: int, end_ns: int) -> None:
    """Seal the rows over time that begin in [start, end), after they were replaced."""
    for table in BY_TIME:
        db.execute("DELETE FROM seal WHERE name = ? AND slice >= ? AND slice < ?", (table, start_ns, end_ns))
        db.execute(_sealing(table, "start_ns >= ? AND start_ns < ?"), (start_ns, end_ns))


class Touched:
    """The slices that a transaction writes to, sealed at its end."""

    def __init__(self) -> None:
        self._slices: dict[str, set[Slice]] = {}

    def add(self, table: str, slices: Iterable[Slice]) -> None:
        """Slices by the values that name them: a start, a device, a workload's number; ``[()]`` for a table that is one."""
        self._slices.setdefault(table, set()).update(slices)

    def add_totals(self, table: str, keys: Iterable[tuple[str, int]]) -> None:
        """The slices of totals by (device, workload's number)."""
        self.add(table, {(uuid, number // WORKLOADS) for uuid, number in keys})

    def require_good(self, db: sqlite3.Connection) -> None:
        """Raise DatabaseError where one of them is not what was written: it would be sealed as if it were."""
        for table, slices in self._slices.items():
            now = _digests(table, _SLICES[table].rows)
            for of in slices:
                found = db.execute(now, of).fetchone()
                if found is not None and db.execute("SELECT digest FROM seal WHERE name = ? AND slice = ?", (table, found[0])
                                                    ).fetchone() != found[1:]:
                    raise sqlite3.DatabaseError(f"malformed: {_place(table, found[0])} is not what was written")

    def seal(self, db: sqlite3.Connection) -> None:
        """Seal all that was added, within the caller's transaction."""
        for table, slices in self._slices.items():
            db.executemany(_sealing(table, _SLICES[table].rows), slices)


def broken(db: sqlite3.Connection, tables: Iterable[str] = SEALED, span_ns: tuple[int, int] | None = None) -> Iterator[str]:
    """A sentence for each slice that is not as it was written, or that has no seal; in [start, end) alone where a span is
    given. Raises sqlite3.Error where the rows cannot be read."""
    names = db.execute("SELECT name FROM seal GROUP BY name").fetchall() if span_ns is None else []      # reads all of them
    for (name,) in names:
        if name not in _SLICES:
            yield f"a seal of {name!r}, which is no table, is not what was written"
    for table in tables:
        for found in broken_slices(db, table, span_ns):
            yield f"{_place(table, found)} is not what was written"


def require_good_names(db: sqlite3.Connection) -> None:
    """Raise DatabaseError where a name or a total is not what was written."""
    for fault in broken(db, BY_NAME):
        raise sqlite3.DatabaseError(f"malformed: {fault}")


def require_good(db: sqlite3.Connection, start_ns: int, end_ns: int) -> None:
    """Raise DatabaseError where the rows over time that begin in [start, end) are not what was written."""
    for fault in broken(db, BY_TIME, (start_ns, end_ns)):
        raise sqlite3.DatabaseError(f"malformed: {fault}")


def broken_slices(db: sqlite3.Connection, table: str, span_ns: tuple[int, int] | None = None) -> list[str | int]:
    """The slices of a table whose rows and seal differ, one of them missing included."""
    where = "start_ns >= ? AND start_ns < ?" if span_ns is not None else ""
    seals = f"SELECT slice, digest FROM seal WHERE name = '{table}'"  # noqa: S608 - names from above
    if span_ns is not None:
        seals += " AND slice >= ? AND slice < ?"
    found = db.execute(
        f"SELECT slice FROM ({_digests(table, where)} UNION ALL {seals}) "  # noqa: S608 - the same
        "GROUP BY slice HAVING COUNT(*) <> 2 OR MIN(digest) IS NOT MAX(digest) ORDER BY slice", (*(span_ns or ()),) * 2)
    return [row[0] for row in found]


@functools.cache
def _sealing(table: str, where: str = "") -> str:
    """A statement that seals those slices, anew where they have a seal."""
    return (f"INSERT INTO seal SELECT '{table}', slice, digest FROM ({_digests(table, where)}) "  # noqa: S608 - names from above
            "WHERE true ON CONFLICT DO UPDATE SET digest = excluded.digest")


@functools.cache
def _digests(table: str, where: str = "") -> str:
    """A query of (slice, digest) over a table, or over those of its rows that a condition names."""
    columns, key = _columns(table)
    # An integer is its own literal; one that has become NULL is nothing at all.
    literals = ", ".join(name if kind == "INTEGER" else f"quote({name})" for name, kind in columns)
    line = f"printf('{','.join(['%s'] * len(columns))}', {literals})"
    rows = f"SELECT {_SLICES[table].name} AS slice, {line} AS line FROM {table}"  # noqa: S608 - names from above
    if where:
        rows += f" WHERE {where}"
    # As bytes: a damaged text may be none that Python can read.
    rows += f" ORDER BY {', '.join(key)}"
    return f"SELECT slice, digest(CAST(group_concat(line, char(10)) AS BLOB)) AS digest FROM ({rows}) GROUP BY slice"  # noqa: S608 - names from above


@functools.cache
def _columns(table: str) -> tuple[list[tuple[str, str]], list[str]]:
    """A table's columns with their types, and those of its primary key, in their orders."""
    with contextlib.closing(model()) as db:
        columns = db.execute("SELECT name, type FROM pragma_table_info(?) ORDER BY cid", (table,)).fetchall()
        key = [row[0] for row in db.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))]
    return columns, key


def _place(table: str, found: str | int) -> str:
    if table in BY_TIME:
        return f"{table} of {format_instant(found, UTC) if isinstance(found, int) else found}"
    return f"{table} of {found}" if found != "" else table

