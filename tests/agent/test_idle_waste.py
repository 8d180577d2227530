"""States, their time and their cost, from readings made by hand through the whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.model import ProcessFacts, ProcessUse, Snapshot, Totals
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.settings import Hardware, Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.units import NS_PER_S
from tests.agent.random_fleet import HandClock
from tests.agent.records import BOOT_NS, KEYS, UUID, device, reading

OWNER = ("kronos", "", "", "")
HELD = (ProcessUse(41, 410, 1 << 30),)
FACTS = ProcessFacts(pid=41, start_ticks=410, environ={"FINOPS_PROJECT": "kronos"})
ONE_AN_HOUR = (Hardware(gpu="*", price=Decimal(35_040), years=Decimal(4), currency="CNY"),)


class Line:
    """A pipeline, and a counter that runs with the power."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.ledger = Ledger(folder, self.clock.utc_ns())
        resolver = WorkloadResolver(Tags())
        self.pipeline = Pipeline(
            Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS),
                   pricing=Pricing(None, "", Decimal(1), ONE_AN_HOUR, None, {}), idle=IdleJudge(Idle()),
                   budgets=BudgetBook((), KEYS, "CNY", "UTC")),
            self.ledger, self.clock, 0)
        self.sequence = 0
        self.energy_mj = 0

    def tick(self, power_w: int, processes: tuple[ProcessUse, ...] = HELD, after_s: int = 1, **fields: Any) -> Snapshot:
        self.clock.boot_ns += after_s * NS_PER_S
        self.energy_mj += power_w * 1000 * after_s
        at_ns = self.clock.boot_ns
        seen = device(at_ns, energy_mj=self.energy_mj, power_mw=power_w * 1000, utilization_ratio=0.0, processes=processes,
                      **fields)
        self.sequence += 1
        return self.pipeline.tick(reading(at_ns, seen, sequence=self.sequence, started=(FACTS,) if self.sequence == 1 else ()))

    def settled(self) -> Totals:
        self.pipeline.journal.flush(self.clock.utc_ns())
        return self.ledger.totals


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    assert made.clock.boot_ns == BOOT_NS
    yield made
    made.ledger.close()


def test_time_in_which_nobody_watched_is_in_no_state_and_no_waste(line: Line) -> None:
    for _ in range(11):
        line.tick(100)
    line.tick(100, after_s=3600)
    totals = line.settled()
    assert dict(totals.device_state_ns) == {(UUID, "parked"): 10 * NS_PER_S, (UUID, "unknown"): 3600 * NS_PER_S}
    by_state: dict[str, int] = {}
    for (_, _, state), gpu_ns in totals.state_gpu_ns.items():
        by_state[state] = by_state.get(state, 0) + gpu_ns
    assert by_state == {"parked": 10 * NS_PER_S, "unknown": 3600 * NS_PER_S}
    assert sum(totals.waste_nano.values()) == 10 * 10**9 // 3600
    assert totals.waste_nano[UUID, OWNER, "parked", "CNY"] == 10 * 10**9 // 3600


def test_power_that_no_use_explains_is_not_parked_once_context_power_is_known(line: Line) -> None:
    states = [line.tick(400).devices[0].state]                # nothing is learned yet: judged by its use
    for _ in range(900):
        states.append(line.tick(100).devices[0].state)
    assert set(states) == {"parked"}
    assert line.tick(400).devices[0].state == "active"        # 300 of the 600 W between contexts and the limit
    for _ in range(5):
        state = line.tick(100).devices[0].state
    assert state == "parked"
