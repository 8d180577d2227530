"""Rows that begin and end at price changes, wherever they lie in a quarter of an hour: no two of one kind overlap, each
stands for one price, and their sums are the ledger's to the last digit."""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from agent.energy.metering import MeterState
from agent.ledger.batch import Batch
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.rerate import Rerating
from agent.ledger.rollup import roll_up
from agent.ledger.verify import verify
from agent.model import Share, Totals, Workload
from agent.pricing.carbon import CarbonSeries
from agent.pricing.host_cost import HostSpan
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.series_csv import Series
from agent.settings import Hardware, Host, RentSeries
from agent.tariffs.ruled import RuledTariff
from agent.units import NS_PER_HOUR, NS_PER_S
from tests.agent.ledger.test_ledger import batch, charge
from tests.agent.priced import H100, KRONOS, OTHER, instant_ns, pricing, tariff
from tests.agent.records import NOON_NS, UUID, interval

MINUTE_NS = 60 * NS_PER_S
DAY_NS = 24 * NS_PER_HOUR
TICK_NS = 97 * NS_PER_S                          # falls on no boundary but by chance
RATES = "day = 1.25, night = 0.5"
RULES = '{ rate = "night", hours = ["22:07-06:11"] }, { rate = "day" }'


class Row(NamedTuple):
    start_ns: int
    end_ns: int
    uuid: str
    workload: int
    component: str
    rate: str
    price: int
    energy_mj: int
    gpu_ns: int


def rows(state: Path) -> list[Row]:
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        return [Row(*row[:6], int(row[6]), *row[7:]) for row in db.execute(
            "SELECT start_ns, start_ns + span_ns, uuid, workload, component, rate, price, energy_mj, gpu_ns FROM usage "
            "ORDER BY start_ns, uuid, workload, component, rate")]


def ticks(start_ns: int, end_ns: int, uuid: str = UUID, workload: Workload = KRONOS) -> list[Share]:
    shares = []
    for n, at_ns in enumerate(range(start_ns, end_ns, TICK_NS)):
        until_ns = min(at_ns + TICK_NS, end_ns)
        shares.append(Share(uuid=uuid, workload=workload, start_utc_ns=at_ns, end_utc_ns=until_ns, energy_mj=7_654_321 + n,
                            gpu_ns=until_ns - at_ns, method="sole", state="active"))
    return shares


def booked(state: Path, priced: Pricing, shares: Sequence[Share], name: str = H100) -> Totals:
    """A tick for each share, in the order given; a commit every 20, which is no boundary of anything."""
    ledger, batch = Ledger(state, shares[0].start_utc_ns), Batch()
    for n, share in enumerate(shares):
        used = interval(share.energy_mj, share.gpu_ns, uuid=share.uuid, start_utc_ns=share.start_utc_ns)
        batch.add("s", n, {share.uuid: name}, [used], {share.uuid: "active"}, priced.charge(share, name),
                  {share.uuid: MeterState(boot_id="b", boottime_ns=n, monotonic_ns=n)})
        if n % 20 == 19 or share is shares[-1]:
            ledger.commit(batch, share.end_utc_ns)
            batch = Batch()
    totals = ledger.totals
    ledger.close()
    return totals


def hold(state: Path, totals: Totals, shares: Sequence[Share]) -> None:
    """No row of one kind overlaps the next, and rows, counters and what was fed in are the same."""
    kinds: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for row in rows(state):
        kinds[row.uuid, row.workload, row.component].append(row)
    for kind in kinds.values():
        assert all(earlier.end_ns <= later.start_ns for earlier, later in pairwise(kind))
    energy = [row for row in rows(state) if row.component == "energy"]
    fed_mj, fed_ns = sum(share.energy_mj for share in shares), sum(share.gpu_ns for share in shares)
    assert sum(row.energy_mj for row in energy) == sum(totals.energy_mj.values()) == fed_mj
    assert sum(row.gpu_ns for row in energy) == sum(totals.gpu_ns.values()) == fed_ns
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
        (booked_nano,) = db.execute("SELECT SUM(cost_nano) FROM usage").fetchone()
        assert db.execute(
            "SELECT * FROM summary s WHERE span_ns <> (SELECT MAX(span_ns) FROM usage u WHERE u.start_ns = s.start_ns "
            "AND u.workload = s.workload AND u.currency = s.currency)").fetchall() == []
    assert booked_nano == sum(totals.cost_nano.values()) - sum(totals.credit_nano.values()) > 0


def minutes(found: Sequence[Row], zone: str) -> list[tuple[str, str, str]]:
    def local(at_ns: int) -> str:
        return dt.datetime.fromtimestamp(at_ns // NS_PER_S, ZoneInfo(zone)).strftime("%H:%M")

    return [(local(row.start_ns), local(row.end_ns), row.rate) for row in found]


@pytest.mark.parametrize(("zone", "day"), [
    ("Asia/Shanghai", "2026-03-01"), ("Asia/Kathmandu", "2026-03-01"), ("Australia/Lord_Howe", "2026-03-01"),
    ("Australia/Lord_Howe", "2026-04-05"),       # 2:00 becomes 1:30 in this night
    ("Australia/Lord_Howe", "2026-10-04"), ("Africa/Monrovia", "1971-03-01")])      # 44 minutes and 30 seconds behind UTC
def test_rows_end_where_a_price_does(tmp_path: Path, zone: str, day: str) -> None:
    given = tariff(tmp_path, RATES, RULES, zone)
    start_ns = instant_ns(f"{day}T00:00", zone)
    shares = ticks(start_ns, start_ns + DAY_NS)
    totals = booked(tmp_path / "state", pricing(given), shares)
    hold(tmp_path / "state", totals, shares)
    found = rows(tmp_path / "state")
    for row in found:
        assert 0 < row.end_ns - row.start_ns <= BUCKET_NS
        if row.component == "energy":            # the tariff itself is the oracle, minute by minute
            instants = [*range(row.start_ns, row.end_ns, MINUTE_NS), row.end_ns - 1]
            assert {given.price_at(at_ns).rate for at_ns in instants} == {row.rate}
            assert row.gpu_ns == min(row.end_ns, start_ns + DAY_NS) - max(row.start_ns, start_ns)
    change_ns = instant_ns(f"{day}T06:11", zone)
    assert {row.rate for row in found if row.end_ns == change_ns and row.component == "energy"} == {"night"}
    assert {row.rate for row in found if row.start_ns == change_ns and row.component == "energy"} == {"day"}


def test_the_rows_around_eleven_past_six(tmp_path: Path) -> None:
    zone = "Asia/Kathmandu"
    start_ns = instant_ns("2026-03-01T06:00", zone)
    shares = ticks(start_ns, start_ns + NS_PER_HOUR // 2)
    booked(tmp_path / "state", pricing(tariff(tmp_path, RATES, RULES, zone)), shares)
    found = rows(tmp_path / "state")
    expected = [("06:00", "06:11", "night"), ("06:11", "06:15", "day"), ("06:15", "06:30", "day")]
    assert minutes([row for row in found if row.component == "energy"], zone) == expected
    assert minutes([row for row in found if row.component == "hardware"], zone) == [(a, b, "") for a, b, _ in expected]


def test_what_comes_late_and_in_any_order_lands_in_the_same_rows(tmp_path: Path) -> None:
    hours = '"05:58-06:03", "06:04-06:11", "06:13-06:14"'
    given = tariff(tmp_path, RATES, f'{{ rate = "night", hours = [{hours}] }}, {{ rate = "day" }}')
    start_ns = instant_ns("2026-03-01T05:40", "Asia/Shanghai")
    shares = ticks(start_ns, start_ns + NS_PER_HOUR)
    totals = booked(tmp_path / "a", pricing(given), shares)
    hold(tmp_path / "a", totals, shares)
    random.Random(1).shuffle(shares)
    totals = booked(tmp_path / "b", pricing(given), shares)
    hold(tmp_path / "b", totals, shares)
    assert rows(tmp_path / "b") == rows(tmp_path / "a")
    assert len({row.start_ns for row in rows(tmp_path / "a")}) == 5 + 6      # quarters, and changes within them


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_every_instant_of_a_slot_finds_the_same_one(tmp_path: Path, order: str) -> None:
    given = tariff(tmp_path, RATES, '{ rate = "night", hours = ["05:58-06:03", "06:11-06:13"] }, { rate = "day" }')
    start_ns = instant_ns("2026-03-01T05:45", "Asia/Shanghai")
    priced = pricing(given)
    seconds = range(30 * 60) if order == "forward" else range(30 * 60 - 1, -1, -1)
    slots = set()
    for second in seconds:
        at_ns = start_ns + second * NS_PER_S
        share = Share(uuid=UUID, workload=KRONOS, start_utc_ns=at_ns, end_utc_ns=at_ns + NS_PER_S, energy_mj=1,
                      gpu_ns=NS_PER_S, method="sole")
        for piece in priced.charge(share, H100):
            assert piece.slot_utc_ns[0] <= piece.start_utc_ns < piece.end_utc_ns <= piece.slot_utc_ns[1]
            slots.add(piece.slot_utc_ns)
    edges = [start_ns + minute * MINUTE_NS for minute in (0, 13, 15, 18, 26, 28, 30)]
    assert slots == set(pairwise(edges))


def test_a_rent_that_changes_cuts_its_own_device_only(tmp_path: Path) -> None:
    given = tariff(tmp_path, "flat = 1")
    start_ns = instant_ns("2026-03-01T23:30")
    series = Series(array("q", [start_ns - DAY_NS, start_ns + 7 * MINUTE_NS]), array("q", [100, 125]), 2)
    spot = Hardware(gpu="NVIDIA A100*", rent_series=RentSeries(series=series, missing="last"), currency="CNY")
    priced = Pricing(given, "t", Decimal(1), (spot, Hardware(gpu="*", price=Decimal(1), years=Decimal(1))), None, {})
    rented = ticks(start_ns, start_ns + BUCKET_NS)
    totals = booked(tmp_path / "rented", priced, rented, "NVIDIA A100")
    hold(tmp_path / "rented", totals, rented)
    seven = [("23:30", "23:37", 10**15), ("23:37", "23:45", 125 * 10**13)]
    assert [(*minutes([row], "UTC")[0][:2], row.price) for row in rows(tmp_path / "rented") if row.component == "rent"] == seven
    booked(tmp_path / "owned", priced, ticks(start_ns, start_ns + BUCKET_NS), H100)
    assert {row.end_ns - row.start_ns for row in rows(tmp_path / "owned")} == {BUCKET_NS}


def test_carbon_cuts_charges_and_no_row(tmp_path: Path) -> None:
    start_ns = instant_ns("2026-03-01T12:00")
    carbon = CarbonSeries(Series(array("q", [0, start_ns + 7 * MINUTE_NS]), array("q", [400, 800]), 0))
    priced = Pricing(tariff(tmp_path, "flat = 1"), "t", Decimal(1), (), carbon, {})
    shares = ticks(start_ns, start_ns + BUCKET_NS)
    assert {charge.end_utc_ns for share in shares for charge in priced.charge(share, H100)} >= {start_ns + 7 * MINUTE_NS}
    booked(tmp_path / "state", priced, shares)
    assert [(row.start_ns, row.end_ns) for row in rows(tmp_path / "state")] == [(start_ns, start_ns + BUCKET_NS)]


def a_day(tmp_path: Path, given: RuledTariff, zone: str) -> tuple[list[Share], int]:
    start_ns = instant_ns("2026-04-05T00:00", zone)
    shares = ticks(start_ns, start_ns + DAY_NS) + ticks(start_ns, start_ns + DAY_NS // 2, "GPU-2", OTHER)
    booked(tmp_path / "state", pricing(given), shares)
    return shares, start_ns


def reloaded(state: Path) -> Totals:
    ledger = Ledger(state, 0)
    ledger.close()
    return ledger.totals


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"])
def test_hours_of_a_roll_up_keep_to_the_time_of_each_price(tmp_path: Path, zone: str) -> None:
    given = tariff(tmp_path, RATES, RULES, zone)
    shares, start_ns = a_day(tmp_path, given, zone)
    before = sum(row.energy_mj for row in rows(tmp_path / "state") if row.rate == "night")
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo(zone), 0, 1_000 * DAY_NS, start_ns + 3 * DAY_NS)
    hold(tmp_path / "state", reloaded(tmp_path / "state"), shares)
    found = [row for row in rows(tmp_path / "state") if row.uuid == UUID and row.component == "energy"]
    shown = minutes(found, zone)
    assert {("06:00", "06:11", "night"), ("06:11", "07:00", "day"), ("22:00", "22:07", "day"),
            ("22:07", "23:00", "night"), ("12:00", "13:00", "day")} <= set(shown)
    assert all(given.price_at(row.start_ns).rate == row.rate == given.price_at(row.end_ns - 1).rate for row in found)
    assert len(shown) <= 25 + 2 + 1
    assert sum(row.energy_mj for row in rows(tmp_path / "state") if row.rate == "night") == before
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)) as db:     # and days are whole
        roll_up(db, ZoneInfo(zone), 0, 0, start_ns + 3 * DAY_NS)
        assert verify(db) == []
    assert sum(row.energy_mj for row in rows(tmp_path / "state") if row.rate == "night") == before
    assert len([row for row in rows(tmp_path / "state") if row.uuid == UUID and row.component == "energy"]) <= 2 * 2


def test_how_the_hosts_cost_was_split_cuts_no_hour(tmp_path: Path) -> None:
    """By CPU time in one half of it, by GPU time in the other: two rates, and no price has changed."""
    priced = Pricing(tariff(tmp_path, "flat = 1"), "t", Decimal(1), (), None, {}, host=Host(price_per_hour=Decimal(2)))
    start_ns = instant_ns("2026-03-01T12:00")
    ledger, batch = Ledger(tmp_path / "state", start_ns), Batch()
    for n in range(4):
        at_ns = start_ns + n * BUCKET_NS
        (share,) = ticks(at_ns, at_ns + TICK_NS)
        charges = priced.charge_host(HostSpan(at_ns, at_ns + TICK_NS, watched=True), [share], {KRONOS: 1} if n < 2 else {}, 0.5)
        used = interval(share.energy_mj, share.gpu_ns, start_utc_ns=at_ns)
        batch.add("s", n, {UUID: H100}, [used], {UUID: "active"}, [*priced.charge(share, H100), *charges], {})
    ledger.commit(batch, start_ns)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo("UTC"), 0, 1_000 * DAY_NS, start_ns + DAY_NS)
        assert verify(db) == []
    assert [(row.component, row.rate, row.end_ns - row.start_ns) for row in rows(tmp_path / "state")] == [
        ("energy", "flat", NS_PER_HOUR), ("host", "", NS_PER_HOUR), ("host", "by GPU time", NS_PER_HOUR)]


@pytest.mark.parametrize("rolled", [False, True])
def test_a_re_rating_prices_each_row_by_its_own_time(tmp_path: Path, rolled: bool) -> None:
    """Rows cut at 06:11 and 22:07 are of one price each: rated again at other prices, every kWh gets the one of its time."""
    zone = "Asia/Shanghai"
    shares, start_ns = a_day(tmp_path, tariff(tmp_path, RATES, RULES, zone), zone)
    state = tmp_path / "state"
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        if rolled:
            roll_up(db, ZoneInfo(zone), 0, 1_000 * DAY_NS, start_ns + 3 * DAY_NS)
        by_rate = dict(db.execute("SELECT rate, SUM(energy_mj) FROM usage WHERE component = 'energy' GROUP BY rate"))
        again = Rerating(db, pricing(tariff(tmp_path, RATES, RULES, zone), ()))
        again.write(start_ns, start_ns + DAY_NS, start_ns + DAY_NS)
        assert db.execute("SELECT COUNT(*) FROM correction").fetchone() == (0,)      # the same tariff changes nothing
        dearer = tariff(tmp_path, "sun = 3, moon = 1", RULES.replace("night", "moon").replace("day", "sun"), zone)
        Rerating(db, pricing(dearer, ())).write(start_ns, start_ns + DAY_NS, start_ns + DAY_NS)
        both = "(SELECT * FROM usage UNION ALL SELECT * FROM correction)"
        found = dict(db.execute(f"SELECT rate, SUM(energy_mj) FROM {both} WHERE component = 'energy' GROUP BY rate"))
        cost = dict(db.execute(f"SELECT rate, SUM(cost_nano) FROM {both} WHERE component = 'energy' GROUP BY rate"))
        assert verify(db) == []
    assert found == {"day": 0, "night": 0, "sun": by_rate["day"], "moon": by_rate["night"]}
    assert abs(cost["sun"] + cost["moon"] - (3 * by_rate["day"] + by_rate["night"]) * 10**9 // (3_600 * 10**6)) <= 4
    assert sum(found.values()) == sum(share.energy_mj for share in shares)


@pytest.mark.parametrize("first", [7, 15])
def test_a_row_is_as_long_as_all_that_is_in_it(tmp_path: Path, first: int) -> None:
    """A reload moves a price change out of a quarter of an hour that has begun, or into it: same begin, same rate and price."""
    ledger = Ledger(tmp_path, NOON_NS)
    for sequence, minutes in enumerate((first, 22 - first)):
        end_ns = NOON_NS + minutes * 60 * NS_PER_S
        ledger.commit(batch(sequence, charges=(replace(charge(1), slot_utc_ns=(NOON_NS, end_ns)),)), NOON_NS)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        for table in ("usage", "summary"):
            assert db.execute(f"SELECT start_ns, span_ns FROM {table}").fetchall() == [(NOON_NS, 15 * 60 * NS_PER_S)]
