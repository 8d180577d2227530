"""A year of 8 GPUs at an injected clock, through the whole pipeline: the bill, the ledger's rows and the counters are one sum.

    python benchmarks/ledger_year.py [--devices 8] [--days 365]

A reading every 15 minutes, 35,040 of them: each quarter of an hour has a power of its own on each GPU. (At that distance
nobody can be named for the energy, so it is all ``__unattributed__``; who used it is what the other tests are about.) The
ledger is committed every six hours and rolled up every simulated week. The bill is made by ``tariff bill``'s own engine from
the load, an independent way to the same figure: the carries of the counters' divisions make up the difference to the last
fraction of a nano-unit. Ends with 1 where it does not, or where that takes longer than 60 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from array import array
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader, open_for_reading
from agent.ledger.rollup import roll_up
from agent.ledger.verify import verify
from agent.model import Reading
from agent.pipeline import Pipeline, Stages
from agent.pricing.bill import Load, make_bill
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.series_csv import Series
from agent.settings import Budget, Idle, Tags
from agent.sources.splitmix import mix
from agent.tags.resolver import WorkloadResolver
from agent.units import ENERGY_COST_DENOMINATOR, NANO, NS_PER_HOUR, NS_PER_S
from tests.agent.priced import HARDWARE, tariff
from tests.agent.records import KEYS, device

LIMIT_S = 60.0
ZONE = ZoneInfo("Asia/Shanghai")
START_NS = int(datetime(2026, 1, 1, tzinfo=ZONE).timestamp()) * NS_PER_S
BUCKET_S = BUCKET_NS // NS_PER_S
DAY_NS = 24 * NS_PER_HOUR
RATES = "sharp = 1.507, peak = 1.2013, flat = 0.7577, valley = 0.3331"
RULES = """{ rate = "sharp", months = [7, 8], hours = ["12:00-14:00"] },
  { rate = "peak", days = ["mon-fri"], hours = ["08:00-11:00", "18:00-21:00"] },
  { rate = "valley", hours = ["22:00-06:00"] }, { rate = "flat" }"""


class Simulated:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ns = START_NS

    def boottime_ns(self) -> int:
        return self.ns - START_NS + NS_PER_HOUR

    def monotonic_ns(self) -> int:
        return self.boottime_ns()

    def utc_ns(self) -> int:
        return self.ns


def run(directory: Path, devices: int, days: int) -> dict[str, float | int | str]:
    given = tariff(directory, RATES, RULES)
    clock = Simulated()
    ledger = Ledger(directory, START_NS)
    resolver = WorkloadResolver(Tags())
    budget = Budget(name="year", match={"project": "*"}, period="year", limit=Decimal(10**6), currency="CNY")
    pricing = Pricing(given, "t", Decimal("1.0"), HARDWARE, None, {})
    pipeline = Pipeline(
        Stages(site="s", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS), pricing=pricing,
               idle=IdleJudge(Idle()), budgets=BudgetBook((budget,), KEYS, "CNY", "Asia/Shanghai")),
        ledger, clock, 6 * NS_PER_HOUR)
    uuids = [f"GPU-{n:08d}-0000-0000-0000-000000000000" for n in range(devices)]
    counters = [1_000_000] * devices
    starts, milliwatts = array("q"), array("q")
    for n in range(days * 96 + 1):
        clock.ns = START_NS + n * BUCKET_NS
        at_ns = clock.boottime_ns()
        made = [device(at_ns, uuid, index=i, energy_mj=counters[i], power_mw=300_000, utilization_ratio=0.9)
                for i, uuid in enumerate(uuids)]
        pipeline.tick(Reading(session="year", sequence=n, boot_id="b", boottime_ns=at_ns, monotonic_ns=at_ns, utc_ns=clock.ns,
                              driver_version="580.1", devices=tuple(made)))
        powers = [100_000 + mix(n * devices + i) % 500_000 for i in range(devices)]
        for i, power_mw in enumerate(powers):
            counters[i] += power_mw * BUCKET_S
        starts.append(clock.ns)
        milliwatts.append(sum(powers))
        if n % (7 * 96) == 0:
            with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as db:
                roll_up(db, ZONE, 35 * DAY_NS, 100 * DAY_NS, clock.ns)
    end_ns = clock.ns
    pipeline.journal.flush(end_ns)
    clock.ns = end_ns - 1                        # the last moment of the year, for its budget
    pipeline.judge_budgets()
    snapshot = pipeline.snapshot()
    totals, carries = snapshot.totals, ledger.carries()
    ledger.close()
    reader = LedgerReader(directory)
    rows = {row.keys[0]: row.cost_nano for row in reader.usage(None, None, ["component"], KEYS, ZONE)}
    reader.close()
    with contextlib.closing(open_for_reading(directory)) as db:
        faults = verify(db)
        kept = db.execute("SELECT COUNT(*) FROM usage").fetchone()[0]
    billed = make_bill(given, Load(Series(starts, milliwatts, 6)), START_NS, end_ns).total * NANO
    counted = {component: sum(nano for key, nano in totals.cost_nano.items() if key[2] == component) for component in rows}
    carried = sum(Fraction(carry, ENERGY_COST_DENOMINATOR) for key, carry in carries.items() if key[2] == "energy")
    return {
        "readings": days * 96 + 1, "rows_kept": kept, "energy_mj": sum(totals.device_energy_mj.values()),
        "energy_true_mj": sum(mw * BUCKET_S for mw in milliwatts[:-1]),
        "energy_cost_nano": counted["energy"], "hardware_cost_nano": counted["hardware"],
        "counters_less_rows_nano": sum(counted.values()) - sum(rows.values()),
        "bill_less_counters_and_carries_nano": str(billed - counted["energy"] - carried),
        "carries_nano": f"{float(carried):.3f}",
        "spent_less_counters_nano": snapshot.budgets[0].spent_nano - sum(counted.values()) if days <= 365 else 0,
        "verify_faults": len(faults)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options.devices, options.days)
    figures["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(figures, indent=2))
    good = (figures["energy_mj"] == figures["energy_true_mj"] and figures["verify_faults"] == 0
            and figures["counters_less_rows_nano"] == 0 and figures["bill_less_counters_and_carries_nano"] == "0"
            and figures["spent_less_counters_nano"] == 0)
    return 0 if good and figures["seconds"] <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
