"""What a damaged ledger still proves, carried over into the file that takes its place.

The totals go over where the old file's seals prove all of them. Rows over time go over slice by slice, where a seal proves the
slice. What a total has and no row that went over is its opening: total - opening = sum of rows, as in any ledger.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from agent.ledger.at_rest import Tables, tables_of
from agent.ledger.schema import MIGRATIONS
from agent.ledger.seal import BY_NAME, broken_slices, install

_ROWS: Final = ("usage", "correction")           # summary is made from them

_BOTH: Final = "CREATE TEMP VIEW rescued AS SELECT * FROM usage UNION ALL SELECT * FROM correction"
_SUMMARY: Final = """
INSERT INTO summary
SELECT start_ns, workload, currency, SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano), SUM(emissions_ug), MAX(span_ns)
FROM rescued GROUP BY start_ns, workload, currency
"""

# Amounts of a total that no row stands for. First all of it, then less what the rows have.
_OPENINGS: Final = (
    "UPDATE workload_total SET opening_mj = energy_mj, opening_ns = gpu_ns, opening_ug = emissions_ug",
    """UPDATE workload_total SET opening_mj = opening_mj - mj, opening_ns = opening_ns - ns, opening_ug = opening_ug - ug
        FROM (SELECT uuid, workload, SUM(energy_mj) mj, SUM(gpu_ns) ns, SUM(emissions_ug) ug FROM rescued GROUP BY 1, 2)
        AS r WHERE r.uuid = workload_total.uuid AND r.workload = workload_total.workload""",
    "UPDATE cost_total SET opening_nano = cost_nano - credit_nano",
    """UPDATE cost_total SET opening_nano = opening_nano - nano
        FROM (SELECT uuid, workload, component, currency, SUM(cost_nano) AS nano FROM rescued GROUP BY 1, 2, 3, 4) AS r
        WHERE r.uuid = cost_total.uuid AND r.workload = cost_total.workload AND r.component = cost_total.component
        AND r.currency = cost_total.currency""",
    "UPDATE device SET opening_mj = energy_mj, opening_unpriced_mj = unpriced_mj",
    """UPDATE device SET opening_mj = opening_mj - mj, opening_unpriced_mj = opening_unpriced_mj - no_price_mj
        FROM (SELECT uuid, SUM(energy_mj) AS mj, SUM(CASE WHEN component = 'energy' AND rate = '' THEN energy_mj ELSE 0 END)
              AS no_price_mj FROM usage GROUP BY 1) AS r
        WHERE r.uuid = device.uuid""",
)


class Rescued(Struct, frozen=True):
    """What went over. ``lost`` counts the slices of rows (a quarter of an hour, an hour or a day each) that did not."""

    rows: int
    lost: int


def rescue(old: Path, fresh: sqlite3.Connection, at_rest: Tables | None) -> Rescued | None:
    """Carry over into an empty ledger of the newest version, in its open transaction, what an old one proves. ``at_rest``
    has its names and totals as they were when it was closed, if they are known. None, and nothing done, where its totals
    are not all proven. Raises sqlite3.Error where the new file cannot be written."""
    try:
        source = sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return None
    with contextlib.closing(source):
        tables = _proven(source) or at_rest
        if tables is None:
            return None
        for table, rows in tables.items():
            fresh.execute(f"DELETE FROM {table}")  # noqa: S608 - names from seal.py
            _insert(fresh, table, rows)
        copied = [_copy(source, fresh, table) for table in _ROWS]
    for statement in (_BOTH, _SUMMARY, *_OPENINGS):
        fresh.execute(statement)
    return Rescued(sum(rows for rows, _ in copied), sum(lost for _, lost in copied))


def _proven(source: sqlite3.Connection) -> Tables | None:
    """The tables of names and totals, where their seals prove every row of them."""
    try:
        install(source)
        if source.execute("PRAGMA user_version").fetchone()[0] != len(MIGRATIONS):
            return None
        source.execute("BEGIN")
        if any(broken_slices(source, table) for table in BY_NAME):
            return None
        return tables_of(source)
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def _copy(source: sqlite3.Connection, fresh: sqlite3.Connection, table: str) -> tuple[int, int]:
    """How many rows over time went over, and how many slices of them did not."""
    copied = lost = 0
    slices: list[tuple[int]] = []
    bad: set[str | int] | None = None                # None: the table cannot be read in one go, and each slice is tried
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        slices = source.execute("SELECT slice FROM seal WHERE name = ? ORDER BY slice", (table,)).fetchall()
        bad = set(broken_slices(source, table))
    for (start_ns,) in slices:
        try:
            if start_ns in bad if bad is not None else broken_slices(source, table, (start_ns, start_ns + 1)):
                lost += 1
                continue
            rows = source.execute(f"SELECT * FROM {table} WHERE start_ns = ?", (start_ns,)).fetchall()  # noqa: S608
        except (sqlite3.Error, UnicodeDecodeError):
            lost += 1
            continue
        _insert(fresh, table, rows)
        copied += len(rows)
    return copied, lost


def _insert(fresh: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        fresh.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608
