"""Rules at the edges: midnight, the two days on which clocks change, months, dates far ahead, nothing further."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model import FOREVER_NS
from agent.units import ATTO, NS_PER_HOUR, NS_PER_S
from tests.agent.tariffs.price_walk import cost, local_ns, read

NIGHT = 'rates = { night = 0.1, day = 0.3 }\nrule = [{ rate = "night", hours = ["22:00-06:00"] }, { rate = "day" }]'


def zone(name: str, text: str) -> str:
    return f'timezone = "{name}"\n{text}'


def test_a_span_over_midnight_belongs_to_the_matched_day_at_both_its_ends(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("UTC", 'rates = { a = 1, b = 2 }\nrule = [{ rate = "a", days = ["sat"], hours = '
                                        '["22:00-06:00"] }, { rate = "b" }]'))
    saturday = "2026-08-01"                      # 00:00 to 06:00 and 22:00 to 24:00 of the Saturday, not of the Sunday
    assert cost(tariff, local_ns(saturday, "UTC"), local_ns("2026-08-02", "UTC")) == (24, 8 * 1 + 16 * 2)
    assert cost(tariff, local_ns("2026-08-02", "UTC"), local_ns("2026-08-03", "UTC")) == (24, 48)


@pytest.mark.parametrize(("name", "day", "after", "night_hours", "day_hours"), [
    ("Europe/Berlin", "2026-03-29", "2026-03-30", 7, 16),            # 02:00 to 03:00 is missing
    ("Europe/Berlin", "2026-10-25", "2026-10-26", 9, 16),            # and comes twice
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-05", 7.5, 16),    # by half an hour
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-06", 8.5, 16),
    ("America/Havana", "2026-03-08", "2026-03-09", 7, 16),           # midnight itself is missing
    ("America/Havana", "2026-11-01", "2026-11-02", 9, 16),
])
def test_the_wall_clock_decides_on_days_that_lack_or_repeat_an_hour(
        tmp_path: Path, name: str, day: str, after: str, night_hours: float, day_hours: float) -> None:
    tariff = read(tmp_path, zone(name, NIGHT))
    kwh, total = cost(tariff, local_ns(day, name), local_ns(after, name))
    assert float(kwh) == night_hours + day_hours
    assert float(total) == pytest.approx(night_hours * 0.1 + day_hours * 0.3, abs=1e-12)


def test_a_repeated_hour_has_its_rate_twice(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("Europe/Berlin", 'rates = { a = 1, b = 2 }\nrule = [{ rate = "a", hours = ["02:15-02:45"] }, '
                                                  '{ rate = "b" }]'))
    changes, at_ns = [], local_ns("2026-10-25 01:00", "Europe/Berlin")
    for _ in range(4):
        at_ns = tariff.next_change(at_ns)
        changes.append(at_ns)
    assert changes == [local_ns(f"2026-10-25 02:{minute}", "Europe/Berlin", fold)
                       for fold in (0, 1) for minute in ("15", "45")]


def test_a_rate_that_never_changes_never_changes(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("Europe/Berlin", 'rates = { a = 1 }\nrule = [{ rate = "a" }]'))
    assert tariff.next_change(0) == FOREVER_NS
    two_rules = 'rates = { a = 1 }\nrule = [{ rate = "a", hours = ["08:00-09:00"] }, { rate = "a" }]'
    assert read(tmp_path, zone("Europe/Berlin", two_rules)).next_change(0) == FOREVER_NS


def test_dates_years_ahead_are_foreseen_and_nothing_after_the_last(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("Asia/Kathmandu", 'rates = { a = 1, b = 2 }\nrule = [{ rate = "b", dates = [2031-02-03, '
                                                   '2031-02-07, 2031-02-08, 2039-12-31] }, { rate = "a" }]'))
    changes, at_ns = [], local_ns("2026-01-01", "Asia/Kathmandu")
    while (at_ns := tariff.next_change(at_ns)) != FOREVER_NS:
        changes.append(at_ns)
    assert changes == [local_ns(day, "Asia/Kathmandu") for day in (
        "2031-02-03", "2031-02-04", "2031-02-07", "2031-02-09", "2039-12-31", "2040-01-01")]


def test_a_month_and_weekday_that_meet_once_a_year_are_foreseen(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("Pacific/Chatham", 'rates = { a = 1, b = 2 }\nrule = [{ rate = "b", months = [2], '
                                                    'days = ["sun"], hours = ["23:59-24:00"] }, { rate = "a" }]'))
    assert tariff.next_change(local_ns("2026-02-23", "Pacific/Chatham")) == local_ns("2027-02-07 23:59", "Pacific/Chatham")


def test_the_last_nanosecond_before_a_change_has_the_old_price(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("Asia/Kathmandu", NIGHT))
    six_ns = local_ns("2026-06-01 06:00", "Asia/Kathmandu")
    assert [tariff.price_at(at).rate for at in (six_ns - 1, six_ns)] == ["night", "day"]
    assert tariff.next_change(six_ns - 1) == six_ns
    assert tariff.next_change(six_ns) == six_ns + 16 * NS_PER_HOUR


def test_instants_may_come_in_any_order(tmp_path: Path) -> None:
    tariff, fresh = read(tmp_path, zone("Europe/Berlin", NIGHT)), read(tmp_path, zone("Europe/Berlin", NIGHT))
    instants = [local_ns(f"20{year}-0{month}-15", "Europe/Berlin") + month * 3_600 * NS_PER_S
                for year in (26, 19, 31, 26) for month in (3, 1, 9, 4)] * 2
    for at_ns in instants:
        tariff.next_change(at_ns)
    ordered = {at: (fresh.price_at(at), fresh.next_change(at)) for at in sorted(set(instants))}
    assert [(tariff.price_at(at), tariff.next_change(at)) for at in instants] == [ordered[at] for at in instants]


def test_adders_and_tax(tmp_path: Path) -> None:
    text = ('rates = { a = 0.2 }\nadders = [{ name = "x", per_kwh = 0.05 }, { name = "y", per_kwh = -0.01 }]\n'
            'rule = [{ rate = "a" }]\n')
    on_top = read(tmp_path, zone("UTC", text + "tax = { rate = 0.25, included = false }")).price_at(0)
    included = read(tmp_path, zone("UTC", text + "tax = { rate = 0.25, included = true }")).price_at(0)
    assert (on_top.atto_per_kwh, included.atto_per_kwh) == (30 * ATTO // 100, 24 * ATTO // 100)


def test_versions_begin_at_local_midnight_and_take_over_what_they_do_not_write(tmp_path: Path) -> None:
    tariff = read(tmp_path, zone("America/Los_Angeles", f'valid_from = 2026-01-01\n{NIGHT}\n'
                                 'adders = [{ name = "x", per_kwh = 0.05 }]\n'
                                 '[[tariff.t.version]]\nvalid_from = 2027-01-01\nrates = { night = 0.2, day = 0.4 }\n'
                                 '[[tariff.t.version]]\nvalid_from = 2028-01-01\nadders = []'))
    first, second, third = (local_ns(f"{year}-01-01", "America/Los_Angeles") for year in (2026, 2027, 2028))
    assert not tariff.price_at(first - 1).known
    assert tariff.next_change(0) == first
    prices = [tariff.price_at(at).atto_per_kwh * 100 // ATTO for at in (first, second - 1, second, third - 1, third)]
    assert prices == [15, 15, 25, 25, 20]
    assert tariff.next_change(second - NS_PER_HOUR) == second


@pytest.mark.parametrize(("name", "day", "after", "utc", "hours"), [
    ("Asia/Kathmandu", "2028-02-29", "2028-03-01", "2028-02-28T18:15", 24),        # 45 minutes, and the leap day
    ("Asia/Kolkata", "2026-12-31", "2027-01-01", "2026-12-30T18:30", 24),          # 30 minutes, and the year's end
    ("Pacific/Chatham", "2026-09-27", "2026-09-28", "2026-09-26T11:15", 23),       # 45 minutes, and the clocks go on
    ("Pacific/Chatham", "2026-04-05", "2026-04-06", "2026-04-04T10:15", 25),       # and back
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-05", "2026-10-03T13:30", 23.5),
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-06", "2026-04-04T13:00", 24.5),
    ("America/Los_Angeles", "2026-11-01", "2026-11-02", "2026-11-01T07:00", 25),
])
def test_a_date_is_the_local_day_whatever_the_offset(
        tmp_path: Path, name: str, day: str, after: str, utc: str, hours: float) -> None:
    rules = f'[{{ rate = "b", dates = [{day}] }}, {{ rate = "a" }}]'
    tariff = read(tmp_path, zone(name, f"rates = {{ a = 1, b = 2 }}\nrule = {rules}"))
    start_ns, end_ns = local_ns(utc, "UTC"), local_ns(after, name)
    assert tariff.next_change(start_ns - 30 * 24 * NS_PER_HOUR) == start_ns
    assert tariff.next_change(start_ns) == end_ns == start_ns + hours * NS_PER_HOUR
    assert [tariff.price_at(at).rate for at in (start_ns - 1, start_ns, end_ns - 1, end_ns)] == ["a", "b", "b", "a"]


@pytest.mark.parametrize(("name", "month", "utc_start", "days"), [
    ("Asia/Kathmandu", 1, "2026-12-31T18:15", 31), ("Asia/Shanghai", 2, "2028-01-31T16:00", 29),
    ("America/Los_Angeles", 2, "2027-02-01T08:00", 28), ("Australia/Lord_Howe", 1, "2026-12-31T13:00", 31)])
def test_months_and_years_turn_at_local_midnight(tmp_path: Path, name: str, month: int, utc_start: str, days: int) -> None:
    rules = f'[{{ rate = "b", months = [{month}] }}, {{ rate = "a" }}]'
    tariff = read(tmp_path, zone(name, f"rates = {{ a = 1, b = 2 }}\nrule = {rules}"))
    start_ns = local_ns(utc_start, "UTC")
    assert tariff.next_change(start_ns - NS_PER_HOUR) == start_ns
    assert tariff.next_change(start_ns) == start_ns + days * 24 * NS_PER_HOUR
