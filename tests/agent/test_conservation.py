"""Whatever happens to a fleet, each millijoule and each nanosecond is in one place. The full form: benchmarks/accuracy."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.agent.random_fleet import FleetMachine

TICKS = 300


def test_every_tick_of_a_random_fleet_is_conserved() -> None:
    wanted = FleetMachine.ticks + TICKS
    while FleetMachine.ticks < wanted:           # how many a history has is drawn too
        run_state_machine_as_test(FleetMachine, settings=settings(
            max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate]))           # a long history told at once, not a short one after minutes
