"""How long pricing one interval takes: a second's share through every component, over each kind of tariff.

    python benchmarks/pricing.py [--intervals 100000]
"""

from __future__ import annotations

import argparse
import sys
import time
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.config.config import load
from agent.model import Share
from agent.pricing.carbon import ConstantCarbon
from agent.pricing.host_cost import HostSpan
from agent.pricing.pricing import Pricing
from agent.settings import Hardware, Host
from agent.units import NS_PER_S

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "tariffs.toml"
START_NS = 1_782_302_400 * NS_PER_S
LIMIT_US = 20
H100 = Hardware(gpu="NVIDIA H100*", price=Decimal(250_000), salvage=Decimal(25_000), years=Decimal(4),
                maintenance_per_year=Decimal(6_000), declining_rate=Decimal("0.4"), bought_ns=START_NS - 10**17)


def share(second: int, number: int = 0) -> Share:
    at_ns = START_NS + second * NS_PER_S
    return Share(uuid=f"GPU-{number % 8}", workload=("kronos", "quant", "base", str(number)), start_utc_ns=at_ns,
                 end_utc_ns=at_ns + NS_PER_S, energy_mj=412_345, gpu_ns=NS_PER_S, method="sole", state="active")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--intervals", type=int, default=100_000)
    intervals = parser.parse_args().intervals
    config, slowest_us = load(VECTORS, environ={}), 0.0
    for name, tariff in config.tariffs.items():
        pricing = Pricing(tariff, name, Decimal("1.35"), (H100,), ConstantCarbon(Decimal(570)), {})
        shares = [share(second) for second in range(intervals)]
        began = time.perf_counter()
        for one in shares:
            pricing.charge(one, "NVIDIA H100 80GB HBM3")
        took_us = (time.perf_counter() - began) / intervals * 1e6
        slowest_us = max(slowest_us, took_us)
        print(f"{name:<22} {took_us:6.2f} us for an interval: energy, hardware by age, maintenance, carbon")
    pricing = Pricing(config.tariffs["cn-industrial"], "cn-industrial", Decimal("1.35"), (), None, {},
                      host=Host(idle_watts=Decimal(200), max_watts=Decimal(800)))
    everybody = [share(0, number) for number in range(160)]
    cpu_ns = {one.workload: 1 + number for number, one in enumerate(everybody)}
    ticks = max(1, intervals // 1_000)
    began = time.perf_counter()
    for second in range(ticks):
        at_ns = START_NS + second * NS_PER_S
        pricing.charge_host(HostSpan(at_ns, at_ns + NS_PER_S, True), everybody, cpu_ns, 0.3)
    host_us = (time.perf_counter() - began) / ticks * 1e6
    print(f"host, 160 workloads    {host_us:6.0f} us for a tick, {host_us / 160:.2f} us for a workload")
    print(f"slowest interval {slowest_us:.2f} us; the limit is {LIMIT_US} us")
    return 0 if slowest_us <= LIMIT_US else 1


if __name__ == "__main__":
    sys.exit(main())
