"""What is learned of a device's idle power goes through the ledger, and shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.model import IDLE, Snapshot
from tests.agent.random_fleet import DIVIDED, PLAIN, FleetMachine


@pytest.fixture
def fleet() -> Iterator[FleetMachine]:
    machine = FleetMachine()
    machine.first_reading()
    yield machine
    machine.teardown()


def snapshot(fleet: FleetMachine) -> Snapshot:
    return fleet.pipeline.snapshot()


def learned(fleet: FleetMachine, uuid: str = PLAIN) -> tuple[int | None, int | None]:
    return next((d.bare_power_mw, d.context_power_mw) for d in snapshot(fleet).devices if d.uuid == uuid)


def test_uncalibrated_until_seen_then_kept_through_a_kill(fleet: FleetMachine) -> None:
    fleet.tick(1_000, 70, [], [], 14)
    assert learned(fleet) == (None, None)
    fleet.tick(1_000, 70, [], [], 1)
    assert learned(fleet) == (70_000, None)
    fleet.process_starts(PLAIN, 1, "a", 0, False)
    fleet.tick(1_000, 115, [], [], 16)
    assert learned(fleet) == (70_000, 45_000)
    fleet.daemon_is_killed()
    fleet.tick(1_000, 300, [(PLAIN, 1, 90)], [], 2)
    assert learned(fleet) == (70_000, 45_000)
    now = {status.workload[0]: status.power_mw for status in snapshot(fleet).workloads if status.uuid == PLAIN}
    assert now == {"a": 230_000, IDLE: 70_000}


def test_a_reload_keeps_it_too(fleet: FleetMachine) -> None:
    fleet.tick(1_000, 70, [], [], 15)
    fleet.configuration_is_reloaded()
    fleet.tick(1_000, 70, [], [], 1)
    assert learned(fleet) == (70_000, None)


def test_a_divided_gpu_is_learned_as_a_whole(fleet: FleetMachine) -> None:
    fleet.is_divided("3+4", 1)
    fleet.flips(DIVIDED, "samples")              # no GPM, which would say that the instances work
    fleet.tick(1_000, 140, [], [], 15)
    assert learned(fleet, DIVIDED) == (70_000, None)
    assert {d.parent_uuid for d in snapshot(fleet).devices if d.uuid.startswith("MIG-")} == {DIVIDED}


def test_ten_thousand_short_processes_leave_nothing_behind(fleet: FleetMachine) -> None:
    """Facts and resolved names of who has gone are dropped; the ledger's series are the workloads'."""
    held = []
    for second in range(1_700):
        for pid in range(1, 7):
            fleet.process_ends(PLAIN, pid)
            fleet.process_starts(PLAIN, pid, "abc"[second % 3], 0, False)
        fleet.tick(200, 300, [(PLAIN, 1, 50)], [], 1)
        held.append((fleet.pipeline.stages.attribution.remembered, len(fleet.pipeline.stages.resolver._resolved)))
    assert max(held[500:]) == max(held[200:500])
    assert max(held)[0] <= 6 * 125
    assert max(resolved for _, resolved in held) <= 6 * 125
    assert len({workload for _, workload in fleet.ledger.totals.energy_mj}) <= 4
