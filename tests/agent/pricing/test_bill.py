"""Bills: by hand for loads of a few windows, against the published days, and closed forms over a year."""

from __future__ import annotations

from array import array
from fractions import Fraction
from pathlib import Path

import pytest

from agent.pricing.bill import Bill, Load, make_bill
from agent.series_csv import Series
from agent.units import NS_PER_HOUR
from tests.agent.tariffs.price_walk import local_ns, read, vector
from tests.agent.tariffs.test_vectors import DAYS

MINUTE_NS = NS_PER_HOUR // 60
UTC_NS = local_ns("2026-04-01", "UTC")


def load_of(*rows: tuple[int, int]) -> Load:
    """Rows of (start, watts)."""
    return Load(Series(array("q", [start for start, _ in rows]), array("q", [watts for _, watts in rows]), 3))


def amounts(bill: Bill, kind: str) -> dict[str, Fraction]:
    return {line.name: line.amount for line in bill.lines if line.kind == kind}


def quantities(bill: Bill, kind: str) -> dict[str, Fraction]:
    return {line.name: line.quantity for line in bill.lines if line.kind == kind}


@pytest.mark.parametrize(("name", "day", "kwh", "total"), DAYS)
def test_energy_adders_and_tax_of_a_published_day(name: str, day: str, kwh: int, total: str) -> None:
    tariff = vector(name)
    from_ns = local_ns(day, tariff.timezone)
    bill = make_bill(tariff, load_of((from_ns, 1000)), from_ns, from_ns + kwh * NS_PER_HOUR)
    counted = [line for line in bill.lines if line.kind in {"energy", "adder", "tax"} and not line.included]
    assert (bill.kwh, sum(line.amount for line in counted)) == (kwh, Fraction(total))


@pytest.mark.parametrize(("kwh", "total"), [(3000, "1851.00"), (4000, "2520.80"), (5000, "3257.80")])
def test_steps_over_a_year(kwh: int, total: str) -> None:
    tariff = vector("cn-residential-step")
    from_ns, to_ns = (local_ns(f"{year}-01-01", tariff.timezone) for year in (2026, 2027))
    half_ns = from_ns + NS_PER_HOUR * 1000
    bill = make_bill(tariff, load_of((from_ns, kwh // 2), (half_ns, 0), (to_ns - 2 * NS_PER_HOUR, kwh * 250)), from_ns, to_ns)
    assert (bill.kwh, bill.total) == (kwh, Fraction(total))


def test_steps_begin_again_with_the_period_and_go_on_from_what_was_used(tmp_path: Path) -> None:
    tariff = read(tmp_path, 'timezone = "UTC"\ntier_period = "month"\nrule = [{ rate = "a" }]\n'
                            'rates = { a = [{ upto = 10, price = 1 }, { price = 2 }] }')
    end_ns = local_ns("2026-05-01", "UTC")
    bill = make_bill(tariff, load_of((0, 1000)), end_ns - 8 * NS_PER_HOUR, end_ns + 12 * NS_PER_HOUR, Fraction(5))
    assert bill.total == 5 * 1 + 3 * 2 + 10 * 1 + 2 * 2


def test_included_tax_is_shown_and_not_added() -> None:
    tariff = vector("cn-industrial")
    from_ns, to_ns = (local_ns(f"2026-{month}-01", tariff.timezone) for month in ("07", "08"))
    bill = make_bill(tariff, load_of((from_ns, 100_000)), from_ns, to_ns)
    assert amounts(bill, "demand") == {"maximum demand 2026-07": 4200}
    assert amounts(bill, "adder") == {"government funds": 2232}
    assert bill.total == Fraction("20.46") * 100 * 31 + 4200
    assert amounts(bill, "tax") == {"tax, included": bill.total * 13 / 113}


DEMAND = ('timezone = "UTC"\nrates = { a = 0, b = 0 }\nrule = [{ rate = "b", hours = ["12:00-13:00"] }, { rate = "a" }]\n'
          'demand = [{ name = "any", per_kw_month = 3, window = "15m" }, '
          '{ name = "noon", per_kw_month = 5, window = "30m", when = ["b"] }]')


def test_demand_is_the_highest_mean_over_a_window_and_not_the_highest_load(tmp_path: Path) -> None:
    tariff = read(tmp_path, DEMAND)
    noon_ns = UTC_NS + 12 * NS_PER_HOUR
    burst = load_of((UTC_NS, 1_000), (UTC_NS + 10 * MINUTE_NS, 8_500), (UTC_NS + 20 * MINUTE_NS, 1_000),
                    (noon_ns + 20 * MINUTE_NS, 4_000), (noon_ns + 35 * MINUTE_NS, 1_000))
    bill = make_bill(tariff, burst, UTC_NS, local_ns("2026-05-01", "UTC"))
    any_kw, noon_kw = (10 + 5 * Fraction("8.5")) / 15, Fraction(20 * 1 + 10 * 4, 30)
    assert quantities(bill, "demand") == {"any 2026-04": any_kw, "noon 2026-04": noon_kw}
    assert bill.total == 3 * any_kw + 5 * noon_kw


def test_each_month_has_its_own_demand_and_a_part_of_one_owes_a_part(tmp_path: Path) -> None:
    tariff = read(tmp_path, DEMAND)
    may_ns = local_ns("2026-05-01", "UTC")
    bill = make_bill(tariff, load_of((0, 2_000), (may_ns, 6_000)), UTC_NS, local_ns("2026-05-11", "UTC"))
    assert amounts(bill, "demand") == {"any 2026-04": 6, "noon 2026-04": 10,
                                       "any 2026-05": Fraction(180, 31), "noon 2026-05": Fraction(300, 31)}


def test_fixed_charges_count_local_days_and_months(tmp_path: Path) -> None:
    tariff = read(tmp_path, 'timezone = "Europe/Berlin"\nrates = { a = 0 }\nrule = [{ rate = "a" }]\n'
                            'tax = { rate = 0.5, included = false }\n'
                            'fixed = [{ name = "day", per_day = 2 }, { name = "month", per_month = 30 }]')
    from_ns, to_ns = (local_ns(day, "Europe/Berlin") for day in ("2026-03-29", "2026-03-30"))    # 23 hours
    bill = make_bill(tariff, load_of((0, 1_000)), from_ns, to_ns)
    hours = 31 * 24 - 1
    assert amounts(bill, "fixed") == {"day": 2, "month": Fraction(30 * 23, hours)}
    assert bill.total == Fraction(3, 2) * (2 + Fraction(30 * 23, hours))


def test_versions_are_billed_each_by_its_own_terms(tmp_path: Path) -> None:
    tariff = read(tmp_path, 'timezone = "UTC"\nrates = { a = 1 }\nrule = [{ rate = "a" }]\n'
                            'tax = { rate = 0.1, included = false }\nadders = [{ name = "x", per_kwh = 0.5 }]\n'
                            '[[tariff.t.version]]\nvalid_from = 2026-04-01\n'
                            'rates = { a = 2 }\nadders = []\ntax = { rate = 0.2, included = false }')
    bill = make_bill(tariff, load_of((0, 1_000)), UTC_NS - 10 * NS_PER_HOUR, UTC_NS + 5 * NS_PER_HOUR)
    assert bill.total == 10 * Fraction("1.5") * Fraction("1.1") + 5 * 2 * Fraction("1.2")
    assert amounts(bill, "energy") == {"a": 20}


TWO_VERSIONS = ('timezone = "UTC"\nrates = { a = 0 }\nrule = [{ rate = "a" }]\n'
                'demand = [{ name = "any", per_kw_month = 30, window = "15m" }]\n'
                '[[tariff.t.version]]\nvalid_from = 2026-04-11\n')


@pytest.mark.parametrize(("second", "second_price"), [
    ("rates = { a = 0.0 }", 30),                              # energy alone changes: the month's demand is what it was
    ('demand = [{ name = "any", per_kw_month = 60, window = "15m" }]', 60)])
@pytest.mark.parametrize("peak_day", ["2026-04-03", "2026-04-20"])
def test_a_version_within_a_month_shares_its_demand(tmp_path: Path, second: str, second_price: int, peak_day: str) -> None:
    tariff = read(tmp_path, TWO_VERSIONS + second)
    peak_ns = local_ns(peak_day, "UTC")
    load = load_of((0, 1_000), (peak_ns, 9_000), (peak_ns + NS_PER_HOUR, 1_000))
    bill = make_bill(tariff, load, UTC_NS, local_ns("2026-05-01", "UTC"))
    assert bill.total == 9 * (30 * Fraction(10, 30) + second_price * Fraction(20, 30))


def test_a_charge_that_one_version_has_counts_while_it_is_there(tmp_path: Path) -> None:
    tariff = read(tmp_path, TWO_VERSIONS + "demand = []")
    after_ns = local_ns("2026-04-20", "UTC")
    bill = make_bill(tariff, load_of((0, 2_000), (after_ns, 9_000)), UTC_NS, local_ns("2026-05-01", "UTC"))
    assert amounts(bill, "demand") == {"any 2026-04": 2 * 30 * Fraction(10, 30)}


def test_energy_without_a_known_price_is_counted_and_in_no_line(tmp_path: Path) -> None:
    tariff = read(tmp_path, 'timezone = "UTC"\nvalid_from = 2026-04-01\nrates = { a = 1 }\nrule = [{ rate = "a" }]\n'
                            'fixed = [{ name = "day", per_day = 2 }]\nadders = [{ name = "x", per_kwh = 0.5 }]')
    bill = make_bill(tariff, load_of((0, 1_000)), UTC_NS - 24 * NS_PER_HOUR, UTC_NS + 24 * NS_PER_HOUR)
    assert (bill.kwh, bill.unpriced_kwh, bill.total) == (48, 24, 24 + 12 + 2)


def test_a_version_that_brings_blocks_in_mid_period_counts_the_period_from_its_begin(tmp_path: Path) -> None:
    tariff = read(tmp_path, 'timezone = "UTC"\nrates = { a = 3 }\nrule = [{ rate = "a" }]\n'
                            '[[tariff.t.version]]\nvalid_from = 2026-04-11\ntier_period = "month"\n'
                            'rates = { a = [{ upto = 300, price = 1 }, { price = 2 }] }')
    load, may_ns = load_of((0, 1_000)), local_ns("2026-05-01", "UTC")
    # 240 kWh of April are used when the blocks come: 60 are left of the first
    assert make_bill(tariff, load, UTC_NS, may_ns).total == 240 * 3 + 60 * 1 + 420 * 2
    # a bill from the 6th on does not see the first five days, unless it is told of them
    sixth_ns = UTC_NS + 120 * NS_PER_HOUR
    assert make_bill(tariff, load, sixth_ns, may_ns).total == 120 * 3 + 180 * 1 + 300 * 2
    assert make_bill(tariff, load, sixth_ns, may_ns, Fraction(120)).total == 120 * 3 + 60 * 1 + 420 * 2
    # and of what was used in March the period has nothing
    march_ns = UTC_NS - 100 * NS_PER_HOUR
    assert make_bill(tariff, load, march_ns, may_ns, Fraction(5_000)).total == 340 * 3 + 60 * 1 + 420 * 2
