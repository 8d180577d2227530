"""Questions to the ledger, read beside a running daemon: what was used and what it cost, by any keys.

Sums are made in integers; a row of the result is a group's keys with its energy, GPU time and cost, one row a currency.
Corrections of a re-rating are part of every sum; the key ``correction`` tells them apart.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from agent.calendar.instants import parse_date_or_instant_ns
from agent.calendar.periods import period_at
from agent.errors import LedgerError, UsageError
from agent.ledger.file import ledger_path
from agent.ledger.tables import MIGRATIONS
from agent.model import FOREVER_NS

COLUMN_KEYS = {"gpu": "uuid", "component": "component", "rate": "rate", "tariff": "tariff"}
CALENDAR_KEYS = ("day", "month")
CORRECTION_KEY = "correction"
BOOKED, RERATED = "booked", "re-rated"           # the values of that key


class UsageRow(Struct, frozen=True):
    """One group: ``keys`` in the order asked for."""

    keys: tuple[str, ...]
    currency: str
    energy_mj: int
    gpu_ns: int
    cost_nano: int
    emissions_ug: int
    idle_nano: int = 0               # idle cost that a policy moves here; negative: away from here


def parse_instant(text: str, zone: ZoneInfo) -> int:
    """A local date in a zone (its first moment), or an instant with offset, as ns of UTC. Raises UsageError."""
    try:
        return parse_date_or_instant_ns(text, zone)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}; or give a date alone, as 2026-11-22") from error


def check_keys(by: Sequence[str], tag_keys: Sequence[str]) -> None:
    """Raise UsageError, with what there is, for a key that cannot be grouped by."""
    if len(set(by)) < len(by):
        raise UsageError(f"cannot report by {','.join(by)}: a key is given twice; give each once")
    known = [*tag_keys, *COLUMN_KEYS, *CALENDAR_KEYS, CORRECTION_KEY]
    for key in by:
        if key not in known:
            raise UsageError(f"cannot report by {key!r}; choose from {', '.join(known)}")


def open_for_reading(state_dir: Path) -> sqlite3.Connection:
    """A connection that only reads, beside a daemon or without one. Raises LedgerError where there is nothing to read."""
    path = ledger_path(state_dir)
    try:
        regular = stat.S_ISREG(path.stat().st_mode)     # opened to look at, it would lose this process's locks on it
    except FileNotFoundError as error:
        raise LedgerError(
            f"{path}: no ledger here; start gpu-finops run first, or name its configuration with --config.file") from error
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror}); run this as the user that runs the daemon") from error
    if not regular:
        raise LedgerError(f"{path}: is a directory or a pipe, no ledger; name another configuration with --config.file")
    # Nobody writes where there is no write-ahead log, and a directory that we may not write could not get one's index.
    alone = not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK)
    db: sqlite3.Connection | None = None
    try:
        address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
        db = sqlite3.connect(address, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA query_only = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if db is not None:
            db.close()
        raise LedgerError(f"{path}: cannot be read ({error}); run this as the user that runs the daemon") from error
    if version != len(MIGRATIONS):
        db.close()
        raise LedgerError(
            f"{path}: written by another version (schema {version}, this one knows {len(MIGRATIONS)}); "
            "start this version's daemon on it once, or use that one's command")
    return db


class LedgerReader:
    """Reads a ledger that a daemon may be writing. Raises LedgerError where there is none."""

    def __init__(self, state_dir: Path) -> None:
        self._path = ledger_path(state_dir)
        self._db = open_for_reading(state_dir)

    def usage(self, from_ns: int | None, to_ns: int | None, by: Sequence[str], tag_keys: Sequence[str],
              zone: ZoneInfo) -> list[UsageRow]:
        """Sums by keys over the rows that began in [from, to): rows are a quarter of an hour at most, and where the
        ledger has been rolled up an hour or a day. Sorted by keys."""
        check_keys(by, tag_keys)
        columns = ["workload", "currency", *(COLUMN_KEYS[key] for key in by if key in COLUMN_KEYS)]
        detailed = len(columns) > 2 or CORRECTION_KEY in by
        tables = {"usage": BOOKED, "correction": RERATED} if detailed else {"summary": ""}     # both, by workload, and short
        span_ns = (from_ns or 0, FOREVER_NS if to_ns is None else to_ns)
        calendar = next((key for key in CALENDAR_KEYS if key in by), None)
        sums: dict[tuple[tuple[str, ...], str], list[int]] = {}
        try:
            self._db.execute("BEGIN")            # one state of the file for all queries
            names = {i: msgspec.json.decode(tags) for i, tags in self._db.execute("SELECT id, tags FROM workload")}
            for table, kind in tables.items():
                for period, row in self._groups(table, columns, calendar, *span_ns, zone):
                    fields = dict(zip(columns, row, strict=False)) | {"period": period, "kind": kind}
                    tags = dict(zip(tag_keys, names[fields["workload"]], strict=False))
                    keys = tuple(_value(key, fields, tags) for key in by)
                    total = sums.setdefault((keys, fields["currency"]), [0, 0, 0, 0])
                    for i, amount in enumerate((*row[-5:-3], row[-3] * 10**9 + row[-2], row[-1])):
                        total[i] += amount
        except (sqlite3.Error, KeyError, ValueError, msgspec.MsgspecError) as error:
            raise LedgerError(f"{self._path}: {error}; gpu-finops ledger verify tells what is wrong with it") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return [UsageRow(keys, currency, *total) for (keys, currency), total in sorted(sums.items())]

    def _groups(self, table: str, columns: Sequence[str], calendar: str | None, from_ns: int, to_ns: int,
                zone: ZoneInfo) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """(day or month, group) over a table. One query a period, so that SQLite sums what it need not hand over."""
        grouped = ", ".join(columns)
        # Money in two parts: a sum over many devices in a small unit may pass 64 bits, and SQLite then gives up.
        sums = "SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano / 1000000000), SUM(cost_nano % 1000000000), SUM(emissions_ug)"
        select = (f"SELECT {grouped}, {sums} FROM {table} "  # noqa: S608 - names come from the tables above
                  f"WHERE start_ns >= ? AND start_ns < ? GROUP BY {grouped}")
        if calendar is None:
            yield from (("", row) for row in self._db.execute(select, (from_ns, to_ns)))
            return
        while True:
            first_ns = self._db.execute(
                f"SELECT MIN(start_ns) FROM {table} WHERE start_ns >= ? AND start_ns < ?", (from_ns, to_ns)).fetchone()[0]  # noqa: S608 - names from above
            if first_ns is None:
                return
            period = period_at(calendar, first_ns, zone)
            until_ns = min(period.end_utc_ns, to_ns)
            name = period.name
            yield from ((name, row) for row in self._db.execute(select, (from_ns, until_ns)))
            from_ns = until_ns

    def close(self) -> None:
        self._db.close()


def _value(key: str, fields: dict[str, Any], tags: dict[str, str]) -> str:
    if key in COLUMN_KEYS:
        return str(fields[COLUMN_KEYS[key]])
    if key in CALENDAR_KEYS:
        period: str = fields["period"]
        return period if key == "day" else period[:7]
    if key == CORRECTION_KEY:
        return str(fields["kind"])
    return tags.get(key, "")
