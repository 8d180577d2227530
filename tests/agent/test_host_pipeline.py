"""The host's cost from readings to the ledger's totals: by CPU time, whole, and through a restart of the agent."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.model import ProcessCpu, ProcessFacts, ProcessUse, Totals
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.settings import Host, Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.units import NS_PER_S
from tests.agent.random_fleet import HandClock
from tests.agent.records import KEYS, device, reading

A, B = ("a", "", "", ""), ("b", "", "", "")
FACTS = (ProcessFacts(pid=1, start_ticks=10, environ={"FINOPS_PROJECT": "a"}),
         ProcessFacts(pid=2, start_ticks=20, environ={"FINOPS_PROJECT": "b"}))
HOST = Host(price_per_hour=Decimal("3.6"), currency="CNY")       # a milli-unit a second


class Machine:
    """Two devices with a process each; the first process uses three times the CPU of the second."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.folder, self.sequence, self.seconds = HandClock(), folder, 0, 0
        self.open("s0")

    def open(self, session: str) -> None:
        self.session, self.fresh = session, True
        self.ledger = Ledger(self.folder, self.clock.utc_ns())
        resolver = WorkloadResolver(Tags())
        pricing = Pricing(None, "", Decimal(1), (), None, self.ledger.carries(), host=HOST)
        self.pipeline = Pipeline(
            Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS), pricing=pricing,
                   idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC")), self.ledger, self.clock, 0)

    def close(self) -> Totals:
        self.pipeline.journal.flush(self.clock.utc_ns())
        totals = self.ledger.totals
        self.ledger.close()
        return totals

    def tick(self, *, look: bool, after_s: int = 1) -> None:
        self.clock.boot_ns += after_s * NS_PER_S
        self.seconds += after_s
        at_ns = self.clock.boot_ns
        cpu = (ProcessCpu(1, 10, self.seconds * 3_000), ProcessCpu(2, 20, self.seconds * 1_000)) if look else ()
        seen = [device(at_ns - 1_000 * (2 - i), uuid=f"GPU-{i}", energy_mj=self.seconds * 1_000, power_mw=1_000,
                       processes=(ProcessUse(i, i * 10, None),)) for i in (1, 2)]
        self.pipeline.tick(reading(at_ns, *seen, sequence=self.sequence, session=self.session,
                                   started=FACTS if self.fresh else (), process_cpu=cpu))
        self.sequence, self.fresh = self.sequence + 1, False


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
