"""A machine that was off: what is owed for every hour of the wall clock is booked for those hours too, once; nothing else."""

from __future__ import annotations

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
from tests.agent.records import KEYS, NOON_NS, device, reading

A, B = "GPU-a", "GPU-b"
IDLE, UNKNOWN = "__idle__", "__unattributed__"
OWNED = Hardware(gpu="*", price=Decimal(252_288), years=Decimal(4), maintenance_per_year=Decimal(63_072), currency="CNY")
HARDWARE_NANO, MAINTENANCE_NANO = 2_000_000, 2_000_000       # a second: 7.2 an hour each
RESERVED = Hardware(gpu="*", reserved_per_gpu_hour=Decimal("14.4"), currency="CNY")
ON_DEMAND = Hardware(gpu="*", rent_per_gpu_hour=Decimal("14.4"), currency="CNY")
RENT_NANO = 4_000_000                                        # a second
HOST = Host(price_per_hour=Decimal("3.6"), currency="CNY")
HOST_NANO = 1_000_000


class Machine:
    """GPUs with nobody on them, 100 mW each. ``boot`` begins a new life of the machine."""

    def __init__(self, folder: Path, hardware: Hardware = OWNED, host: Host | None = None) -> None:
        self.folder, self.hardware, self.host = folder, hardware, host
        self.utc_ns, self.boots, self.ticks = NOON_NS, 0, 0
        self.boot(0)

    def boot(self, off_s: int) -> None:
        self.boots += 1
        self.utc_ns += off_s * NS_PER_S
        self.up_ns = 0
        self.start()

    def start(self) -> None:
        self.ledger = Ledger(self.folder, self.utc_ns)
        resolver = WorkloadResolver(Tags())
        self.pipeline = Pipeline(
            Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS),
                   pricing=Pricing(None, "", Decimal(1), (self.hardware,), None, self.ledger.carries(), host=self.host),
                   idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC")), self.ledger, HandClock(), 0)

    def tick(self, times: int = 1, after_s: int = 1, seen: tuple[str, ...] = (A,), failed: tuple[str, ...] = ()) -> None:
        for _ in range(times):
            self.utc_ns += after_s * NS_PER_S
            self.up_ns += after_s * NS_PER_S
            self.ticks += 1
            devices = [device(self.up_ns, uuid=uuid, energy_mj=self.up_ns // NS_PER_S * 100, power_mw=100)
                       for uuid in seen if uuid not in failed]
            devices += [device(self.up_ns, uuid=uuid, failed="GPU is lost") for uuid in failed]
            told = reading(self.up_ns, *devices, sequence=self.ticks, session=f"{self.boots}", boot_id=f"boot {self.boots}")
            self.pipeline.tick(replace(told, utc_ns=self.utc_ns))

    def down(self) -> Totals:
        self.pipeline.journal.flush(self.utc_ns)
        totals = self.ledger.totals
        self.ledger.close()
        return totals


def costs(totals: Totals) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for (_, workload, component, _), nano in totals.cost_nano.items():
        sums[workload[0], component] = sums.get((workload[0], component), 0) + nano
    return sums


def whole(totals: Totals, component: str) -> int:
    return sum(nano for (_, found), nano in costs(totals).items() if found == component)


def lives(folder: Path, off_s: int, hardware: Hardware = OWNED, host: Host | None = None,
          seen: tuple[str, ...] = (A,)) -> Totals:
    """10 s watched, so long off, then 11 s and, unwatched, up to eleven minutes."""
    machine = Machine(folder, hardware, host)
    machine.tick(11, seen=seen)
    machine.down()
    machine.boot(off_s)
    machine.tick(11, seen=seen)
    machine.tick(after_s=649, seen=seen)
    return machine.down()


def test_a_write_off_goes_by_the_wall_clock_and_energy_by_its_counter(tmp_path: Path) -> None:
    totals = lives(tmp_path / "state", 3 * 3600)
    seconds = 10 + 3 * 3600 + 660
    assert whole(totals, "hardware") == seconds * HARDWARE_NANO
    assert whole(totals, "maintenance") == seconds * MAINTENANCE_NANO
    assert costs(totals)[IDLE, "hardware"] == (21 + 3 * 3600) * HARDWARE_NANO        # nobody was there
    assert costs(totals)[UNKNOWN, "hardware"] == 649 * HARDWARE_NANO                 # nobody watched
    assert totals.device_energy_mj == {A: (10 + 660) * 100}      # the new counter began with the machine
    assert totals.device_gap_ns == {A: 0}
    assert totals.waste_nano[A, (IDLE, "", "", ""), "unallocated", "CNY"] == 21 * (HARDWARE_NANO + MAINTENANCE_NANO)
    reader = LedgerReader(tmp_path / "state")
    row = reader.usage(NOON_NS, NOON_NS + NS_PER_HOUR, ("component",), KEYS, ZoneInfo("UTC"))[1]
    reader.close()
    assert (row.keys, row.cost_nano) == (("hardware",), 3599 * HARDWARE_NANO)        # in the hours that it is for


@pytest.mark.parametrize(("hardware", "off_s"), [(RESERVED, 3 * 3600), (ON_DEMAND, 0)], ids=["reserved", "on demand"])
def test_a_reservation_is_owed_while_off_and_rent_by_the_hour_is_not(tmp_path: Path, hardware: Hardware, off_s: int) -> None:
    assert whole(lives(tmp_path, 3 * 3600, hardware), "rent") == (10 + off_s + 660) * RENT_NANO


@pytest.mark.parametrize(("hardware", "off_s"), [(OWNED, 3 * 3600), (ON_DEMAND, 0)], ids=["owned", "on demand"])
def test_a_host_of_ones_own_is_owed_while_off_whatever_devices_it_has(tmp_path: Path, hardware: Hardware, off_s: int) -> None:
    totals = lives(tmp_path, 3 * 3600, hardware, HOST, seen=(A, B))
    assert whole(totals, "host") == (10 + off_s + 660) * HOST_NANO


@pytest.mark.parametrize("off_s", [-3600, 93 * 24 * 3600], ids=["before", "far after"])
def test_a_wall_clock_that_cannot_be_right_is_not_believed(tmp_path: Path, off_s: int,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    assert whole(lives(tmp_path, off_s, RESERVED), "rent") == (10 + 660) * RENT_NANO
    assert caplog.text.count(f"{A}: last read at") == 1


def test_a_clock_that_is_wrong_at_the_start_has_been_set_before_it_is_asked(tmp_path: Path) -> None:
    """Off for 3 h; the clock of the board is 8 h ahead, and put right after a minute."""
    machine = Machine(tmp_path, RESERVED, HOST)
    machine.tick(11)
    machine.down()
    machine.boot(11 * 3600)
    machine.tick(60)
    machine.utc_ns -= 8 * 3600 * NS_PER_S
    machine.tick(after_s=600)
    totals = machine.down()
    assert whole(totals, "rent") == (10 + 3 * 3600 + 660) * RENT_NANO
    assert whole(totals, "host") == (10 + 3 * 3600 + 660) * HOST_NANO


def test_devices_that_come_back_one_after_the_other_charge_the_host_once(tmp_path: Path) -> None:
    """One is lost at the start and back after twenty hours; the other fails in that very tick."""
    machine = Machine(tmp_path, OWNED, HOST)
    machine.tick(11, seen=(A, B))
    machine.down()
    machine.boot(3 * 3600)
    machine.tick(11, failed=(B,))
    machine.tick(20, after_s=3600, failed=(B,))
    machine.tick(seen=(B,), failed=(A,))
    machine.tick(seen=(A, B))
    totals = machine.down()
    up_s = 11 + 20 * 3600 + 2
    assert abs(whole(totals, "host") - (10 + 3 * 3600 + up_s) * HOST_NANO) < 4       # remainders are carried by workload
    assert whole(totals, "hardware") == 2 * (10 + 3 * 3600 + up_s) * HARDWARE_NANO


def test_two_starts_within_ten_minutes_lose_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, RESERVED, HOST)
    machine.tick(11)
    machine.down()
    machine.boot(3600)
    machine.tick(60)
    machine.down()
    machine.boot(1800)
    machine.tick(30)
    machine.down()
    machine.start()                              # the agent alone, in between
    machine.tick(after_s=600)
    totals = machine.down()
    seconds = 10 + 3600 + 60 + 1800 + 630
    assert (whole(totals, "rent"), whole(totals, "host")) == (seconds * RENT_NANO, seconds * HOST_NANO)


def test_up_and_unwatched_is_not_off(tmp_path: Path) -> None:
    """A day up before the agent starts: rent by the hour is owed for it, and what the counter has is somebody's."""
    machine = Machine(tmp_path, ON_DEMAND)
    machine.tick(11)
    machine.down()
    machine.boot(3600)
    machine.tick(after_s=24 * 3600)
    totals = machine.down()
    assert costs(totals) == {(IDLE, "rent"): 10 * RENT_NANO, (UNKNOWN, "rent"): 24 * 3600 * RENT_NANO}
    assert totals.energy_mj[A, (UNKNOWN, "", "", "")] == 24 * 3600 * 100
    assert sum(totals.cost_nano.values()) == (10 + 24 * 3600) * RENT_NANO < 100 * 24 * NANO


def test_a_restart_of_the_agent_alone_is_no_time_off(tmp_path: Path) -> None:
    machine = Machine(tmp_path, RESERVED, HOST)
    machine.tick(11)
    machine.down()
    machine.start()
    machine.tick(11)
    totals = machine.down()
    assert (whole(totals, "rent"), whole(totals, "host")) == (21 * RENT_NANO, 21 * HOST_NANO)
