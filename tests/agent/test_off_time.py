"""A machine that was off: what is owed for every hour of the wall clock is booked for those hours too, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader
from agent.model import Totals
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.settings import Hardware, Host, Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.units import NANO, NS_PER_HOUR, NS_PER_S
from tests.agent.random_fleet import HandClock
from tests.agent.records import KEYS, NOON_NS, UUID, device, reading

IDLE = ("__idle__", "", "", "")
OWNED = Hardware(gpu="*", price=Decimal(250_000), salvage=Decimal(25_000), years=Decimal(4),
                 maintenance_per_year=Decimal(8_760), currency="CNY")
RESERVED = Hardware(gpu="*", reserved_per_gpu_hour=Decimal("14.4"), currency="CNY")
ON_DEMAND = Hardware(gpu="*", rent_per_gpu_hour=Decimal("14.4"), currency="CNY")
HOST = Host(price_per_hour=Decimal("3.6"), currency="CNY")


class Machine:
    """One GPU. ``boot`` begins a new life of the machine; each ``tick`` is a second."""

    def __init__(self, folder: Path, hardware: Hardware, host: Host | None = None) -> None:
        self.folder, self.hardware, self.host = folder, hardware, host
        self.clock, self.utc_ns, self.boots, self.ticks = HandClock(), NOON_NS, 0, 0
        self.boot(0)

    def boot(self, off_ns: int) -> None:
        self.boots += 1
        self.utc_ns += off_ns
        self.up_ns = 0
        self.ledger = Ledger(self.folder, self.utc_ns)
        resolver = WorkloadResolver(Tags())
        self.pipeline = Pipeline(
            Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS),
                   pricing=Pricing(None, "", Decimal(1), (self.hardware,), None, self.ledger.carries(), host=self.host),
                   idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC")), self.ledger, self.clock, 0)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.utc_ns += NS_PER_S
            self.up_ns += NS_PER_S
            self.ticks += 1
            seen = device(self.up_ns, energy_mj=self.up_ns // NS_PER_S * 100, power_mw=100, processes=())
            told = reading(self.up_ns, seen, sequence=self.ticks, session=f"boot {self.boots}", boot_id=f"boot {self.boots}")
            self.pipeline.tick(replace(told, utc_ns=self.utc_ns))

    def down(self) -> Totals:
        self.pipeline.journal.flush(self.utc_ns)
        totals = self.ledger.totals
        self.ledger.close()
        return totals


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "state"


def costs(totals: Totals) -> dict[tuple[str, str], int]:
    return {(workload[0], component): nano for (_, workload, component, _), nano in totals.cost_nano.items()}


def test_amortisation_goes_by_the_wall_clock(folder: Path) -> None:
    """11 s, 3 h off, 11 s: hardware and maintenance for 3 h and 22 s less the second before the first reading."""
    machine = Machine(folder, OWNED)
    machine.tick(11)
    before = machine.down()
    machine.boot(3 * NS_PER_HOUR)
    machine.tick(11)
    after = machine.down()
    whole_ns = 3 * NS_PER_HOUR + 21 * NS_PER_S
    rate = Decimal(225_000) / (4 * 8_760)
    hardware = rate * whole_ns / NS_PER_HOUR * NANO
    assert abs(costs(after)["__idle__", "hardware"] - hardware) <= 1
    assert abs(costs(after)["__idle__", "maintenance"] - Decimal(whole_ns) / NS_PER_HOUR * NANO) <= 1
    assert after.device_energy_mj[UUID] == before.device_energy_mj[UUID] + 1_000     # nothing was drawn, as far as is known
    assert after.device_gap_ns == before.device_gap_ns
    off_nano = (rate + 1) * (3 * NS_PER_HOUR + NS_PER_S) / NS_PER_HOUR * NANO
    assert abs(after.state_cost_nano[UUID, IDLE, "unknown", "CNY"] - off_nano) <= 2      # no waste is made of it
    assert abs(after.waste_nano[UUID, IDLE, "unallocated", "CNY"] - (rate + 1) * 20 / 3600 * NANO) <= 3
    reader = LedgerReader(folder)
    (_, first) = reader.usage(NOON_NS, NOON_NS + NS_PER_HOUR, (), KEYS, ZoneInfo("UTC"))       # behind the unpriced energy
    reader.close()
    assert abs(first.cost_nano - (rate + 1) * (NS_PER_HOUR - NS_PER_S) / NS_PER_HOUR * NANO) <= 2     # in the hour it is for


@pytest.mark.parametrize(("hardware", "hours"), [(RESERVED, 3), (ON_DEMAND, 0)], ids=["reserved", "on demand"])
def test_a_reservation_is_owed_while_off_and_rent_by_the_hour_is_not(folder: Path, hardware: Hardware, hours: int) -> None:
    machine = Machine(folder, hardware)
    machine.tick(11)
    machine.down()
    machine.boot(3 * NS_PER_HOUR - NS_PER_S)
    machine.tick(11)
    assert costs(machine.down()) == {("__idle__", "rent"): (hours * 3600 + 20) * 4_000_000}      # 14.4 an hour


@pytest.mark.parametrize(("hardware", "hours"), [(OWNED, 3), (ON_DEMAND, 0)], ids=["owned", "on demand"])
def test_an_owned_host_is_owed_while_off(folder: Path, hardware: Hardware, hours: int) -> None:
    machine = Machine(folder, hardware, HOST)
    machine.tick(11)
    machine.down()
    machine.boot(3 * NS_PER_HOUR - NS_PER_S)
    machine.tick(11)
    assert costs(machine.down())["__idle__", "host"] == (hours * 3600 + 20) * 1_000_000


@pytest.mark.parametrize("off_ns", [-NS_PER_HOUR, 93 * 24 * NS_PER_HOUR], ids=["before", "far after"])
def test_a_wall_clock_that_cannot_be_right_is_not_believed(folder: Path, off_ns: int, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(folder, RESERVED)
    machine.tick(11)
    machine.down()
    machine.boot(off_ns)
    machine.tick(11)
    assert costs(machine.down()) == {("__idle__", "rent"): 20 * 4_000_000}
    assert caplog.text.count("nothing is charged for the time in between") == 1


def test_a_restart_of_the_agent_alone_is_no_time_off(folder: Path) -> None:
    machine = Machine(folder, RESERVED)
    machine.tick(11)
    machine.down()
    up_ns = machine.up_ns
    machine.boot(0)
    machine.boots, machine.up_ns = 1, up_ns
    machine.tick(11)
    assert sum(costs(machine.down()).values()) == 21 * 4_000_000
