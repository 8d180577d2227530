"""Whatever happens to a fleet, each millijoule and each nanosecond is in one place. The full form: benchmarks/accuracy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.agent.random_fleet import FleetMachine


def test_every_tick_of_a_random_fleet_is_conserved() -> None:
    before = FleetMachine.ticks
    run_state_machine_as_test(FleetMachine, settings=settings(
        max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)))
    assert FleetMachine.ticks - before >= 200
