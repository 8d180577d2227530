"""Exact integer arithmetic: splits sum to their whole, costs to quantity x price."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.units import MJ_PER_KWH, NS_PER_HOUR, atto_per_kwh, energy_cost_nano, femto_per_hour, split_integer, time_cost_nano


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_split_sums_to_the_whole_and_stays_within_one_of_the_proportion(total: int, weights: list[int]) -> None:
    parts = split_integer(total, weights)
    assert sum(parts) == total
    effective = weights if any(weights) else [1] * len(weights)
    for part, weight in zip(parts, effective, strict=True):
        assert abs(part - Fraction(total * weight, sum(effective))) < 1


def test_equal_remainders_go_to_the_earlier_part() -> None:
    assert split_integer(10, [1, 1, 1]) == [4, 3, 3]


def test_nothing_cannot_be_split_over_nobody() -> None:
    with pytest.raises(ValueError, match="no weights"):
        split_integer(1, [])


@given(st.lists(st.integers(0, 10**9), max_size=200), st.integers(-(10**18), 2 * 10**18))
def test_costs_with_their_carry_sum_to_energy_times_price(energies_mj: list[int], price_atto: int) -> None:
    carry = total = 0
    for energy_mj in energies_mj:
        cost, carry = energy_cost_nano(energy_mj, price_atto, carry)
        total += cost
    exact = Fraction(sum(energies_mj) * price_atto, MJ_PER_KWH * 10**9)
    assert 0 <= exact - total < 1


def test_a_year_of_seconds_at_a_straight_line_costs_the_year() -> None:
    # (250000 - 25000) / (4 x 8760) = 6.4212 an hour; 8760 hours of it are 56250, and a sum of seconds loses nothing
    price = femto_per_hour((Decimal(250_000) - 25_000) / (4 * 8_760))
    carry = total = 0
    for _ in range(3_600):
        cost, carry = time_cost_nano(NS_PER_HOUR // 3_600, price, carry)
        total += cost
    assert abs(Decimal(total) - Decimal("6.421232876712328") * 10**9) < 1
    assert time_cost_nano(8_760 * NS_PER_HOUR, price, 0)[0] in {56_250 * 10**9 - 1, 56_250 * 10**9}


def test_prices_of_tariffs_are_not_rounded() -> None:
    assert atto_per_kwh(Decimal("0.33") * Decimal("1.13") * Decimal("1.35")) == 503415 * 10**12
