"""Ten thousand random ticks: churn, resets, losses, sleep, MIG, kills and reloads, through the whole pipeline and a ledger.

    python -m benchmarks.accuracy.conservation [--ticks 10000]
"""

from __future__ import annotations

import argparse
import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.agent.random_fleet import FleetMachine

STEPS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=10_000)
    arguments = parser.parse_args()
    begun_s, runs = time.monotonic(), 0
    while FleetMachine.ticks < arguments.ticks:
        run_state_machine_as_test(FleetMachine, settings=settings(
            max_examples=50, stateful_step_count=STEPS, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck)))
        runs += 1
    print(f"{FleetMachine.ticks} ticks in {runs * 50} histories, {time.monotonic() - begun_s:.0f} s: after each, shares sum\n"
          "to device energy and time (0 mJ, 0 ns off); all is booked that counters and samples vouch for, and nothing else,\n"
          "at the price of its time; no counter fell")


if __name__ == "__main__":
    main()
