"""Ledgers for tests, filled through pricing and batch as the daemon fills them, with figures that are easy to add up."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.config.config import load
from agent.energy.metering import MeterState
from agent.ledger.batch import Batch
from agent.ledger.ledger import Ledger
from agent.model import Share, Workload
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.settings import Hardware
from agent.tariffs.ruled import RuledTariff
from agent.units import MJ_PER_KWH, NS_PER_S
from tests.agent.records import UUID, interval

H100 = "NVIDIA H100 80GB HBM3"
KRONOS: Workload = ("kronos", "quant", "kronos-base", "1.0")
OTHER: Workload = ("chat", "nlp", "", "")
HARDWARE = (Hardware(gpu="NVIDIA H100*", price=Decimal(87_600), years=Decimal(4), currency="CNY"),)      # 2.5 an hour


def instant_ns(text: str, zone: str = "UTC") -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * NS_PER_S


def tariff(directory: Path, rates: str, rules: str = "", zone: str = "Asia/Shanghai", period: str = "") -> RuledTariff:
    """The tariff of a configuration with these rates; without rules the first rate always holds. ``period``: of its tiers."""
    file = directory / "tariff.toml"
    first = rates.split("=", 1)[0].strip()
    rules = rules or f'{{ rate = "{first}" }}'
    tiers = f'tier_period = "{period}"\n' if period else ""
    file.write_text(f'[tariff.t]\ncurrency = "CNY"\ntimezone = "{zone}"\n{tiers}rates = {{ {rates} }}\nrule = [{rules}]\n')
    return load(file, environ={"HOME": "/"}).tariffs["t"]


def pricing(given: RuledTariff | None, hardware: tuple[Hardware, ...] = HARDWARE) -> Pricing:
    return Pricing(given, "t" if given else "", Decimal("1.0"), hardware, None, {})


def book(ledger: Ledger, priced: Pricing, start_ns: int, quarters: int, energy_mj: int = MJ_PER_KWH,
         workloads: tuple[Workload, ...] = (KRONOS, OTHER), session: str = "s", uuid: str = UUID) -> None:
    """One tick a quarter of an hour: each workload uses ``energy_mj`` in it, and its part of the time."""
    for n in range(quarters):
        at_ns = start_ns + n * BUCKET_NS
        charges = []
        for workload in workloads:
            charges += priced.charge(Share(
                uuid=uuid, workload=workload, start_utc_ns=at_ns, end_utc_ns=at_ns + BUCKET_NS, energy_mj=energy_mj,
                gpu_ns=BUCKET_NS // len(workloads), method="equal", state="active"), H100)
        batch = Batch()
        batch.add(session, n, {uuid: H100}, [interval(energy_mj * len(workloads), BUCKET_NS, uuid=uuid, start_utc_ns=at_ns)],
                  {uuid: "active"}, charges, {uuid: MeterState(boot_id="b", boottime_ns=n, monotonic_ns=n)})
        ledger.commit(batch, at_ns + BUCKET_NS)
