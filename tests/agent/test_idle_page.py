"""docs/idle.md: its figures are the program's."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from agent.idle import ACTIVE, FAR_ABOVE_MW, FAR_ABOVE_PERCENT, HOLD_NS, LADDER, UNKNOWN, IdleJudge
from agent.idle_policy import POLICIES, share
from agent.model import DeviceReading, ProcessUse
from agent.settings import Idle
from agent.units import NANO, NS_PER_S
from tests.agent.records import device, reading
from tests.deploy.promql import faults

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "idle.md").read_text()


def rows(header: str) -> list[list[str]]:
    table = PAGE.split(header)[1].split("\n\n")[0]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[1:]]


def test_the_states_are_all_there() -> None:
    assert {row[0] for row in rows("| state | the device |")} == {*LADDER, UNKNOWN}


def test_each_policy_gives_what_the_table_says() -> None:
    table = rows("| workload | raw | separate | proportional | even |")
    raw = {(name,): int(cost) * NANO for name, cost, *_ in table if name != "__idle__"}
    for column, policy in enumerate(POLICIES, 2):
        said = {(row[0],): Decimal(row[column]) for row in table if row[0] != "__idle__"}
        parts = share(50 * NANO, raw, 0, policy) if policy != "separate" else dict.fromkeys(raw, 0)
        assert {key: round(Decimal(raw[key] + parts[key]) / NANO, 2) for key in raw} == said


def test_the_numbers_in_the_text() -> None:
    assert f"{FAR_ABOVE_PERCENT} % of that and {FAR_ABOVE_MW // 1000} W more" in PAGE
    assert f"last {HOLD_NS // NS_PER_S} s" in PAGE
    assert f"a use of {100 * (300 - 120) // (700 - 120)} %" in PAGE

    def state(threshold: float) -> str:
        held: DeviceReading = device(0, power_mw=300_000, utilization_ratio=0.0, processes=(ProcessUse(1, 1, None),))
        return IdleJudge(Idle(utilization_ratio=threshold)).judge(reading(0, held), {held.uuid: 120_000})[held.uuid]

    assert (state(0.31), state(0.32)) == (ACTIVE, "underused")


def test_the_metrics_are_served() -> None:
    (query,) = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
    assert faults(query) == []
    named = set(re.findall(r"finops_\w+", PAGE))
    assert {fault for name in named for fault in faults(name)} == set()
