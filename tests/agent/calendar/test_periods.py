"""Calendar periods against what the calendar says, and against a walk over local hours."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.calendar.periods import PERIODS, period_at, period_start_ns

NS = 10**9
HOUR_NS = 3600 * NS


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * NS


@pytest.mark.parametrize(
    ("kind", "at", "name", "start", "end"),
    [
        ("day", "2026-11-22T23:59:59+08:00", "2026-11-22", "2026-11-22T00:00+08:00", "2026-11-23T00:00+08:00"),
        ("day", "2026-11-22T16:00:00+00:00", "2026-11-23", "2026-11-23T00:00+08:00", "2026-11-24T00:00+08:00"),
        ("week", "2026-11-22T12:00:00+08:00", "2026-W47", "2026-11-16T00:00+08:00", "2026-11-23T00:00+08:00"),
        ("month", "2026-11-22T12:00:00+08:00", "2026-11", "2026-11-01T00:00+08:00", "2026-12-01T00:00+08:00"),
        ("month", "2026-12-31T23:00:00+08:00", "2026-12", "2026-12-01T00:00+08:00", "2027-01-01T00:00+08:00"),
        ("quarter", "2026-11-22T12:00:00+08:00", "2026-Q4", "2026-10-01T00:00+08:00", "2027-01-01T00:00+08:00"),
        ("quarter", "2026-01-01T00:00:00+08:00", "2026-Q1", "2026-01-01T00:00+08:00", "2026-04-01T00:00+08:00"),
        ("year", "2026-11-22T12:00:00+08:00", "2026", "2026-01-01T00:00+08:00", "2027-01-01T00:00+08:00"),
    ],
)
def test_names_and_bounds_in_shanghai(kind: str, at: str, name: str, start: str, end: str) -> None:
    period = period_at(kind, ns(at), ZoneInfo("Asia/Shanghai"))
    assert (period.name, period.start_utc_ns, period.end_utc_ns) == (name, ns(start), ns(end))
    assert period_start_ns(kind, ns(at), ZoneInfo("Asia/Shanghai")) == ns(start)


@pytest.mark.parametrize(
    ("day", "name"), [("2027-01-01", "2026-W53"), ("2024-12-30", "2025-W01"), ("2026-01-04", "2026-W01")]
)
def test_weeks_belong_to_the_year_of_their_thursday(day: str, name: str) -> None:
    assert period_at("week", ns(f"{day}T12:00+00:00"), ZoneInfo("UTC")).name == name


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T12:00+02:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00+01:00", 25),
        ("Australia/Lord_Howe", "2026-10-04T12:00+11:00", 23.5),
        ("America/Havana", "2026-11-01T12:00-05:00", 25),          # midnight comes twice: the first begins the day
        ("America/Sao_Paulo", "2018-11-04T12:00-02:00", 23),       # no midnight: 01:00 begins the day
    ],
)
def test_days_of_a_clock_change(zone: str, at: str, hours: float) -> None:
    period = period_at("day", ns(at), ZoneInfo(zone))
    assert period.name == at[:10]
    assert period.end_utc_ns - period.start_utc_ns == hours * HOUR_NS


def test_the_day_that_samoa_left_out_has_no_period() -> None:
    zone = ZoneInfo("Pacific/Apia")
    before = period_at("day", ns("2011-12-29T12:00-10:00"), zone)
    after = period_at("day", before.end_utc_ns, zone)
    assert (before.name, after.name) == ("2011-12-29", "2011-12-31")


def test_clocks_that_fall_back_past_midnight_keep_the_day_that_began() -> None:
    zone = ZoneInfo("America/St_Johns")                            # 2010-11-07 00:01 became 2010-11-06 23:01
    again = period_at("day", ns("2010-11-06T23:30-03:30"), zone)
    assert again.name == "2010-11-07"
    assert again.start_utc_ns == ns("2010-11-07T00:00-02:30")


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fortnight' is not a period; write one of day, week, month"):
        period_at("fortnight", 0, ZoneInfo("UTC"))


ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu",
         "America/Havana", "America/St_Johns", "Pacific/Apia", "Asia/Beirut", "Africa/Cairo"]


@settings(deadline=None)
@given(
    st.sampled_from(PERIODS), st.sampled_from(ZONES), st.integers(ns("2000-01-01T00:00+00:00"), ns("2037-01-01T00:00+00:00"))
)
def test_periods_tile_time(kind: str, zone: str, at_ns: int) -> None:
    period = period_at(kind, at_ns, ZoneInfo(zone))
    assert period.start_utc_ns <= at_ns < period.end_utc_ns
    assert period_at(kind, period.start_utc_ns, ZoneInfo(zone)) == period
    assert period_at(kind, period.end_utc_ns - 1, ZoneInfo(zone)) == period
    following = period_at(kind, period.end_utc_ns, ZoneInfo(zone))
    assert following.start_utc_ns == period.end_utc_ns
    assert following.name > period.name
