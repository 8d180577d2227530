"""The host's cost from readings to the ledger's totals: by CPU time, whole, and through a restart of the agent."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.model import HostReading, ProcessCpu, ProcessFacts, ProcessUse, Snapshot, Totals
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.settings import Host, Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.tariffs.base import Tariff
from agent.units import NANO, NS_PER_HOUR, NS_PER_S
from tests.agent.pricing.test_pricing import FLAT, Steps
from tests.agent.random_fleet import HandClock
from tests.agent.records import KEYS, device, reading

A, B = ("a", "", "", ""), ("b", "", "", "")
FACTS = (ProcessFacts(pid=1, start_ticks=10, environ={"FINOPS_PROJECT": "a"}),
         ProcessFacts(pid=2, start_ticks=20, environ={"FINOPS_PROJECT": "b"}))
HOST = Host(price_per_hour=Decimal("3.6"), currency="CNY")       # a milli-unit a second


class Machine:
    """Two devices with a process each; the first process uses three times the CPU of the second."""

    def __init__(self, folder: Path, host: Host = HOST, tariff: Tariff | None = None, pue: str = "1") -> None:
        self.host, self.tariff, self.pue = host, tariff, Decimal(pue)
        self.clock, self.folder, self.sequence, self.seconds = HandClock(), folder, 0, 0
        self.open("s0")

    def open(self, session: str) -> None:
        self.session, self.fresh = session, True
        self.ledger = Ledger(self.folder, self.clock.utc_ns())
        resolver = WorkloadResolver(Tags())
        pricing = Pricing(self.tariff, "t" if self.tariff else "", self.pue, (), None, self.ledger.carries(), host=self.host)
        self.pipeline = Pipeline(
            Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS), pricing=pricing,
                   idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC")), self.ledger, self.clock, 0)

    def close(self) -> Totals:
        self.pipeline.journal.flush(self.clock.utc_ns())
        totals = self.ledger.totals
        self.ledger.close()
        return totals

    def tick(self, *, look: bool, after_s: int = 1, unseen: bool = False) -> Snapshot:
        """``unseen``: the second device does not tell its processes."""
        self.clock.boot_ns += after_s * NS_PER_S
        self.seconds += after_s
        at_ns = self.clock.boot_ns
        cpu = (ProcessCpu(1, 10, self.seconds * 3_000), ProcessCpu(2, 20, self.seconds * 1_000)) if look else ()
        seen = [device(at_ns - 1_000 * (2 - i), uuid=f"GPU-{i}", energy_mj=self.seconds * 1_000, power_mw=1_000,
                       processes=None if unseen and i == 2 else (ProcessUse(i, i * 10, None),)) for i in (1, 2)]
        snapshot = self.pipeline.tick(reading(
            at_ns, *seen, sequence=self.sequence, session=self.session, started=FACTS if self.fresh else (), process_cpu=cpu,
            host=HostReading(0.25, None, None, None)))
        self.sequence, self.fresh = self.sequence + 1, False
        return snapshot


def host_nano(totals: Totals) -> dict[tuple[str, str], int]:
    return {(uuid, workload[0]): nano for (uuid, workload, component, currency), nano in totals.cost_nano.items()
            if (component, currency) == ("host", "CNY")}


def test_by_cpu_time_from_the_second_look_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for _ in range(3):                           # the first reading opens; two seconds by GPU time, half and half
        machine.tick(look=machine.sequence == 0)
    for second in range(8):                      # eight seconds by CPU time, three to one
        machine.tick(look=second % 4 == 0)
    totals = machine.close()
    assert host_nano(totals) == {("GPU-1", "a"): 1_000_000 + 6_000_000, ("GPU-2", "b"): 1_000_000 + 2_000_000}
    assert sum(totals.energy_mj.values()) == sum(totals.device_energy_mj.values()) == 2 * 10 * 1_000


def test_a_restart_loses_and_doubles_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.tick(look=True)
    for _ in range(4):
        machine.tick(look=True)
    machine.close()
    machine.open("s1")
    machine.tick(look=True, after_s=60)          # the minute in which nobody watched has its price all the same
    machine.tick(look=True)
    totals = machine.close()
    assert sum(host_nano(totals).values()) == (4 + 60 + 1) * 1_000_000


IN_EUR = Host(price_per_hour=Decimal("3.6"), currency="EUR")
BY_POWER = Host(idle_watts=Decimal(200), max_watts=Decimal(600))         # 300 W at a quarter of its CPUs


def rates(snapshot: Snapshot) -> dict[str, int | None]:
    return {status.workload[0]: status.cost_nano_per_hour for status in snapshot.workloads}


@pytest.mark.parametrize(("host", "pue", "host_nano", "device_nano"), [
    (HOST, "1.5", 36 * NANO // 10, 1_440_000),        # a watt at 0.96 x 1.5 on each device
    (BY_POWER, "1.5", 432_000_000, 1_440_000),                   # 0.3 kWh x 1.44
    (BY_POWER, "1", 288_000_000, 960_000),
])
def test_the_rate_of_spending_has_the_hosts_part_in_it(tmp_path: Path, host: Host, pue: str, host_nano: int,
                                                       device_nano: int) -> None:
    machine = Machine(tmp_path, host, FLAT, pue)
    machine.tick(look=True)
    by_gpu_time = machine.tick(look=False)
    assert rates(by_gpu_time) == {"a": host_nano // 2 + device_nano, "b": host_nano // 2 + device_nano}
    by_cpu_time = machine.tick(look=True)
    assert rates(by_cpu_time) == {"a": host_nano * 3 // 4 + device_nano, "b": host_nano // 4 + device_nano}
    machine.close()


@pytest.mark.parametrize("host", [HOST, BY_POWER])
def test_the_rate_of_spending_is_what_an_hour_at_it_is_booked_as(tmp_path: Path, host: Host) -> None:
    machine = Machine(tmp_path, host, FLAT)
    for _ in range(3):
        machine.tick(look=True)
    before = spent(machine)
    seen = machine.tick(look=False, after_s=1)
    booked = {name: nano - before[name] for name, nano in spent(machine).items()}
    for name, nano_per_hour in rates(seen).items():
        assert nano_per_hour is not None
        assert abs(booked[name] - nano_per_hour * NS_PER_S // NS_PER_HOUR) <= 4          # two components, two roundings
    machine.close()


def spent(machine: Machine) -> dict[str, int]:
    machine.pipeline.journal.flush(machine.clock.utc_ns())
    sums: dict[str, int] = {}
    for (_, workload, _, _), nano in machine.ledger.totals.cost_nano.items():
        sums[workload[0]] = sums.get(workload[0], 0) + nano
    return sums


def test_a_host_whose_price_nobody_knows_makes_the_rate_unknown(tmp_path: Path) -> None:
    unknown = Machine(tmp_path / "power", BY_POWER, Steps([(0, "spot", "?")]))
    for _ in range(2):
        seen = unknown.tick(look=False)
    assert rates(seen) == {"a": None, "b": None}
    unknown.close()
    other = Machine(tmp_path / "other", IN_EUR, FLAT)            # beside a site in CNY: a sum of both would be nothing
    for _ in range(2):
        seen = other.tick(look=False)
    assert rates(seen) == {"a": 960_000, "b": 960_000}
    other.close()


def test_a_device_that_names_nobody_bears_its_part_too(tmp_path: Path) -> None:
    machine = Machine(tmp_path, HOST, FLAT)
    for _ in range(3):
        seen = machine.tick(look=False, unseen=True)             # and nobody's CPU time is known
    assert sum(nano or 0 for nano in rates(seen).values()) == 36 * NANO // 10 + 2 * 960_000
    assert "b" not in rates(seen)
    machine.close()
