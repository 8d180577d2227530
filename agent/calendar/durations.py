"""Durations as people write them: a number and its unit, "15m", "1h30m", "0.5s"."""

from __future__ import annotations

import re
from decimal import Decimal

from agent.units import NS_PER_MS, NS_PER_S

_UNITS_NS = {"ms": NS_PER_MS, "s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3_600 * NS_PER_S, "d": 86_400 * NS_PER_S}
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST_NS = 100 * 366 * 86_400 * NS_PER_S


def parse_duration_ns(text: str) -> int:
    """The nanoseconds of a duration. Raises ValueError for anything without a unit (ms, s, m, h, d) at each number,
    for a fraction of a nanosecond, and past a hundred years."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration")
    total = sum((Decimal(number) * _UNITS_NS[unit] for number, unit in _PART.findall(text)), Decimal(0))
    if total != int(total) or total > _LONGEST_NS:
        raise ValueError(f"{text!r} is finer than a nanosecond or longer than a hundred years")
    return int(total)


def format_duration(duration_ns: int) -> str:
    """A duration in its largest whole unit: 900 s is "15m"."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_ns and duration_ns % _UNITS_NS[unit] == 0:
            return f"{duration_ns // _UNITS_NS[unit]}{unit}"
    return f"{duration_ns / NS_PER_S:g}s"
