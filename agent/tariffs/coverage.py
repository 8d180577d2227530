"""Whether a tariff's rules fit together: no hour without a price, no rule that can never win."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Sequence

from agent.settings import TariffRule
from agent.tariffs.schedule import NO_RULE, Pattern, day_pattern

_MONTHS = range(1, 13)
_WEEKDAYS = range(7)
_MINUTES_PER_DAY = 1_440


def unreachable_rules(rules: Sequence[TariffRule]) -> list[int]:
    """The indexes of rules that win at no minute of any day: earlier rules take all that they match."""
    winning = {winner for _, pattern in _every_day(rules) for _, winner in pattern}
    return [i for i in range(len(rules)) if i not in winning]


def uncovered_span(rules: Sequence[TariffRule]) -> str | None:
    """The first span of a day that no rule matches, in words ("Saturday 08:00-09:00 in July"); None where all is covered."""
    for day, pattern in _every_day(rules):
        ends = [start for start, _ in pattern[1:]] + [_MINUTES_PER_DAY]
        for (start, winner), end in zip(pattern, ends, strict=True):
            if winner == NO_RULE:
                return f"{_clock(start)}-{_clock(end)} on {day}"
    return None


def _every_day(rules: Sequence[TariffRule]) -> Iterator[tuple[str, Pattern]]:
    """Each kind of day there is, with its name: every weekday of every month, and every date that a rule names."""
    for month in _MONTHS:
        for weekday in _WEEKDAYS:
            yield (f"a {calendar.day_name[weekday]} in {calendar.month_name[month]}",
                   day_pattern(rules, month, weekday, None))
    for date in sorted({date for rule in rules for date in rule.dates}):
        yield date.isoformat(), day_pattern(rules, date.month, date.weekday(), date)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
