"""Questions to the ledger, read beside a running daemon: what was used and what it cost, by any keys.

Sums are made in integers; a row of the result is a group's keys with its energy, GPU time and cost, one row a currency.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from agent.errors import LedgerError, UsageError
from agent.instants import parse_date_or_instant_ns
from agent.ledger_file import FILE_NAME
from agent.units import NS_PER_S

COLUMN_KEYS = {"gpu": "uuid", "component": "component", "rate": "rate", "tariff": "tariff"}
CALENDAR_KEYS = ("day", "month")


class UsageRow(Struct, frozen=True):
    """One group: ``keys`` in the order asked for."""

    keys: tuple[str, ...]
    currency: str
    energy_mj: int
    gpu_ns: int
    cost_nano: int
    emissions_ug: int


def parse_instant(text: str, zone: ZoneInfo) -> int:
    """A local date in a zone (its first moment), or an instant with offset, as ns of UTC. Raises UsageError."""
    try:
        return parse_date_or_instant_ns(text, zone)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}; or give a date alone, as 2026-11-22") from error


def check_keys(by: Sequence[str], tag_keys: Sequence[str]) -> None:
    """Raise UsageError, with what there is, for a key that cannot be grouped by."""
    known = [*tag_keys, *COLUMN_KEYS, *CALENDAR_KEYS]
    for key in by:
        if key not in known:
            raise UsageError(f"cannot report by {key!r}; choose from {', '.join(known)}")


class LedgerReader:
    """Reads a ledger that a daemon may be writing. Raises LedgerError where there is none."""

    def __init__(self, state_dir: Path) -> None:
        path = state_dir / FILE_NAME
        if not path.exists():
            raise LedgerError(
                f"{path}: no ledger here; start gpu-finops run first, or name its configuration with --config.file")
        try:
            self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0, check_same_thread=False)
            self._db.execute("PRAGMA query_only = ON")
            self._db.execute("SELECT 1 FROM usage LIMIT 1")
        except sqlite3.Error as error:
            raise LedgerError(f"{path}: cannot be read ({error}); run this as the user that runs the daemon") from error
        self._path = path

    def usage(self, from_ns: int | None, to_ns: int | None, by: Sequence[str], tag_keys: Sequence[str],
              zone: ZoneInfo) -> list[UsageRow]:
        """Sums by keys over the rows that began in [from, to): rows are a quarter of an hour at most. Sorted by keys."""
        check_keys(by, tag_keys)
        columns = ["workload", "currency"]
        columns += [COLUMN_KEYS[key] for key in by if key in COLUMN_KEYS]
        calendar = any(key in CALENDAR_KEYS for key in by)
        columns += ["start_ns"] if calendar else []
        grouped = ", ".join(columns)
        sql = (f"SELECT {grouped}, SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano), SUM(emissions_ug) FROM usage "  # noqa: S608 - names come from the table above
               f"WHERE start_ns >= ? AND start_ns < ? GROUP BY {grouped}")
        try:
            names = {i: msgspec.json.decode(tags) for i, tags in self._db.execute("SELECT id, tags FROM workload")}
            sums: dict[tuple[tuple[str, ...], str], list[int]] = {}
            for row in self._db.execute(sql, (from_ns or 0, to_ns if to_ns is not None else 2**63 - 1)):
                fields = dict(zip(columns, row, strict=False))
                tags = dict(zip(tag_keys, names[fields["workload"]], strict=False))
                keys = tuple(self._value(key, fields, tags, zone) for key in by)
                total = sums.setdefault((keys, fields["currency"]), [0, 0, 0, 0])
                for i, amount in enumerate(row[-4:]):
                    total[i] += amount
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error
        return [UsageRow(keys, currency, *total) for (keys, currency), total in sorted(sums.items())]

    @staticmethod
    def _value(key: str, fields: dict[str, str], tags: dict[str, str], zone: ZoneInfo) -> str:
        if key in COLUMN_KEYS:
            return str(fields[COLUMN_KEYS[key]])
        if key in CALENDAR_KEYS:
            local = datetime.fromtimestamp(int(fields["start_ns"]) // NS_PER_S, UTC).astimezone(zone)
            return local.strftime("%Y-%m-%d" if key == "day" else "%Y-%m")
        return tags.get(key, "")

    def close(self) -> None:
        self._db.close()
