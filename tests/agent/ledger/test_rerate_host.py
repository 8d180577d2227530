"""Re-rating a host by power: its energy is cost over price, exactly, and its new cost that at the new price."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.cli import main
from agent.ledger.batch import Batch
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader, open_for_reading
from agent.ledger.rerate import Rerating
from agent.ledger.rollup import roll_up
from agent.ledger.verify import verify
from agent.model import Share
from agent.pricing.host_cost import HostSpan
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.settings import Host
from agent.tariffs.base import Tariff
from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR
from tests.agent.priced import H100, KRONOS, OTHER, instant_ns, tariff
from tests.agent.records import KEYS, UUID, interval

ZONE = "Asia/Shanghai"
START_NS = instant_ns("2026-03-01", ZONE)
END_NS = START_NS + 96 * BUCKET_NS
BY_POWER = Host(idle_watts=Decimal(4_000), max_watts=Decimal(4_000))     # a kWh a quarter of an hour
BY_PRICE = Host(price_per_hour=Decimal(8), currency="CNY")
DAY_AND_NIGHT = ("day = 1.25, night = 0.5", '{ rate = "night", hours = ["22:00-06:00"] }, { rate = "day" }')
BY_CPU = {KRONOS: 3, OTHER: 1}


def priced(given: Tariff | None, host: Host | None = None, pue: str = "1") -> Pricing:
    return Pricing(given, "t" if given else "", Decimal(pue), (), None, {}, host=host)


def booked(folder: Path, pricing: Pricing, cpu: dict[tuple[str, ...], int], ticks: int = 96, tick_ns: int = BUCKET_NS) -> Path:
    """A day in which two workloads use a kWh each every tick, and the host is divided between them."""
    state = folder / "state"
    ledger = Ledger(state, START_NS)
    batch = Batch()
    for n in range(ticks):
        at_ns = START_NS + n * tick_ns
        shares = [Share(uuid=UUID, workload=workload, start_utc_ns=at_ns, end_utc_ns=at_ns + tick_ns, energy_mj=MJ_PER_KWH,
                        gpu_ns=tick_ns // 2, method="equal", state="active") for workload in (KRONOS, OTHER)]
        charges = [charge for share in shares for charge in pricing.charge(share, H100)]
        charges += pricing.charge_host(HostSpan(at_ns, at_ns + tick_ns, True), shares, cpu, None)
        batch.add("s", n, {UUID: H100}, [interval(2 * MJ_PER_KWH, tick_ns, start_utc_ns=at_ns)], {UUID: "active"}, charges, {})
    ledger.commit(batch, START_NS + ticks * tick_ns)
    ledger.close()
    return state


def rerated(state: Path, pricing: Pricing) -> None:
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        Rerating(db, pricing).write(START_NS, END_NS, END_NS)
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []


def costs(state: Path, *by: str) -> dict[tuple[str, ...], int]:
    """Of the host, by keys."""
    reader = LedgerReader(state)
    rows = reader.usage(None, None, ["component", *by], KEYS, ZoneInfo(ZONE))
    reader.close()
    return {row.keys[1:]: row.cost_nano for row in rows if row.keys[0] == "host"}


def corrections(state: Path) -> int:
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        return int(db.execute("SELECT COUNT(*) FROM correction WHERE component = 'host'").fetchone()[0])


def test_a_host_by_power_costs_its_energy_at_the_new_prices(tmp_path: Path) -> None:
    state = booked(tmp_path, priced(tariff(tmp_path, "flat = 1"), BY_POWER), BY_CPU)
    assert costs(state, "project") == {("kronos",): 72 * NANO, ("chat",): 24 * NANO}
    rerated(state, priced(tariff(tmp_path, *DAY_AND_NIGHT)))
    assert costs(state, "rate") == {("flat",): 0, ("day",): 64 * 125 * NANO // 100, ("night",): 32 * NANO // 2}
    assert costs(state, "project") == {("kronos",): 72 * NANO, ("chat",): 24 * NANO}        # 80 + 16, three to one
    once = corrections(state)
    rerated(state, priced(tariff(tmp_path, *DAY_AND_NIGHT)))
    assert corrections(state) == once
    ledger = Ledger(state, END_NS)
    totals = ledger.totals
    ledger.close()
    assert sum(totals.energy_mj.values()) == 2 * 96 * MJ_PER_KWH
    assert {key[2] for key in totals.credit_nano if totals.credit_nano[key]} == {"energy", "host"}      # the nights are cheaper


def test_the_overhead_is_a_part_of_the_price(tmp_path: Path) -> None:
    flat = tariff(tmp_path, "flat = 1")
    state = booked(tmp_path, priced(flat, BY_POWER, "1.5"), BY_CPU)
    rerated(state, priced(flat, pue="1.2"))
    assert costs(state, "project") == {("kronos",): 72 * NANO * 12 // 10, ("chat",): 24 * NANO * 12 // 10}


def test_sums_are_right_to_a_nano_where_nothing_divides(tmp_path: Path) -> None:
    seconds = NS_PER_HOUR // 1_237                           # ticks that end in no quarter of an hour
    old, new = "0.7654321098765432", "0.123456789012345678"
    host = Host(idle_watts=Decimal("123.457"), max_watts=Decimal(999))
    state = booked(tmp_path, priced(tariff(tmp_path, f"old = {old}"), host), {KRONOS: 7_001, OTHER: 1_303}, 5_000, seconds)
    before = costs(state, "project")
    rerated(state, priced(tariff(tmp_path, f"new = {new}")))
    for project, nano in costs(state, "project").items():
        exact = before[project] * Fraction(new) / Fraction(old)
        assert 0 <= exact - nano < 1
    assert costs(state, "rate")["old",] == 0


def test_a_split_by_gpu_time_stays_marked(tmp_path: Path) -> None:
    state = booked(tmp_path, priced(tariff(tmp_path, "flat = 1"), BY_POWER), {})
    rerated(state, priced(tariff(tmp_path, "double = 2")))
    assert costs(state, "project", "rate") == {
        (project, rate): nano for project in ("kronos", "chat")
        for rate, nano in (("flat, by GPU time", 0), ("double, by GPU time", 96 * NANO))}


@pytest.mark.parametrize(("host", "old", "new"), [
    (BY_PRICE, "flat = 1", "double = 2"),                    # its price is its own
    (BY_POWER, "free = 0", "double = 2"),                    # at no price a cost tells no energy
    (BY_POWER, "flat = 1", ""),                              # and what is not known now takes nothing away
])
def test_what_cannot_be_rated_again_stays(tmp_path: Path, host: Host, old: str, new: str) -> None:
    state = booked(tmp_path, priced(tariff(tmp_path, old), host), BY_CPU)
    before = costs(state, "project", "rate")
    rerated(state, priced(tariff(tmp_path, new) if new else None))
    assert (costs(state, "project", "rate"), corrections(state)) == (before, 0)


def test_a_tariff_that_has_not_changed_changes_nothing(tmp_path: Path) -> None:
    odd = '{ rate = "night", hours = ["22:07-06:11"] }, { rate = "day" }'
    state = booked(tmp_path, priced(tariff(tmp_path, DAY_AND_NIGHT[0], odd), BY_POWER, "1.1"), BY_CPU)
    before = costs(state, "project", "rate")
    rerated(state, priced(tariff(tmp_path, DAY_AND_NIGHT[0], odd), pue="1.1"))
    assert (costs(state, "project", "rate"), corrections(state)) == (before, 0)


def test_tiers_that_have_not_changed_change_nothing(tmp_path: Path) -> None:
    tiers = "base = [{ upto = 101, price = 1.0 }, { price = 3.0 }]"
    state = booked(tmp_path, priced(tariff(tmp_path, tiers, period="month"), BY_POWER), BY_CPU, 4 * 96, BUCKET_NS // 4)
    # The third tick of a quarter of an hour goes over 101 kWh: the host has rows at both prices in it.
    assert sum(costs(state, "project").values()) == (50 + 334 * 3) * NANO // 4
    rerated(state, priced(tariff(tmp_path, tiers, period="month")))
    assert corrections(state) == 0


def test_rows_that_were_rolled_up_are_divided_evenly_over_their_time(tmp_path: Path) -> None:
    state = booked(tmp_path, priced(tariff(tmp_path, "flat = 1"), BY_POWER), BY_CPU)
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo(ZONE), 0, 0, END_NS + NS_PER_HOUR)
    rerated(state, priced(tariff(tmp_path, *DAY_AND_NIGHT)))
    assert costs(state, "rate") == {("flat",): 0, ("day",): 80 * NANO, ("night",): 16 * NANO}


def test_the_command_counts_the_host_in_its_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = booked(tmp_path, priced(tariff(tmp_path, "flat = 1"), BY_POWER), BY_CPU)
    tariff(tmp_path, "double = 2")
    file = tmp_path / "tariff.toml"
    file.write_text(f'site = {{ tariff = "t" }}\n{file.read_text()}')
    assert main(["rerate", "--from", "2026-03-01", "--to", "2026-03-02", "--config.file", str(file), "--state.dir",
                 str(state)]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "chat     120.0000     240.0000   +120.0000  CNY", "kronos   168.0000     336.0000   +168.0000  CNY"]
    assert sum(costs(state, "project").values()) == 2 * 96 * NANO
