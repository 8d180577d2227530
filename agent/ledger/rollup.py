"""Retention: rows of a quarter of an hour become rows of an hour, and those rows of a day. No sum changes.

An hour in which a price changes becomes a row for each price's time. Days are whole, a row for each price.
Hours and days are local ones, so that a day or a month of a report is still made of whole rows, whatever the zone's offset.
A row keeps its device, workload, component, currency, tariff, rate and price. What arrives late for a time that is rolled up
already stays a row of its own, or adds to one that begins with it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from agent.calendar.periods import Period, period_at
from agent.ledger.file import Beside, transaction
from agent.ledger.seal import Touched, install, require_good, seal_span
from agent.ledger.write import ADD_CORRECTION, ADD_SUMMARY, ADD_USAGE
from agent.units import NS_PER_HOUR, NS_PER_S

log = logging.getLogger(__name__)

_USAGE_KEY: Final = "uuid, workload, component, currency, tariff, rate, price"
_TABLES: Final = (
    ("usage", _USAGE_KEY, ADD_USAGE), ("correction", _USAGE_KEY, ADD_CORRECTION),
    ("summary", "workload, currency", ADD_SUMMARY))
PAUSE_S: Final = 0.05               # between two transactions: the daemon's own commits come first
_ROWS: Final = 1_000                # that one takes up, or a little more: some ms


def hour_at(utc_ns: int, zone: ZoneInfo) -> tuple[int, int]:
    """The local hour around an instant, half-open. One that a change of the clock cuts short or long stays one."""
    offset = datetime.fromtimestamp(utc_ns // NS_PER_S, UTC).astimezone(zone).utcoffset()
    offset_ns = int(offset.total_seconds()) * NS_PER_S if offset is not None else 0
    start_ns = utc_ns - (utc_ns + offset_ns) % NS_PER_HOUR
    return start_ns, start_ns + NS_PER_HOUR


def day_at(utc_ns: int, zone: ZoneInfo) -> tuple[int, int]:
    """The local day around an instant, half-open: 23 to 25 hours."""
    day: Period = period_at("day", utc_ns, zone)
    return day.start_utc_ns, day.end_utc_ns


class RollUp:
    """Works on a thread and a connection of its own, a small transaction at a time, so that no tick waits for it."""

    def __init__(self, path: Path, kept: Callable[[], tuple[ZoneInfo, int, int]], utc_ns: Callable[[], int]) -> None:
        """``kept`` tells the zone of days and hours, and for how long quarters of an hour, and hours, are kept."""
        self._path = path
        self._kept = kept
        self._utc_ns = utc_ns
        self._stopping = threading.Event()

    def __call__(self) -> None:
        """Roll up what is old enough. A disk that refuses is told, and tried again the next time."""
        try:
            with contextlib.closing(Beside(self._path)) as beside:
                rolled = roll_up(beside.db, *self._kept(), self._utc_ns(), lambda: self._stopping.wait(PAUSE_S),
                                 beside.transaction)
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: not rolled up (%s); tried again later, nothing is lost", self._path, error)
        else:
            if rolled:
                log.info("%s: %d spans of old rows rolled up", self._path, rolled)

    def stop(self) -> None:
        """Have a roll-up that is going on end after its present transaction. From any thread."""
        self._stopping.set()


def roll_up(db: sqlite3.Connection, zone: ZoneInfo, keep_quarter_hours_ns: int, keep_hours_ns: int, now_ns: int,
            stop: Callable[[], bool] = lambda: False,
            within: Callable[[], contextlib.AbstractContextManager[None]] | None = None) -> int:
    """Roll up every hour and day that ended longer ago than is kept; how many. ``stop`` is asked after each transaction, which
    takes up a few of them (``within`` begins and ends one). Raises DatabaseError where one of them is not what was written:
    damage is not summed up, and sealed, as if it were good."""
    install(db)
    rolled, marks = 0, Touched()
    marks.add("mark", [()])
    for mark, keep_ns, span_at in (
            ("hours_until_ns", keep_quarter_hours_ns, hour_at), ("days_until_ns", keep_hours_ns, day_at)):
        spans = _spans(db, mark, now_ns - keep_ns, zone, span_at)
        span = next(spans, None)
        while span is not None:
            with within() if within is not None else transaction(db):
                marks.require_good(db)
                rows = 0
                while span is not None and rows < _ROWS:
                    rows += _roll_up_span(db, *span, whole=span_at is day_at)
                    db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (mark, span[1]))
                    rolled += 1
                    span = next(spans, None)
                marks.seal(db)
            if stop():
                return rolled
    return rolled


def _roll_up_span(db: sqlite3.Connection, start_ns: int, end_ns: int, *, whole: bool) -> int:
    """Make one row of those that differ by time alone; how many there were. Where it is not ``whole``, one for each price's
    time."""
    require_good(db, start_ns, end_ns)
    pieces = [(start_ns, end_ns)] if whole else _pieces(db, start_ns, end_ns)
    rows = sum(_merge(db, table, key, add, *piece) for table, key, add in _TABLES for piece in pieces)
    seal_span(db, start_ns, end_ns)
    return rows


def _spans(db: sqlite3.Connection, mark: str, until_ns: int, zone: ZoneInfo,
           span_at: Callable[[int, ZoneInfo], tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans with rows since the mark that end by an instant."""
    row = db.execute("SELECT value FROM mark WHERE name = ?", (mark,)).fetchone()
    at_ns = row[0] if row is not None else 0
    while True:
        first_ns = db.execute("SELECT MIN(start_ns) FROM summary WHERE start_ns >= ?", (at_ns,)).fetchone()[0]
        if first_ns is None:
            return
        start_ns, end_ns = span_at(first_ns, zone)
        if end_ns > until_ns:
            return
        yield max(start_ns, at_ns), end_ns
        at_ns = end_ns


def _pieces(db: sqlite3.Connection, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    """An hour between the instants at which a price of a device changed: a row of a part of it keeps to the time of its price.
    (The host's prices change with the energy's. Its rates also tell how it was split, which may be two ways at a time.)"""
    one_price_each = (
        "SELECT COUNT(*) = COUNT(DISTINCT uuid || '/' || component) FROM ("
        "SELECT DISTINCT uuid, component, currency, tariff, rate, price FROM usage "
        "WHERE start_ns >= ? AND start_ns < ? AND component <> 'host')")
    if db.execute(one_price_each, (start_ns, end_ns)).fetchone()[0]:             # as in most hours
        return [(start_ns, end_ns)]
    select = ("SELECT DISTINCT start_ns, uuid, component, currency, tariff, rate, price FROM usage "
              "WHERE start_ns >= ? AND start_ns < ? AND component <> 'host' ORDER BY start_ns")
    cuts_ns, before = [start_ns], dict[tuple[str, str], set[tuple[str, ...]]]()
    for at_ns, rows in groupby(db.execute(select, (start_ns, end_ns)), itemgetter(0)):
        prices: dict[tuple[str, str], set[tuple[str, ...]]] = {}
        for _, uuid, component, *price in rows:
            prices.setdefault((uuid, component), set()).add(tuple(price))
        if any(before.get(key, found) != found for key, found in prices.items()):
            cuts_ns.append(at_ns)
        before |= prices
    return list(pairwise([*cuts_ns, end_ns]))


def _merge(db: sqlite3.Connection, table: str, key: str, add: str, start_ns: int, end_ns: int) -> int:
    select = (f"SELECT {key}, SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano), SUM(emissions_ug), COUNT(*) FROM {table} "  # noqa: S608 - names come from the table above
              f"WHERE start_ns >= ? AND start_ns < ? GROUP BY {key}")
    groups: list[tuple[Any, ...]] = db.execute(select, (start_ns, end_ns)).fetchall()
    if groups:
        db.execute(f"DELETE FROM {table} WHERE start_ns >= ? AND start_ns < ?", (start_ns, end_ns))  # noqa: S608 - names from above
        db.executemany(add, [(start_ns, *group[:-1], end_ns - start_ns) for group in groups])
    return sum(group[-1] for group in groups)
