"""Budgets against sums done by hand, and against a plain list of every charge."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.budgets import BUCKET_NS, WINDOWS_NS, BudgetBook
from agent.model import BudgetStatus, Workload
from agent.settings import Budget
from agent.units import NANO

KEYS = ("project", "team", "model", "model_version")
KRONOS: Workload = ("kronos", "quant", "kronos-base", "1.0")
HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * 10**9


def budget(**changes: object) -> Budget:
    fields = {"name": "b", "match": {"project": "kronos"}, "period": "month", "limit": Decimal(30000)}
    return Budget(**{**fields, **changes})


def book(*budgets: Budget, timezone: str = "UTC") -> BudgetBook:
    return BudgetBook(budgets, KEYS, "CNY", timezone)


def spend_evenly(target: BudgetBook, start_ns: int, end_ns: int, total: int) -> None:
    """``total`` units from start to end, in equal charges of a minute."""
    minute_ns = HOUR_NS // 60
    starts = range(start_ns, end_ns, minute_ns)
    for start in starts:
        target.observe(start, KRONOS, "CNY", total * NANO // len(starts))


def only(target: BudgetBook, at_ns: int) -> BudgetStatus:
    (status,) = target.judge(at_ns)
    return status


def test_two_percent_of_a_720_hour_budget_in_one_hour_burns_at_14_4() -> None:
    now = ns("2026-11-22T12:00+00:00")                             # November: 720 h
    target = book(budget())
    spend_evenly(target, now - HOUR_NS, now, 600)
    status = only(target, now)
    assert status.spent_nano == 600 * NANO
    assert status.burn_ratio == pytest.approx({"1h": 14.4, "6h": 2.4, "3d": 0.2})


@pytest.mark.parametrize("minutes", [0, 1, 2, 3, 4])
def test_burn_does_not_depend_on_where_the_window_cuts_five_minutes(minutes: int) -> None:
    now = ns("2026-11-22T12:00+00:00") + minutes * HOUR_NS // 60
    target = book(budget())
    spend_evenly(target, now - 4 * DAY_NS, now, 4000)              # on plan: 30000 over 30 days
    assert only(target, now).burn_ratio == pytest.approx({"1h": 1.0, "6h": 1.0, "3d": 1.0})


def test_burn_uses_the_length_of_this_very_period() -> None:
    now = ns("2026-10-25T23:00+01:00")                             # Berlin's 25-hour day
    target = book(budget(period="day", limit=Decimal(25)), timezone="Europe/Berlin")
    spend_evenly(target, now - HOUR_NS, now, 2)
    assert only(target, now).burn_ratio["1h"] == pytest.approx(2.0)


def test_forecast_goes_on_at_the_rate_of_the_last_three_days() -> None:
    now = ns("2026-11-21T00:00+00:00")                             # ten days left
    target = book(budget())
    spend_evenly(target, ns("2026-11-01T00:00+00:00"), now - 3 * DAY_NS, 24480)
    spend_evenly(target, now - 3 * DAY_NS, now, 432)
    status = only(target, now)
    assert status.spent_nano == 24912 * NANO
    assert status.forecast_nano == pytest.approx((24912 + 10 * 144) * NANO, rel=1e-9)


def test_forecast_of_a_young_ledger_uses_the_time_since_its_first_charge() -> None:
    now = ns("2026-11-30T00:00+00:00")                             # one day left
    target = book(budget())
    spend_evenly(target, now - 6 * HOUR_NS, now, 72)
    assert only(target, now).forecast_nano == pytest.approx((72 + 288) * NANO, rel=1e-9)


def test_nothing_spent_forecasts_nothing() -> None:
    status = only(book(budget()), ns("2026-11-22T12:00+00:00"))
    assert (status.spent_nano, status.forecast_nano) == (0, 0)
    assert status.burn_ratio == {"1h": 0.0, "6h": 0.0, "3d": 0.0}


@pytest.mark.parametrize(
    ("period", "name", "start"),
    [
        ("day", "2026-11-22", "2026-11-22T00:00+08:00"),
        ("week", "2026-W47", "2026-11-16T00:00+08:00"),
        ("month", "2026-11", "2026-11-01T00:00+08:00"),
        ("quarter", "2026-Q4", "2026-10-01T00:00+08:00"),
        ("year", "2026", "2026-01-01T00:00+08:00"),
    ],
)
def test_spend_counts_from_the_periods_local_start(period: str, name: str, start: str) -> None:
    now = ns("2026-11-22T12:00+08:00")
    target = book(budget(period=period), timezone="Asia/Shanghai")
    assert target.history_ns(now) == ([ns(start)], now - 3 * DAY_NS - 300 * 10**9)
    target.observe(ns(start) - 1, KRONOS, "CNY", 7)
    target.observe(ns(start), KRONOS, "CNY", 11)
    status = only(target, now)
    assert (status.period, status.spent_nano) == (name, 11)


def test_a_new_period_begins_at_zero_and_the_old_one_is_still_there_when_the_clock_steps_back() -> None:
    midnight = ns("2026-12-01T00:00+00:00")
    target = book(budget())
    target.observe(midnight - 10**9, KRONOS, "CNY", 5 * NANO)
    target.observe(midnight, KRONOS, "CNY", 3 * NANO)
    target.observe(midnight - 2 * 10**9, KRONOS, "CNY", 1 * NANO)      # committed late
    assert [only(target, midnight + d).spent_nano // NANO for d in (1, -1)] == [3, 6]
    assert [only(target, midnight + d).period for d in (1, -1)] == ["2026-12", "2026-11"]


def test_a_clock_that_visits_another_year_leaves_this_one_alone() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget())
    spend_evenly(target, now - HOUR_NS, now, 600)
    target.observe(ns("2031-06-01T00:00+00:00"), KRONOS, "CNY", 9 * NANO)
    status = only(target, now)
    assert status.spent_nano == 600 * NANO
    assert status.burn_ratio["3d"] == pytest.approx(0.2)


def test_credits_reduce_what_was_spent() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget())
    target.observe(now - 60 * 10**9, KRONOS, "CNY", 100)
    target.observe(now - 30 * 10**9, KRONOS, "CNY", -250)
    status = only(target, now)
    assert status.spent_nano == -150
    assert status.burn_ratio["1h"] < 0


@pytest.mark.parametrize(
    ("match", "spent"),
    [
        ({"project": "kronos"}, 1),
        ({"project": "kronos*"}, 1 + 2),
        ({"project": "kronos*", "model_version": "2.*"}, 2),
        ({"team": ""}, 4),
        ({"instance": "*"}, 1 + 2 + 4),
        ({"instance": "*", "project": "__idle__"}, 4),
        ({"project": "KRONOS"}, 0),
    ],
)
def test_matching(match: dict[str, str], spent: int) -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget(match=match))
    target.observe(now, KRONOS, "CNY", 1)
    target.observe(now, ("kronos-2", "quant", "kronos-large", "2.1"), "CNY", 2)
    target.observe(now, ("__idle__", "", "", ""), "CNY", 4)
    assert only(target, now + 1).spent_nano == spent


def test_only_the_budgets_own_currency_counts() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget(), budget(name="in euro", currency="EUR"))
    target.observe(now, KRONOS, "CNY", 1)
    target.observe(now, KRONOS, "EUR", 2)
    assert [(s.name, s.currency, s.spent_nano) for s in target.judge(now + 1)] == [("b", "CNY", 1), ("in euro", "EUR", 2)]


def test_a_match_on_an_unknown_tag_key_is_refused() -> None:
    with pytest.raises(ValueError, match="budget 'b' matches on 'projekt', which is not a tag key; write one of project"):
        book(budget(match={"projekt": "kronos"}))


def test_restored_charges_count_as_observed_ones_whatever_their_order() -> None:
    now = ns("2026-11-22T12:34+00:00")
    rows = [(now - i * 37 * 60 * 10**9, KRONOS, "CNY", 1000 + i) for i in range(1500)]       # 38 days back
    ascending, descending, live = book(budget()), book(budget()), book(budget())
    ascending.restore(rows[::-1], now)
    descending.restore(rows, now)
    for row in rows[::-1]:
        live.observe(*row)
    assert only(ascending, now + 1) == only(descending, now + 1) == only(live, now + 1)
    assert only(live, now + 1).spent_nano == sum(c for t, _, _, c in rows if t >= ns("2026-11-01T00:00+00:00"))


def test_more_workloads_than_are_remembered_are_all_counted() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget(match={"instance": "*"}))
    for i in range(5000):
        target.observe(now, (f"p{i}", "", "", ""), "CNY", 1)
    assert only(target, now + 1).spent_nano == 5000


def test_a_limit_of_zero_burns_infinitely_once_anything_is_spent() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget(limit=Decimal(0)))
    assert only(target, now).burn_ratio["1h"] == 0.0
    target.observe(now - 1, KRONOS, "CNY", 1)
    assert only(target, now).burn_ratio["1h"] == float("inf")


CHARGES = st.lists(st.tuples(st.integers(0, 5 * DAY_NS), st.integers(-10**12, 10**12)), max_size=60)


@settings(deadline=None)
@given(CHARGES, st.lists(st.integers(0, 6 * DAY_NS), min_size=1, max_size=4))
def test_windows_equal_a_plain_sum_over_five_minute_buckets(
    charges: list[tuple[int, int]], looks: list[int]
) -> None:
    """An oracle that keeps every charge: exact up to one nano-unit's rounding of the bucket that the window cuts. Charges
    arrive in time order and are judged in between, so that remembered sums are seen to be given up."""
    origin = ns("2026-11-05T00:00+00:00")
    target = book(budget(limit=Decimal(720)))                      # one unit an hour
    taken: list[tuple[int, int]] = []
    for look in sorted(looks):
        fresh = sorted(c for c in charges if c[0] <= look and c not in taken)
        for offset, cost in fresh:
            target.observe(origin + offset, KRONOS, "CNY", cost)
        taken += fresh
        now = origin + look
        for window, length in WINDOWS_NS.items():
            exact = Fraction(0)
            for offset, cost in taken:
                begin = (origin + offset) // BUCKET_NS * BUCKET_NS
                inside = Fraction(min(max(begin + BUCKET_NS - (now - length), 0), BUCKET_NS), BUCKET_NS)
                exact += cost * inside
            expected = float(exact / NANO * HOUR_NS / length)
            assert only(target, now).burn_ratio[window] == pytest.approx(expected, abs=2e-9)


def test_a_late_charge_counts_in_a_window_already_summed() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget(limit=Decimal(720)))
    for spent in (1, 2):
        target.observe(now - HOUR_NS // 3, KRONOS, "CNY", NANO)
        assert only(target, now).burn_ratio["1h"] == pytest.approx(spent)


def test_the_present_period_outlives_visits_to_many_others() -> None:
    now = ns("2026-11-22T12:00+00:00")
    target = book(budget())
    for year in range(2031, 2041):
        target.observe(now, KRONOS, "CNY", 1)
        target.observe(ns(f"{year}-06-01T00:00+00:00"), KRONOS, "CNY", 1)
    assert only(target, now + 1).spent_nano == 10
