"""Reads a tariff's ``rule`` list: which rate in which months, on which days and dates, at which times of day."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import TypeVar

from agent.settings import RateSpan, TariffRule
from agent.toml.document import Faults, Node
from agent.toml.table import Table, nearest, plain_date, type_name

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_MINUTES_PER_DAY = 1_440

_T = TypeVar("_T")


def read_rules(table: Table) -> list[tuple[TariffRule, Node]]:
    """The rules in order, each with its node. A rule that is at fault itself is left out."""
    found = []
    for entry in table.tables("rule"):
        faults_before = len(table.faults)
        rule = TariffRule(
            rate=entry.need_text("rate", "the name of a rate"),
            months=frozenset(_each(entry, "months", _month)),
            weekdays=frozenset(day for days in _each(entry, "days", _days) for day in days),
            hours=tuple(_each(entry, "hours", _span)),
            dates=frozenset(_each(entry, "dates", _date)),
        )
        entry.close()
        if len(table.faults) == faults_before:
            found.append((rule, entry.node))
    return found


def _each(entry: Table, name: str, read: Callable[[Node, Faults], _T | None]) -> list[_T]:
    items = entry.items(name)
    if items is not None and not items:
        entry.faults.at(entry.node, "is empty and would match nothing; leave the key out to match everything",
                        f"{entry.node.key}.{name}")
    return [value for item in items or () if (value := read(item, entry.faults)) is not None]


def _month(node: Node, faults: Faults) -> int | None:
    if isinstance(node.value, int) and not isinstance(node.value, bool) and 1 <= node.value <= 12:
        return node.value
    faults.at(node, f"is {node.value!r}, not a month; write a number from 1 to 12")
    return None


def _days(node: Node, faults: Faults) -> list[int] | None:
    """The weekdays (0 = Monday) of "sat" or "mon-fri"; a span may go over the week's end."""
    if not isinstance(node.value, str):
        faults.at(node, f'is {type_name(node.value)}; write days such as "mon-fri" or "sat"')
        return None
    first, _, last = node.value.partition("-")
    for name in (first, last or first):
        if name not in DAYS:
            faults.at(node, f"is {node.value!r}, not a day or a span of days; {nearest(name, DAYS)}")
            return None
    start, end = DAYS.index(first), DAYS.index(last or first)
    return [day % 7 for day in range(start, (end if end >= start else end + 7) + 1)]


def _span(node: Node, faults: Faults) -> RateSpan | None:
    found = _SPAN.fullmatch(node.value) if isinstance(node.value, str) else None
    if found is None:
        shown = repr(node.value) if isinstance(node.value, str) else type_name(node.value)
        faults.at(node, f'is {shown}, not a span of the day; write "08:00-11:00", or "22:00-06:00" over midnight')
        return None
    hour, minute, end_hour, end_minute = map(int, found.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if minute > 59 or end_minute > 59 or start >= _MINUTES_PER_DAY or end > _MINUTES_PER_DAY:
        faults.at(node, f"is {node.value!r}, which no clock shows; write times from 00:00 to 24:00")
        return None
    if start == end:
        faults.at(node, f'is {node.value!r}, which is empty; write "00:00-24:00" or leave hours out for the whole day')
        return None
    return RateSpan(start_minute=start, end_minute=end)


def _date(node: Node, faults: Faults) -> dt.date | None:
    if node.value == "holidays":
        faults.at(node, f"is not a date yet; have it written out with gpu-finops tariff holidays {node.file or 'FILE'}")
        return None
    return plain_date(node, faults)
