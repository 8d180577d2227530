"""Money: cut at boundaries, exact to one nano-unit, credits apart, unknown never zero."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.energy.metering import MeterState
from agent.ledger.batch import Batch
from agent.ledger.ledger import Ledger
from agent.model import FOREVER_NS, INCLUDED_IN_RENT, Charge
from agent.pricing.carbon import CarbonSeries, ConstantCarbon
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.series_csv import Series
from agent.settings import Hardware
from agent.tariffs.base import Price
from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR, NS_PER_S, atto_per_kwh
from tests.agent.records import NOON_NS, UUID, interval, share
from tests.agent.tariffs.price_walk import local_ns, read


class Steps:
    """A tariff of the tests' own: a price from each instant on, tiers by energy where ``tiers`` is given."""

    name, currency, timezone = "steps", "CNY", "UTC"

    def __init__(self, steps: Sequence[tuple[int, str, str]], tiers: tuple[int, str] | None = None) -> None:
        self._steps = steps
        self._tiers = tiers

    def price_at(self, instant_ns: int, used_mj: int = 0) -> Price:
        if self._tiers is not None and used_mj >= self._tiers[0]:
            return Price("upper", atto_per_kwh(Decimal(self._tiers[1])))
        rate, price = [(rate, price) for start, rate, price in self._steps if start <= instant_ns][-1]
        return Price(rate, atto_per_kwh(Decimal(price)) if price != "?" else 0, known=price != "?")

    def next_change(self, instant_ns: int) -> int:
        return min((start for start, _, _ in self._steps if start > instant_ns), default=FOREVER_NS)

    def tier_end_mj(self, instant_ns: int, used_mj: int) -> int | None:
        return self._tiers[0] if self._tiers is not None and used_mj < self._tiers[0] else None

    def period_start(self, instant_ns: int) -> int | None:
        return 0 if self._tiers is not None else None


def pricing(tariff: Steps | None, hardware: Sequence[Hardware] = (), pue: str = "1", carbon: str | None = None) -> Pricing:
    grams = ConstantCarbon(Decimal(carbon)) if carbon is not None else None
    return Pricing(tariff, "steps" if tariff else "", Decimal(pue), hardware, grams, {})


FLAT = Steps([(0, "all", "0.96")])


def total(charges: Sequence[Charge], component: str = "energy") -> int:
    return sum(charge.cost_nano for charge in charges if charge.component == component)


def test_a_kilowatt_hour_at_a_flat_price() -> None:
    charges = pricing(FLAT).charge(share(MJ_PER_KWH, duration_ns=NS_PER_HOUR), "X")
    assert total(charges) == 960_000_000
    assert sum(c.energy_mj for c in charges) == MJ_PER_KWH
    assert sum(c.gpu_ns for c in charges) == NS_PER_HOUR


def test_an_interval_over_a_boundary_pays_both_prices() -> None:
    boundary_ns = NOON_NS + 600 * NS_PER_S + 123
    tariff = Steps([(0, "valley", "0.33"), (boundary_ns, "peak", "1.20")])
    charges = pricing(tariff).charge(share(1_000_000, boundary_ns - NS_PER_S // 4, NS_PER_S), "X")
    assert [(c.rate, c.energy_mj, c.end_utc_ns - c.start_utc_ns) for c in charges] == [
        ("valley", 250_000, NS_PER_S // 4), ("peak", 750_000, 3 * NS_PER_S // 4)]


def test_no_charge_is_longer_than_a_ledger_row() -> None:
    charges = pricing(FLAT).charge(share(10**9, NOON_NS + 7, 2 * NS_PER_HOUR), "X")
    assert len(charges) == 9
    assert all(c.start_utc_ns // BUCKET_NS == (c.end_utc_ns - 1) // BUCKET_NS for c in charges)
    assert sum(c.energy_mj for c in charges) == 10**9


@given(
    st.lists(st.integers(0, 10**7), min_size=1, max_size=100), st.decimals("-2", "3", places=6),
    st.sampled_from(["1", "1.35"]))
def test_ticks_sum_to_energy_times_price_to_one_nano(energies_mj: list[int], price: Decimal, pue: str) -> None:
    subject = pricing(Steps([(0, "all", str(price))]), pue=pue)
    charges = [c for i, mj in enumerate(energies_mj) for c in subject.charge(share(mj, NOON_NS + i * NS_PER_S), "X")]
    exact = Fraction(price) * Fraction(pue) * Fraction(sum(energies_mj), MJ_PER_KWH) * NANO
    assert 0 <= exact - total(charges) < 1


def test_a_restart_with_its_carries_rounds_nothing_away() -> None:
    hardware = [Hardware(gpu="*", price=Decimal(250_000), salvage=Decimal(25_000), years=Decimal(4))]
    nano, carries = 0, {}
    for i in range(3_600):
        subject = Pricing(FLAT, "steps", Decimal(1), hardware, None, carries)
        charges = subject.charge(share(1, NOON_NS + i * NS_PER_S), "X")
        nano += total(charges, "hardware")
        carries = dict(subject.carries)
    assert nano == int(Decimal(225_000) / (4 * 8_760) * NANO)


def test_hardware_and_maintenance_run_by_the_hour() -> None:
    hardware = [
        Hardware(gpu="NVIDIA A100*", price=Decimal(1), years=Decimal(1)),
        Hardware(gpu="NVIDIA H100*", price=Decimal(250_000), salvage=Decimal(25_000), years=Decimal(4),
                 maintenance_per_year=Decimal(8_760))]
    charges = pricing(FLAT, hardware).charge(share(0, duration_ns=NS_PER_HOUR), "NVIDIA H100 80GB HBM3")
    assert abs(total(charges, "hardware") - 6_421_232_877) <= 1
    assert total(charges, "maintenance") == NANO
    assert all(c.gpu_ns == 0 for c in charges if c.component != "energy")


def test_rent_replaces_energy_and_hardware() -> None:
    hardware = [Hardware(gpu="*", rent_per_gpu_hour=Decimal("14.5"))]
    charges = pricing(FLAT, hardware).charge(share(MJ_PER_KWH, duration_ns=NS_PER_HOUR), "X")
    assert total(charges, "rent") == 14_500_000_000
    assert total(charges, "energy") == 0
    assert {c.rate for c in charges if c.component == "energy"} == {INCLUDED_IN_RENT}
    assert sum(c.energy_mj for c in charges) == MJ_PER_KWH


def test_a_price_that_is_not_known_is_not_zero_money() -> None:
    charges = pricing(Steps([(0, "spot", "?")])).charge(share(1_000), "X")
    assert [(c.currency, c.rate, c.energy_mj) for c in charges] == [("", "", 1_000)]
    assert pricing(Steps([(0, "spot", "?")])).nano_per_hour(NOON_NS, 1_000, "X", (1, 1)) is None
    assert pricing(None).charge(share(1_000), "X")[0].currency == ""


def test_tiers_are_cut_where_they_end() -> None:
    subject = pricing(Steps([(0, "lower", "0.5")], tiers=(3 * MJ_PER_KWH, "1.0")))
    charges = [c for i in range(4) for c in subject.charge(share(5 * MJ_PER_KWH // 4, NOON_NS + i * NS_PER_S), "X")]
    # 5 kWh: three at 0.5, two at 1.0
    assert total(charges) == 3_500_000_000
    assert sum(c.energy_mj for c in charges if c.rate == "lower") == 3 * MJ_PER_KWH
    assert sum(c.gpu_ns for c in charges) == 4 * NS_PER_S


def test_shares_that_span_the_begin_of_a_tier_period_count_in_both(tmp_path: Path) -> None:
    tariff = read(tmp_path, """timezone = "Europe/Berlin"\ntier_period = "month"
        rates = { base = [{ upto = 1.5, price = 1 }, { price = 10 }] }\nrule = [{ rate = "base" }]""")
    subject = Pricing(tariff, "t", Decimal(1), (), None, {})
    july_ns = local_ns("2026-07-01", "Europe/Berlin")
    charges = [c for _ in range(2) for c in subject.charge(share(2 * MJ_PER_KWH, july_ns - NS_PER_S, 2 * NS_PER_S), "X")]
    # 2 kWh in June and 2 in July, of which half a kWh each is past 1.5
    assert total(charges) == 2 * (1_500_000_000 + 5_000_000_000)


def test_emissions_follow_energy_and_overhead() -> None:
    charges = pricing(FLAT, pue="1.35", carbon="570").charge(share(MJ_PER_KWH, duration_ns=NS_PER_HOUR), "X")
    assert sum(c.emissions_ug for c in charges) == 769_500_000        # 570 g x 1.35


def test_the_rate_of_spending_now() -> None:
    hardware = [Hardware(gpu="*", price=Decimal(8_760), years=Decimal(1))]
    # 500 W at 0.96 x 1.5 is 0.72 an hour, and a quarter of one unit an hour of hardware
    assert pricing(FLAT, hardware, pue="1.5").nano_per_hour(NOON_NS, 500_000, "X", (1, 4)) == 720_000_000 + 250_000_000


def test_carbon_is_cut_where_its_intensity_changes() -> None:
    change_ns = NOON_NS + NS_PER_S // 4                  # within a quarter of an hour, and within an interval
    series = CarbonSeries(Series(array("q", [change_ns - NS_PER_HOUR, change_ns]), array("q", [400, 800]), 0))
    subject = Pricing(FLAT, "steps", Decimal(1), (), series, {})
    charges = subject.charge(share(4 * MJ_PER_KWH, NOON_NS), "X")
    assert [(c.end_utc_ns - c.start_utc_ns, c.emissions_ug) for c in charges] == [
        (NS_PER_S // 4, 400_000_000), (3 * NS_PER_S // 4, 2_400_000_000)]
    assert [series.next_change(at) for at in (0, change_ns - 1, change_ns)] == [change_ns - NS_PER_HOUR, change_ns, FOREVER_NS]
    assert (series(0), series(2**62)) == (400, 800)      # the first and the last value hold on


def test_a_negative_price_fills_the_credit_counter_and_lowers_no_other(tmp_path: Path) -> None:
    tariff = Steps([(0, "day", "0.5"), (NOON_NS + NS_PER_S, "sun", "-0.2"), (NOON_NS + 2 * NS_PER_S, "day", "0.5")])
    subject, ledger = pricing(tariff), Ledger(tmp_path, NOON_NS)
    costs, credits = [], []
    for second in range(3):
        part = share(MJ_PER_KWH, NOON_NS + second * NS_PER_S)
        batch = Batch()
        batch.add("s", second, {UUID: "X"}, [interval(MJ_PER_KWH, start_utc_ns=part.start_utc_ns)], {UUID: "active"},
                  subject.charge(part, "X"), {UUID: MeterState(boot_id="b", boottime_ns=second, monotonic_ns=second)})
        ledger.commit(batch, part.end_utc_ns)
        key = (UUID, part.workload, "energy", "CNY")
        costs.append(ledger.totals.cost_nano[key])
        credits.append(ledger.totals.credit_nano.get(key, 0))
    ledger.close()
    assert costs == [500_000_000, 500_000_000, 1_000_000_000]
    assert credits == [0, 200_000_000, 200_000_000]


@pytest.mark.parametrize("step_ns", [97 * NS_PER_HOUR + 1])
def test_a_year_sums_to_price_times_quantity_to_one_nano(step_ns: int) -> None:
    """Two rates that change every 12 hours and PUE 1.35; 700 W; hardware; against fractions."""
    start_ns, year_ns, half_ns = NOON_NS, 8_760 * NS_PER_HOUR, 12 * NS_PER_HOUR
    prices = {"day": "1.2345678901234567", "night": "-0.0345678901234567"}
    tariff = Steps([(start_ns + i * half_ns, name, prices[name]) for i in range(2 * 366) for name in [sorted(prices)[i % 2]]])
    hardware = [Hardware(gpu="*", price=Decimal(250_000), years=Decimal(7), currency="CNY")]
    subject = pricing(tariff, hardware, pue="1.35")
    charges: list[Charge] = []
    at_ns, booked_mj = start_ns, 0
    while at_ns < start_ns + year_ns:
        end_ns = min(at_ns + step_ns, start_ns + year_ns)
        energy_mj = 700_000 * (end_ns - start_ns) // NS_PER_S - booked_mj
        booked_mj += energy_mj
        charges += subject.charge(share(energy_mj, at_ns, end_ns - at_ns), "X")
        at_ns = end_ns
    energy = [c for c in charges if c.component == "energy"]
    assert sum(c.energy_mj for c in energy) == booked_mj == 700_000 * 8_760 * 3_600
    assert sum(c.end_utc_ns - c.start_utc_ns for c in energy) == year_ns
    exact = sum(Fraction(prices[c.rate]) * Fraction("1.35") * Fraction(c.energy_mj, MJ_PER_KWH) * NANO for c in energy)
    assert abs(exact - total(charges)) < 1
    assert abs(Fraction(250_000, 7) * NANO - total(charges, "hardware")) <= 1
