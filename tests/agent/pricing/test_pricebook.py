"""The price book over time: written off to salvage and not beyond, rent by series and reservation, unknown never zero."""

from __future__ import annotations

import datetime as dt
from array import array
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.attribution.attribution import Attribution
from agent.config.config import load
from agent.errors import ConfigError
from agent.model import FOREVER_NS, IDLE, INCLUDED_IN_RENT, Charge, ProcessUse
from agent.pricing.pricebook import RESERVED, SPOT, price_device
from agent.pricing.pricing import Pricing
from agent.series_csv import Series
from agent.settings import Hardware, RentSeries
from agent.units import NANO, NS_PER_HOUR, NS_PER_S
from tests.agent.records import KEYS, NOON_NS, device, interval, share

YEAR_NS = 8_760 * NS_PER_HOUR
BOUGHT_NS = NOON_NS


def declining(years: str = "4", salvage: str = "1000", rate: str = "0.4") -> Hardware:
    return Hardware(gpu="*", price=Decimal(10_000), salvage=Decimal(salvage), years=Decimal(years),
                    declining_rate=Decimal(rate), bought_ns=BOUGHT_NS, currency="EUR")


def spent(hardware: Hardware, from_ns: int, to_ns: int, step_ns: int, component: str = "hardware") -> int:
    subject = Pricing(None, "", Decimal(1), [hardware], None, {})
    charges: list[Charge] = []
    while from_ns < to_ns:
        end_ns = min(from_ns + step_ns, to_ns)
        charges += subject.charge(share(0, from_ns, end_ns - from_ns), "X")
        from_ns = end_ns
    return sum(charge.cost_nano for charge in charges if charge.component == component)


@pytest.mark.parametrize(("year", "lost"), [(0, 4_000), (1, 2_400), (2, 1_440), (3, 1_160)])
def test_a_declining_balance_takes_its_part_of_what_is_left_and_at_last_the_rest(year: int, lost: int) -> None:
    # 10 000, 6 000, 3 600, 2 160, and the last year down to the salvage of 1 000
    begin_ns = BOUGHT_NS + year * YEAR_NS
    assert abs(spent(declining(), begin_ns, begin_ns + YEAR_NS, 1_003 * NS_PER_HOUR) - lost * NANO) <= 1


def test_a_declining_balance_stops_at_salvage() -> None:
    # 10 000, 6 000, and then 5 500 is where it ends: 500 in the second year, nothing after
    steps = [spent(declining(salvage="5500"), BOUGHT_NS + year * YEAR_NS, BOUGHT_NS + (year + 1) * YEAR_NS, 999 * NS_PER_HOUR)
             for year in range(5)]
    assert [round(nano / NANO, 6) for nano in steps] == [4_000, 500, 0, 0, 0]


@pytest.mark.parametrize("hardware", [
    declining(), declining(years="3.5"), declining(years="0.5", salvage="0"), declining(rate="1"),
    Hardware(gpu="*", price=Decimal(10_000), salvage=Decimal(1_000), years=Decimal("3.5"), bought_ns=BOUGHT_NS, currency="EUR"),
])
def test_a_life_costs_price_less_salvage_to_one_nano_whatever_the_method(hardware: Hardware) -> None:
    loss = (10_000 - int(hardware.salvage)) * NANO
    before_ns, after_ns = BOUGHT_NS - 100 * NS_PER_HOUR, BOUGHT_NS + 5 * YEAR_NS
    assert abs(spent(hardware, before_ns, after_ns, 777 * NS_PER_HOUR + 12_345) - loss) <= 1


def test_an_interval_over_a_birthday_pays_both_prices() -> None:
    subject = Pricing(None, "", Decimal(1), [declining()], None, {})
    birthday_ns = BOUGHT_NS + YEAR_NS
    charges = [c for c in subject.charge(share(0, birthday_ns - NS_PER_S // 4, NS_PER_S), "X") if c.component == "hardware"]
    assert [c.end_utc_ns - c.start_utc_ns for c in charges] == [NS_PER_S // 4, 3 * NS_PER_S // 4]
    assert [Fraction(c.price, 10**15) * 8_760 for c in charges] == pytest.approx([4_000, 2_400], abs=1e-9)


def test_without_a_date_a_straight_line_has_no_end() -> None:
    (hourly,) = price_device("X", [Hardware(gpu="*", price=Decimal(8_760), years=Decimal(1))], "EUR").hourly
    assert [hourly.price.at(at) for at in (0, 2**62)] == [10**15, 10**15]
    assert hourly.price.next_change(0) == FOREVER_NS


def spot(missing: str | Decimal) -> Hardware:
    series = Series(array("q", [NOON_NS, NOON_NS + NS_PER_HOUR + NS_PER_S]), array("q", [250, 100]), 2)
    return Hardware(gpu="*", rent_series=RentSeries(series=series, missing=missing), currency="EUR")


@pytest.mark.parametrize(("missing", "after"), [("last", 10**15), ("error", None), (Decimal("9.5"), 95 * 10**14)])
def test_rent_by_a_series(missing: str | Decimal, after: int | None) -> None:
    (hourly,) = price_device("X", [spot(missing)], "EUR").hourly
    changes, at_ns = [NOON_NS], NOON_NS
    while (at_ns := hourly.price.next_change(at_ns)) != FOREVER_NS:
        changes.append(at_ns)
    rows_end_ns = NOON_NS + 2 * (NS_PER_HOUR + NS_PER_S)
    assert changes == [NOON_NS, NOON_NS + NS_PER_HOUR + NS_PER_S, *([] if missing == "last" else [rows_end_ns])]
    before = None if isinstance(missing, str) else after
    assert [hourly.price.at(at) for at in (NOON_NS - 1, *changes, rows_end_ns)] == [
        before, 25 * 10**14, 10**15, *([] if missing == "last" else [after]), after]
    assert hourly.rate == SPOT


def test_a_spot_rent_is_cut_where_it_changes() -> None:
    subject = Pricing(None, "", Decimal(1), [spot("error")], None, {})
    charges = subject.charge(share(1_000, NOON_NS + NS_PER_HOUR, 2 * NS_PER_S), "X")
    assert [(c.component, c.rate, c.energy_mj, c.price) for c in charges] == [
        ("rent", SPOT, 0, 25 * 10**14), ("energy", INCLUDED_IN_RENT, 500, 0),
        ("rent", SPOT, 0, 10**15), ("energy", INCLUDED_IN_RENT, 500, 0)]


def test_a_rent_that_is_not_known_is_unpriced_not_free() -> None:
    subject = Pricing(None, "", Decimal(1), [spot("error")], None, {})
    charges = subject.charge(share(1_000, NOON_NS - NS_PER_HOUR), "X")
    assert [(c.component, c.rate, c.currency) for c in charges] == [("energy", "", "")]
    assert subject.nano_per_hour(NOON_NS - NS_PER_HOUR, 1, "X", (1, 1)) is None


def test_reserved_hours_with_nobody_on_the_device_are_idle() -> None:
    reserved = Hardware(gpu="*", reserved_per_gpu_hour=Decimal("3.6"), currency="EUR")
    subject = Pricing(None, "", Decimal(1), [reserved], None, {})
    attribution = Attribution(lambda facts, uuid, name: ("kronos", "", "", ""), KEYS)
    costs: dict[str, int] = {}
    for second in range(10):
        processes = (ProcessUse(7, 70, None),) if second < 4 else ()
        at_ns = (second + 1) * NS_PER_S
        spans = attribution.split(interval(1_000, start_utc_ns=NOON_NS + second * NS_PER_S), device(at_ns, processes=processes),
                                  (), {})
        for charge in (charge for part in spans for charge in subject.charge(part, "X")):
            costs[charge.workload[0]] = costs.get(charge.workload[0], 0) + charge.cost_nano
            assert charge.rate in {RESERVED, INCLUDED_IN_RENT}
    # a milli-unit a second; the one that left between two looks counts for half of that second
    assert costs == {"kronos": 4_500_000, IDLE: 5_500_000}


def config(directory: Path, text: str, now: str | None = None) -> tuple[Hardware, ...]:
    (directory / "spot.csv").write_text("start,price\n2026-01-01T00:00:00Z,2.5\n2026-01-01T01:00:00Z,1\n")
    file = directory / "c.toml"
    file.write_text(text)
    now_ns = int(dt.datetime.fromisoformat(now).timestamp()) * NS_PER_S if now else None
    return load(file, environ={"HOME": "/"}, now_ns=now_ns).hardware


def test_the_keys_reach_their_record(tmp_path: Path) -> None:
    head = '[site]\ntimezone = "Asia/Kathmandu"\n[[hardware]]\ngpu = "*"\ncurrency = "EUR"\n'
    (owned,) = config(tmp_path, f'{head}price = 100\nyears = 4\nmethod = "declining"\nrate = 0.4\nbought = 2026-01-01')
    midnight = dt.datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Kathmandu"))
    assert (owned.declining_rate, owned.bought_ns) == (Decimal("0.4"), int(midnight.timestamp()) * NS_PER_S)
    (rented,) = config(tmp_path, f'{head}rent_per_gpu_hour = {{ csv = "spot.csv", missing = 4 }}')
    assert rented.rent_series is not None
    assert (rented.rent_series.missing, list(rented.rent_series.series.mantissas)) == (4, [25, 10])
    (reserved,) = config(tmp_path, f"{head}reserved_per_gpu_hour = 2.25")
    assert reserved.reserved_per_gpu_hour == Decimal("2.25")


def test_a_rent_series_that_has_ended_is_a_fault_where_it_may_not(tmp_path: Path) -> None:
    text = '[[hardware]]\ngpu = "*"\ncurrency = "EUR"\nrent_per_gpu_hour = { csv = "spot.csv", missing = "error" }'
    assert config(tmp_path, text, "2026-01-01T01:59:59+00:00")
    with pytest.raises(ConfigError, match=r"c.toml:4: hardware\[0\].rent_per_gpu_hour: has no price for the present "
                                          r"\(2026-01-01T02:00:00.00:00\)"):
        config(tmp_path, text, "2026-01-01T02:00:00+00:00")
