"""Calendar periods of a place: which day, week, month, quarter or year an instant belongs to.

A period begins at the first midnight of its first local day, whatever daylight saving does, and ends where the
next begins; so periods follow each other without gap or overlap, and a day may have 23 or 25 hours. Weeks are
those of ISO 8601.
"""

from __future__ import annotations

import datetime as dt
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from agent.units import NS_PER_S

PERIODS: Final = ("day", "week", "month", "quarter", "year")


class Period(Struct, frozen=True, gc=False):
    """One calendar period, half-open."""

    name: str                        # 2026-11-22, 2026-W47, 2026-11, 2026-Q4, 2026
    start_utc_ns: int
    end_utc_ns: int


def period_at(kind: str, utc_ns: int, timezone: ZoneInfo) -> Period:
    """The period of a kind that an instant belongs to, by the wall clock of ``timezone``. Raises ValueError for a
    kind that is not in PERIODS."""
    today = dt.datetime.fromtimestamp(utc_ns // NS_PER_S, timezone).date()
    first = _first_day(kind, today)
    after = _next_first_day(kind, first)
    if utc_ns >= _midnight_ns(after, timezone):   # a clock set back past midnight repeats the day before
        first, after = after, _next_first_day(kind, after)
    return Period(_name(kind, first), _midnight_ns(first, timezone), _midnight_ns(after, timezone))


def period_start_ns(kind: str, utc_ns: int, timezone: ZoneInfo) -> int:
    """When the period around an instant began."""
    return period_at(kind, utc_ns, timezone).start_utc_ns


def _first_day(kind: str, day: dt.date) -> dt.date:
    match kind:
        case "day":
            return day
        case "week":
            return day - dt.timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=day.month - (day.month - 1) % 3, day=1)
        case "year":
            return day.replace(month=1, day=1)
    raise ValueError(f"{kind!r} is not a period; write one of {', '.join(PERIODS)}")


def _next_first_day(kind: str, first: dt.date) -> dt.date:
    # so many days later is always past the period's end, and never past the next one's
    past_end = {"day": 1, "week": 7, "month": 32, "quarter": 93, "year": 367}[kind]
    return _first_day(kind, first + dt.timedelta(days=past_end))


def _name(kind: str, first: dt.date) -> str:
    match kind:
        case "day":
            return first.isoformat()
        case "week":
            year, week, _ = first.isocalendar()
            return f"{year}-W{week:02d}"
        case "month":
            return f"{first.year}-{first.month:02d}"
        case "quarter":
            return f"{first.year}-Q{(first.month + 2) // 3}"
    return str(first.year)


def _midnight_ns(day: dt.date, timezone: ZoneInfo) -> int:
    """The first midnight of a local day (fold=0); where clocks skip it, the moment they do."""
    midnight = dt.datetime(day.year, day.month, day.day, tzinfo=timezone, fold=0)
    return int(midnight.timestamp()) * NS_PER_S
