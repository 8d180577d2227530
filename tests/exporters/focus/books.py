"""A ledger with every kind of charge that an export may meet, filled by the program's own pricing."""

from __future__ import annotations

from pathlib import Path

from agent.config.config import Config, load
from agent.energy.metering import MeterState
from agent.ledger.batch import Batch
from agent.ledger.ledger import Ledger
from agent.model import Share, Workload
from agent.pricing.host_cost import HostSpan
from agent.pricing.pricing import Pricing
from agent.units import NS_PER_S
from tests.agent.records import UUID, interval

MINUTE_NS = 60 * NS_PER_S
START_NS = 1_782_864_000 * NS_PER_S - 4 * 3600 * NS_PER_S      # 2026-06-30T20:00Z: the site's July begins two hours later
RENTED, MIG = "GPU-rented", "MIG-1"
NAMES = {UUID: "NVIDIA H100 80GB HBM3", RENTED: "NVIDIA A100", MIG: "NVIDIA H100 80GB HBM3 MIG 3g.40gb"}
KRONOS: Workload = ("kronos", "quant", "kronos-base", "1.0")
FORMULA: Workload = ('=HYPERLINK("http://x")', "+1", "@a,\"b\"\n", "-1")
IDLE: Workload = ("__idle__", "", "", "")
NOBODY: Workload = ("", "", "", "")

CONFIG = """
[site]
name = "berlin 1"
tariff = "spot"
pue = 1.37
carbon = 380.5
[tariff.spot]
currency = "EUR"
timezone = "Europe/Berlin"
rates = { market = { csv = "prices.csv", unit = "EUR/MWh", missing = "error" }, night = 0.2113 }
adders = [{ name = "grid", per_kwh = 0.0071 }]
tax = { rate = 0.19, included = false }
rule = [{ rate = "night", hours = ["00:45-05:00"] }, { rate = "market" }]
[[hardware]]
gpu = "NVIDIA H100*"
price = 30001
years = 4
maintenance_per_year = 777
[[hardware]]
gpu = "NVIDIA A100*"
rent_per_gpu_hour = { csv = "rent.csv", missing = "last" }
[host]
idle_watts = 200
max_watts = 500
"""
RENTS = "start,price\n2026-06-30T00:00:00Z,1.79\n2026-06-30T23:30:00Z,2.13\n"
# half-hours: two positive, one negative, then a known price of nothing before adders; none after that
PRICES = """start,price
2026-06-30T20:00:00Z,81.37
2026-06-30T20:30:00Z,120.01
2026-06-30T21:00:00Z,-55.5
2026-06-30T21:30:00Z,-7.1
"""


def configure(directory: Path) -> Config:
    (directory / "prices.csv").write_text(PRICES)
    (directory / "rent.csv").write_text(RENTS)
    (directory / "gpu-finops.toml").write_text(CONFIG)
    return load(directory / "gpu-finops.toml", {"state_dir": directory / "state"}, environ={"HOME": "/"})


def pricing_of(config: Config) -> Pricing:
    return Pricing(config.tariff, "spot", config.site.pue, config.hardware, config.carbon, {},
                   host=config.host)


def fill(config: Config, minutes: int = 7 * 60) -> None:
    """Seven hours, a tick a minute: market prices for two hours, the site's June ends, 45 minutes without a price, the night,
    and no price again. KRONOS rests for a quarter of an hour from 20:15 and from 23:15."""
    ledger = Ledger(config.state_dir, START_NS)
    pricing = pricing_of(config)
    for minute in range(minutes):
        at_ns = START_NS + minute * MINUTE_NS
        batch, charges, intervals, shares = Batch(), [], [], []
        for uuid, workloads in ((UUID, (KRONOS, FORMULA)), (RENTED, (IDLE,)), (MIG, (NOBODY,))):
            present = [w for w in workloads if w is not KRONOS or minute // 15 not in {1, 13}]
            energy_mj = 100_003 * (minute % 7 + 1)
            for workload in present:
                share = Share(
                    uuid=uuid, workload=workload, start_utc_ns=at_ns, end_utc_ns=at_ns + MINUTE_NS, energy_mj=energy_mj,
                    gpu_ns=MINUTE_NS // len(present), method="equal", state="active")
                charges += pricing.charge(share, NAMES[uuid])
                shares.append(share)
            intervals.append(interval(energy_mj * len(present), MINUTE_NS, uuid=uuid, start_utc_ns=at_ns))
        cpu_ns = {KRONOS: 7, FORMULA: 5} if minute % 2 else {}
        charges += pricing.charge_host(HostSpan(at_ns, at_ns + MINUTE_NS, watched=True), shares, cpu_ns, 0.3)
        batch.add("s", minute, NAMES, intervals, dict.fromkeys(NAMES, "active"), charges,
                  {uuid: MeterState(boot_id="b", boottime_ns=at_ns, monotonic_ns=at_ns) for uuid in NAMES})
        ledger.commit(batch, at_ns + MINUTE_NS)
    ledger.close()
