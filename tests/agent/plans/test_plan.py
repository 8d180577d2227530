"""The arithmetic of plans against closed forms and against counting every case."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import FinOpsError
from agent.model import FOREVER_NS
from agent.plan.hours import Piece, cheapest_run, price_pieces
from agent.plan.outcome import Figure, decimal_of
from agent.plan.plan import SAME, OwnOrRent, Server, break_even
from agent.plan.scenario import Place
from agent.tariffs.base import Price
from agent.units import ATTO, NS_PER_HOUR

costs = st.integers(1, 40).map(Fraction)


@settings(max_examples=300, deadline=None)
@given(costs, st.integers(1, 9), costs, st.none() | st.integers(1, 30))
def test_break_even_spans_agree_with_counting_units_at_each_number(small_cost, small_capacity, large_cost, large_capacity):
    spans, complete = break_even(Server("s", small_cost, small_capacity), Server("l", large_cost, large_capacity))
    assert complete or small_cost / small_capacity == large_cost / (large_capacity or 10**9)
    assert spans[0].start == 1
    assert all(b.start == (a.to or 0) + 1 and a.cheaper != b.cheaper for a, b in pairwise(spans))
    for requests in range(1, 600):
        one = small_cost * ((requests + small_capacity - 1) // small_capacity)
        other = large_cost * (1 if large_capacity is None else (requests + large_capacity - 1) // large_capacity)
        (span,) = [s for s in spans if s.start <= requests and (s.to is None or requests <= s.to)]
        assert span.cheaper == (SAME if one == other else "s" if one < other else "l"), requests


def test_equal_cost_per_request_takes_turns_and_says_so():
    spans, complete = break_even(Server("s", Fraction(1), 1), Server("l", Fraction(2), 2))
    assert not complete
    assert [(s.start, s.to, s.cheaper) for s in spans[:4]] == [(1, 1, "s"), (2, 2, SAME), (3, 3, "s"), (4, 4, SAME)]


def test_own_or_rent_meets_where_both_cost_the_same():
    choice = OwnOrRent(name="", hardware=Fraction(30000), years=Fraction(5), kw=Fraction(4, 5), price_per_kwh=Fraction(1, 4),
                       rent_per_hour=Fraction(11, 5))
    assert choice.break_even_hours == 3000            # 6000 a year / (2.2 - 0.2)
    assert [choice.cheaper_at(Fraction(hours)) for hours in (2999, 3000, 3001)] == ["rent", SAME, "own"]


@pytest.mark.parametrize(("rent", "kw"), [("0.2", "0.8"), ("0.1", "0.8"), ("0.6", "0")])
def test_owning_that_never_pays_has_no_break_even(rent, kw):
    choice = OwnOrRent(name="", hardware=Fraction(30000), years=Fraction(5), kw=Fraction(kw), price_per_kwh=Fraction(1, 4),
                       rent_per_hour=Fraction(rent))
    assert choice.break_even_hours is None
    assert choice.cheaper_at(Fraction(8760)) == "rent"


@pytest.mark.parametrize(("computed", "published", "said"), [
    ("1612.8", "1613", "rounded to 1"), ("1612.8", "1612.8", "exact"), ("1612.8", "1612", "not given by its inputs"),
    ("2995.2", "3000", "rounded to 10"), ("2895.2", "2900", "rounded to 10"), ("2600", "3000", "not given by its inputs"),
    ("0.3333", "0.33", "rounded to 0.01"), ("5627", "5475", "not given by its inputs"), ("12", "10", "not given by its inputs"),
])
def test_a_published_figure_may_be_a_rounding(computed, published, said):
    assert Figure("", Place(1, ""), Fraction(computed), None, Decimal(published)).published_is == said


@pytest.mark.parametrize(("computed", "expected", "is_it"), [
    (Fraction(2, 3), "0.667", True), (Fraction(2, 3), "0.666", False), (Fraction(1, 2), "0.5", True),
    (Fraction(1, 2), "0.50", True), (Fraction("0.501"), "0.5", False), (Fraction(6), "6.0", True),
])
def test_only_a_figure_that_never_ends_may_be_expected_rounded(computed, expected, is_it):
    assert Figure("", Place(1, ""), computed, Decimal(expected), None).reproduced is is_it


def test_amounts_are_written_out_exactly():
    assert decimal_of(Fraction(1, 8)) == Decimal("0.125")
    assert decimal_of(Fraction(2, 3)) == Decimal("0.666666666667")
    assert decimal_of(Fraction(10**30 + 1)) == Decimal(10**30 + 1)


def hours(*prices: int | None) -> list[Piece]:
    """A price an hour, in whole units per kWh; None where none is known."""
    return [Piece(i * NS_PER_HOUR, (i + 1) * NS_PER_HOUR, str(price), price * ATTO)
            for i, price in enumerate(prices) if price is not None]


def test_the_cheapest_hours_in_one_piece_and_in_several():
    pieces = hours(5, 1, 9, 1, 1, 7, 0)
    whole = cheapest_run(pieces, 2 * NS_PER_HOUR, Fraction(3), interruptible=False)
    assert [(p.start_ns // NS_PER_HOUR, p.atto_per_kwh // ATTO) for p in whole.pieces] == [(3, 1), (4, 1)]
    assert whole.cost == 6
    cut = cheapest_run(pieces, 2 * NS_PER_HOUR, Fraction(3), interruptible=True)
    assert [p.start_ns // NS_PER_HOUR for p in cut.pieces] == [1, 6]
    assert cut.cost == 3


def test_a_gap_without_a_price_is_not_run_through():
    pieces = hours(1, None, 1, 5)
    assert cheapest_run(pieces, 3 * NS_PER_HOUR, Fraction(1), interruptible=False) is None
    assert cheapest_run(pieces, 3 * NS_PER_HOUR, Fraction(1), interruptible=True).cost == 7
    assert cheapest_run(pieces, 4 * NS_PER_HOUR, Fraction(1), interruptible=True) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-3, 5), min_size=1, max_size=8), st.integers(1, 8 * 4))
def test_no_quarter_hour_start_is_cheaper_than_the_span_found(prices, quarters):
    quarter_ns = NS_PER_HOUR // 4
    found = cheapest_run(hours(*prices), quarters * quarter_ns, Fraction(1), interruptible=False)
    by_quarter = [price for price in prices for _ in range(4)]
    sums = [sum(by_quarter[i:i + quarters]) for i in range(len(by_quarter) - quarters + 1)]
    if not sums:
        assert found is None
        return
    assert found.cost == Fraction(min(sums), 4)
    assert found.duration_ns == quarters * quarter_ns
    assert found.pieces[0].start_ns == sums.index(min(sums)) * quarter_ns
    cut = cheapest_run(hours(*prices), quarters * quarter_ns, Fraction(1), interruptible=True)
    assert cut.cost == Fraction(sum(sorted(by_quarter)[:quarters]), 4)


class Steps:
    """One kWh price for the first two hours, then another; with ``tiers``, one that depends on use."""

    name, currency, timezone = "steps", "EUR", "UTC"

    def __init__(self, tiers: bool = False) -> None:
        self.tiers = tiers

    def price_at(self, instant_ns: int, used_mj: int = 0) -> Price:
        return Price("a", 1 * ATTO) if instant_ns < 2 * NS_PER_HOUR else Price("", 0, known=False)

    def next_change(self, instant_ns: int) -> int:
        return (instant_ns // NS_PER_HOUR + 1) * NS_PER_HOUR if instant_ns < 3 * NS_PER_HOUR else FOREVER_NS

    def tier_end_mj(self, instant_ns: int, used_mj: int) -> int | None:
        return 5 if self.tiers else None

    def period_start(self, instant_ns: int) -> int | None:
        return 0 if self.tiers else None


def test_price_pieces_join_equal_prices_and_leave_out_unknown_ones():
    assert price_pieces(Steps(), NS_PER_HOUR // 2, 9 * NS_PER_HOUR) == [Piece(NS_PER_HOUR // 2, 2 * NS_PER_HOUR, "a", ATTO)]


def test_a_tariff_with_blocks_has_no_cheapest_hours():
    with pytest.raises(FinOpsError, match="without blocks"):
        price_pieces(Steps(tiers=True), 0, NS_PER_HOUR)
