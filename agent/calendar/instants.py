"""Instants and local dates as people write them, to integer nanoseconds of UTC and back."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from agent.model import FOREVER_NS
from agent.units import NS_PER_S, NS_PER_US

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EARLIEST_YEAR, _LATEST_YEAR = 1700, 2200        # 64-bit nanoseconds since 1970 reach from 1677 to 2262


def instant_ns(moment: dt.datetime) -> int:
    """An instant with offset as nanoseconds of UTC. Raises ValueError without an offset or outside 1700 to 2200."""
    if moment.tzinfo is None:
        raise ValueError("has no offset; write it as 2026-07-15T08:00:00+08:00 or 2026-07-15T00:00:00Z")
    if not _EARLIEST_YEAR <= moment.year <= _LATEST_YEAR:
        raise ValueError(f"is outside the years {_EARLIEST_YEAR} to {_LATEST_YEAR}; write a moment in between")
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * NS_PER_US


def parse_instant_ns(text: str) -> int:
    """An ISO 8601 instant with offset. Raises ValueError, whose text goes on from the instant's own."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not an instant; write it as 2026-07-15T08:00:00+08:00 or 2026-07-15T00:00:00Z") from None
    return instant_ns(moment)


def local_midnight_ns(day: dt.date, zone: ZoneInfo) -> int:
    """The first midnight of a local day; where the clocks skip it, the moment they do. Raises ValueError as above."""
    return instant_ns(dt.datetime(day.year, day.month, day.day, tzinfo=zone))


def parse_date_or_instant_ns(text: str, zone: ZoneInfo) -> int:
    """A local date (its first midnight in ``zone``) or an instant with offset. Raises ValueError as above."""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return parse_instant_ns(text)
    return local_midnight_ns(day, zone)


def format_instant(moment_ns: int, zone: dt.tzinfo) -> str:
    """An instant in a zone, with its offset; "never" for FOREVER_NS."""
    if moment_ns >= FOREVER_NS:
        return "never"
    whole_s, rest_ns = divmod(moment_ns, NS_PER_S)
    moment = dt.datetime.fromtimestamp(whole_s, zone).replace(microsecond=rest_ns // NS_PER_US)
    return moment.isoformat()
