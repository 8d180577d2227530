"""Amounts as people read them."""

from __future__ import annotations

import pytest

from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR
from exporters.amounts import UNKNOWN, energy, hours, money, percent, power, size


@pytest.mark.parametrize(("nano", "text"), [
    (0, "0.00"), (NANO, "1.00"), (1_234_567 * NANO // 100, "12,345.67"), (12_345_678 * NANO, "12,345,678"),
    (NANO // 20, "0.05"), (1_234_567, "0.0012"), (500, "under 0.0001"), (-500, "over -0.0001"), (-3 * NANO // 2, "-1.50"),
])
def test_money(nano, text):
    assert money(nano) == text


@pytest.mark.parametrize(("milliwatts", "text"), [(None, UNKNOWN), (0, "0 W"), (412_499, "412 W"), (9_999_000, "9,999 W"),
                                                  (12_340_000, "12.3 kW")])
def test_power(milliwatts, text):
    assert power(milliwatts) == text


@pytest.mark.parametrize(("millijoules", "text"), [
    (1_500, "1.5 J"), (MJ_PER_KWH // 1000, "1.0 Wh"), (MJ_PER_KWH, "1.00 kWh"), (1_234 * MJ_PER_KWH, "1,234.00 kWh"),
    (12_345 * MJ_PER_KWH, "12.3 MWh"),
])
def test_energy(millijoules, text):
    assert energy(millijoules) == text


def test_time_size_and_share():
    assert [hours(NS_PER_HOUR // n) for n in (1, 2, 3600)] == ["1.0 h", "30.0 min", "1.0 s"]
    assert [size(None), size(3 * 2**30)] == [UNKNOWN, "3.0 GiB"]
    assert [percent(r) for r in (0, 0.0123, 0.5, 1.3)] == ["0%", "1.2%", "50%", "130%"]
