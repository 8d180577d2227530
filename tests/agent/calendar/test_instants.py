"""Instants and local dates, to nanoseconds of UTC and back."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from agent.calendar.instants import format_instant, local_midnight_ns, parse_date_or_instant_ns, parse_instant_ns
from agent.model import FOREVER_NS
from agent.units import NS_PER_S

HAVANA = ZoneInfo("America/Havana")
UTC_2026_NS = 1_767_225_600 * NS_PER_S           # date -d 2026-01-01T00:00:00Z +%s


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01T05:45+05:45", "2025-12-31T19:00:00.000-05:00",
                                  "20260101T000000Z"])
def test_an_instant_in_any_offset(text: str) -> None:
    assert parse_instant_ns(text) == UTC_2026_NS


def test_microseconds_are_exact() -> None:
    assert parse_instant_ns("2026-01-01T00:00:00.000001Z") == UTC_2026_NS + 1_000


@pytest.mark.parametrize(("text", "reason"), [
    ("2026-01-01T00:00:00", "has no offset"), ("2026-01-01", "has no offset"), ("soon", "is not an instant"),
    ("2026-02-30T00:00:00Z", "is not an instant"), ("1500-01-01T00:00:00Z", "is outside the years")])
def test_what_is_not_an_instant(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_instant_ns(text)


def test_a_local_day_begins_at_its_first_midnight_or_where_clocks_skip_it() -> None:
    first = dt.datetime(2026, 11, 1, 4, tzinfo=dt.UTC)       # 00:00 comes at 04:00Z and, set back, at 05:00Z
    assert local_midnight_ns(dt.date(2026, 11, 1), HAVANA) == int(first.timestamp()) * NS_PER_S
    skipped = dt.datetime(2026, 3, 8, 5, tzinfo=dt.UTC)      # 00:00 becomes 01:00
    assert local_midnight_ns(dt.date(2026, 3, 8), HAVANA) == int(skipped.timestamp()) * NS_PER_S


def test_a_date_is_local_and_an_instant_is_itself() -> None:
    assert parse_date_or_instant_ns("2026-01-01", HAVANA) == UTC_2026_NS + 5 * 3_600 * NS_PER_S
    assert parse_date_or_instant_ns("2026-01-01T00:00:00Z", HAVANA) == UTC_2026_NS


def test_an_instant_is_shown_with_the_offset_of_its_zone() -> None:
    assert format_instant(UTC_2026_NS + 1_500_000, HAVANA) == "2025-12-31T19:00:00.001500-05:00"
    assert format_instant(FOREVER_NS, HAVANA) == "never"
