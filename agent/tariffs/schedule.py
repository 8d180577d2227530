"""Which rate holds when: rules over local months, weekdays, dates and times of day, as spans of UTC.

A local day is a *pattern*: the minutes at which another rule begins to win. A UTC day is a *page*: the patterns of the
local days that it touches, laid over it between the zone's offset changes, so that on a day with a repeated or a
missing hour the wall clock decides. Pages are pure functions of the day, kept for the days last asked for.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from zoneinfo import ZoneInfo

from agent.model import FOREVER_NS
from agent.settings import RateSpan, TariffRule
from agent.units import NS_PER_S

NO_RULE = -1
_MINUTES_PER_DAY = 1_440
_DAY_S = 86_400
_SETTLED_DAYS = 400                              # holds every month with each of its weekdays: then only dates can change
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_PAGES_KEPT = 32
_PROBE_STEP_S = 3 * 3_600                        # two changes of one zone's offset are never this close

Pattern = tuple[tuple[int, int], ...]            # (first minute, index of the winning rule or NO_RULE), rising from 0


def day_pattern(rules: Sequence[TariffRule], month: int, weekday: int, date: dt.date | None) -> Pattern:
    """The rules that win over one local day; ``date`` None stands for every date that no rule names."""
    matching = [
        (i, _minute_spans(rule.hours)) for i, rule in enumerate(rules)
        if (not rule.months or month in rule.months) and (not rule.weekdays or weekday in rule.weekdays)
        and (not rule.dates or date in rule.dates)
    ]
    edges = sorted({0, *(edge for _, spans in matching for span in spans for edge in span if edge < _MINUTES_PER_DAY)})
    winners = [NO_RULE] * _MINUTES_PER_DAY
    for i, spans in reversed(matching):          # painted over by those that come first
        for a, b in spans:
            winners[a:b] = [i] * (b - a)
    pattern: list[tuple[int, int]] = []
    for minute in edges:
        winner = winners[minute]
        if not pattern or pattern[-1][1] != winner:
            pattern.append((minute, winner))
    return tuple(pattern)


def _minute_spans(hours: Sequence[RateSpan]) -> list[tuple[int, int]]:
    """Spans cut at midnight; the whole day where none is given."""
    spans = []
    for span in hours:
        if span.start_minute < span.end_minute:
            spans.append((span.start_minute, span.end_minute))
        else:
            spans += [(span.start_minute, _MINUTES_PER_DAY), (0, span.end_minute)]
    return spans or [(0, _MINUTES_PER_DAY)]


class Schedule:
    """The rate's name at any instant, and until when."""

    def __init__(self, rules: Sequence[TariffRule], zone: ZoneInfo) -> None:
        self._rules = tuple(rules)
        self._zone = zone
        self._dates = sorted({date.toordinal() for rule in rules for date in rule.dates})
        self._patterns: dict[tuple[int, int, int], Pattern] = {}
        self._page = lru_cache(maxsize=_PAGES_KEPT)(self._make_page)
        self._stretch = (0, 0)                   # the span of the last next_change: most calls fall into it again

    def rate_at(self, instant_ns: int) -> str:
        """The name of the rate in force; "" where no rule matches (a checked configuration has no such instant)."""
        day, second = divmod(instant_ns // NS_PER_S, _DAY_S)
        starts_s, rates = self._page(day)
        return rates[bisect_right(starts_s, second) - 1]

    def next_change(self, instant_ns: int) -> int:
        """The first instant after ``instant_ns`` at which another rate is in force; FOREVER_NS for never."""
        start_ns, end_ns = self._stretch
        if not start_ns <= instant_ns < end_ns:
            end_ns = self._find_change(instant_ns)
            self._stretch = (instant_ns, end_ns)
        return end_ns

    def _find_change(self, instant_ns: int) -> int:
        day, second = divmod(instant_ns // NS_PER_S, _DAY_S)
        starts_s, rates = self._page(day)
        at = bisect_right(starts_s, second)
        if at < len(starts_s):
            return (day * _DAY_S + starts_s[at]) * NS_PER_S
        rate = rates[-1]
        settled = day + _SETTLED_DAYS
        while True:
            day += 1
            if day > settled:                    # every kind of day has been seen but those with a date of their own
                ahead = bisect_left(self._dates, day + _EPOCH_DAY - 1)
                if ahead == len(self._dates):
                    return FOREVER_NS
                day = max(day, self._dates[ahead] - _EPOCH_DAY - 1)
                settled = day + 3
            if self._holds_around(day, rate):
                continue
            starts_s, rates = self._page(day)
            for start_s, found in zip(starts_s, rates, strict=True):
                if found != rate:
                    return (day * _DAY_S + start_s) * NS_PER_S

    def _holds_around(self, day: int, rate: str) -> bool:
        """Whether one rate fills every local day that may touch a UTC day, whatever the zone's offset."""
        for ordinal in (day + _EPOCH_DAY - 1, day + _EPOCH_DAY, day + _EPOCH_DAY + 1):
            pattern = self._pattern(ordinal)
            if len(pattern) > 1 or self._name(pattern[0][1]) != rate:
                return False
        return True

    def _make_page(self, day: int) -> tuple[list[int], list[str]]:
        """Seconds of a UTC day at which a rate begins (the first is 0), and the rates' names."""
        starts_s: list[int] = []
        rates: list[str] = []
        base_s = day * _DAY_S
        for start_s, end_s, offset_s in self._offsets(base_s):
            local_s, local_end_s = start_s + offset_s, end_s + offset_s
            for local_day in range(local_s // _DAY_S, -(-local_end_s // _DAY_S)):
                for minute, winner in self._pattern(local_day + _EPOCH_DAY):
                    begins_s = local_day * _DAY_S + minute * 60
                    if begins_s >= local_end_s:
                        break
                    second, name = max(begins_s, local_s) - offset_s - base_s, self._name(winner)
                    if starts_s and starts_s[-1] == second:
                        starts_s.pop()           # it ended before this stretch of the day began
                        rates.pop()
                    if not rates or rates[-1] != name:
                        starts_s.append(second)
                        rates.append(name)
        return starts_s, rates

    def _offsets(self, base_s: int) -> list[tuple[int, int, int]]:
        """The stretches of a UTC day with one offset each: first second, end, offset from UTC."""
        stretches: list[tuple[int, int, int]] = []
        start_s, offset_s = base_s, self._offset(base_s)
        for probe_s in range(base_s + _PROBE_STEP_S, base_s + _DAY_S + 1, _PROBE_STEP_S):
            later_s = self._offset(probe_s)
            if later_s != offset_s:
                low_s, high_s = probe_s - _PROBE_STEP_S, probe_s
                while high_s - low_s > 1:
                    middle_s = (low_s + high_s) // 2
                    if self._offset(middle_s) == offset_s:
                        low_s = middle_s
                    else:
                        high_s = middle_s
                if high_s < base_s + _DAY_S:
                    stretches.append((start_s, high_s, offset_s))
                    start_s, offset_s = high_s, later_s
        stretches.append((start_s, base_s + _DAY_S, offset_s))
        return stretches

    def _offset(self, utc_s: int) -> int:
        offset = dt.datetime.fromtimestamp(utc_s, self._zone).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0

    def _pattern(self, ordinal: int) -> Pattern:
        date = dt.date.fromordinal(ordinal)
        named = bisect_right(self._dates, ordinal)
        own = ordinal if named and self._dates[named - 1] == ordinal else 0
        key = (date.month, date.weekday(), own)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = self._patterns[key] = day_pattern(self._rules, *key[:2], date if own else None)
        return pattern

    def _name(self, rule: int) -> str:
        return "" if rule == NO_RULE else self._rules[rule].rate
