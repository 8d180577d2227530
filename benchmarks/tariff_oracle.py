"""2,000 random tariffs against the minute-by-minute oracle of the tests: how many minutes differ (none may), and how long a
price takes.

    python benchmarks/tariff_oracle.py [--tariffs 2000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.config.config import load
from agent.units import NS_PER_S
from tests.agent.tariffs.minute_oracle import Spec
from tests.agent.tariffs.random_tariffs import compare, tariff_specs

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "tariffs.toml"


def compare_many(tariffs: int) -> int:
    """Minutes compared; stops with the first difference."""
    minutes = 0

    @settings(max_examples=tariffs, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(tariff_specs())
    def one(case: tuple[Spec, int, int]) -> None:
        nonlocal minutes
        with tempfile.TemporaryDirectory() as directory:
            minutes += compare(*case, Path(directory))

    one()
    return minutes


def time_prices(name: str, seconds: int) -> float:
    """Microseconds for price_at and next_change of one instant, called each second on a rising clock."""
    tariff = load(VECTORS, environ={}).tariffs[name]
    start_ns = 1_782_302_400 * NS_PER_S
    began = time.perf_counter()
    for second in range(seconds):
        tariff.price_at(start_ns + second * NS_PER_S)
        tariff.next_change(start_ns + second * NS_PER_S)
    return (time.perf_counter() - began) / seconds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tariffs", type=int, default=2_000)
    tariffs = parser.parse_args().tariffs
    print(f"{tariffs} random tariffs, {compare_many(tariffs)} minutes compared, 0 differences")
    for name in load(VECTORS, environ={}).tariffs:
        print(f"{name:<22} {time_prices(name, 200_000):6.2f} us for price and next change, each second")


if __name__ == "__main__":
    main()
