"""One place for a year: its fleet through the whole pipeline, every figure of the product against the truth.

A restart, or a reload of the configuration, comes every few days; the ledger is rolled up every week.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.config.config import load
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader, UsageRow, open_for_reading
from agent.ledger.rollup import roll_up
from agent.ledger.verify import verify
from agent.model import ProcessCpu, ProcessFacts, Reading
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.tags.resolver import WorkloadResolver
from benchmarks.year.audit import Audit, CostKey
from benchmarks.year.fleet import NS_PER_S, Gpu, facts_of, reading_times
from benchmarks.year.prices import ByBlock, ByMinute
from benchmarks.year.truth import KEPT, Truth

DAY_S = 86_400
BOOT_S = 3_600                           # the machine had been up so long
HOST = "[host]\nprice_per_hour = 0.9"
CONFIG = """
interval = "1h"
[site]
tariff = "t"
pue = 1.35
carbon = 381
baseline_kwh = {baseline}
[[hardware]]
gpu = "NVIDIA H100*"
price = 97600
salvage = 10000
years = 4
[[hardware]]
gpu = "NVIDIA A30"
price = 17520
years = 4
maintenance_per_year = 2190
[[hardware]]
gpu = "NVIDIA L40S"
rent_per_gpu_hour = 1.45
{host}
[[budget]]
name = "everything"
match = {{ instance = "*" }}
period = "year"
limit = 1000000
[[budget]]
name = "one project"
match = {{ project = "project-3" }}
period = "month"
limit = 1000
[ledger]
keep_quarter_hours = "{quarters}d"
keep_hours = "{hours}d"
"""


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, start_s: int) -> None:
        self._start_s = self.now_s = start_s

    def boottime_ns(self) -> int:
        return (self.now_s - self._start_s + BOOT_S) * NS_PER_S

    def monotonic_ns(self) -> int:
        return self.boottime_ns()

    def utc_ns(self) -> int:
        return self.now_s * NS_PER_S


class Lane:
    """A fleet, its truth and the product."""

    def __init__(self, directory: Path, prices: ByMinute | ByBlock, names: list[str], outages_s: list[int], seed: int, *,
                 with_host: bool = False, change_days: int = 9, roll_up_days: int = 7, kept_days: tuple[int, int] = (35, 70),
                 ) -> None:
        self._directory = directory
        self._prices = prices
        self._zone = ZoneInfo(prices.zone_name)
        self._seed, self._with_host = seed, with_host
        self._change_s, self._roll_up_s = change_days * DAY_S, roll_up_days * DAY_S
        self._outages_s = outages_s
        self._gpus = [Gpu(i, name, divided=name == KEPT, seed=seed) for i, name in enumerate(names)]
        self._names = {gpu.uuid: gpu.name for gpu in self._gpus}
        self._clock = Clock(prices.start_s)
        self._config_file = directory / "config.toml"
        baseline = prices.baseline_kwh if isinstance(prices, ByBlock) else 0
        self._config_file.write_text(CONFIG.format(
            baseline=baseline, host=HOST if with_host else "", quarters=kept_days[0], hours=kept_days[1])
            + prices.toml(directory))
        self._restarts = self._reloads = self._readings = self._bridged = 0
        self._budgets_moved_nano = 0
        self._truth = Truth(prices, self._zone)
        self._open()

    def _open(self) -> None:
        self._ledger = Ledger(self._directory / "state", self._clock.utc_ns())
        self._pipeline = Pipeline(self._stages(None), self._ledger, self._clock, 12 * 3_600 * NS_PER_S)
        self._session = f"life-{self._restarts}"

    def _stages(self, previous: Stages | None) -> Stages:
        """What the daemon builds from a configuration, at its start and at a reload."""
        config = load(self._config_file, environ={"HOME": "/"})
        resolver = WorkloadResolver(config.tags, known=self._ledger.workloads())
        attribution = Attribution(resolver.resolve, config.tags.keys, self._ledger.calibrations())
        idle = IdleJudge(config.idle)
        if previous is not None:
            attribution.remember(previous.attribution)
            idle.remember(previous.idle)
        carries = previous.pricing.carries if previous is not None else self._ledger.carries()
        pricing = Pricing(config.tariff, config.site.tariff or "", config.site.pue, config.hardware, config.carbon, carries,
                          config.used_mj(self._ledger.site_energy_mj), config.host)
        budgets = BudgetBook(config.budgets, config.tags.keys, pricing.currency, config.timezone)
        now_ns = self._clock.utc_ns()
        budgets.restore(self._ledger.spend(*budgets.history_ns(now_ns)), now_ns)
        self._kept = config.ledger
        return Stages(site="s", tag_keys=config.tags.keys, resolver=resolver, attribution=attribution, pricing=pricing,
                      idle=idle, budgets=budgets, interval_ns=config.interval_ns)

    def run(self) -> dict[str, object]:
        """Live through the year. What was found, and what differs."""
        clock, start_s = self._clock, self._prices.start_s
        before_s, restarted = start_s, False
        rolled_s = changed_s = start_s
        for at_s, watched in reading_times(start_s, self._prices.end_s, self._outages_s, self._seed):
            started = [facts for gpu in self._gpus for facts in gpu.look(self._readings)]
            if restarted:                                     # a new probe tells of everybody, a new daemon saw nobody
                started = [facts_of(tenant) for gpu in self._gpus for tenant in gpu.scene.tenants]
                for gpu in self._gpus:
                    gpu.before = None
            powers_mw = self._advance(before_s, at_s, watched=watched)
            clock.now_s = before_s = at_s
            self._pipeline.tick(self._reading(powers_mw, started))
            self._readings += 1
            self._bridged += not watched
            restarted = at_s - changed_s > self._change_s
            if restarted:
                changed_s = at_s
                self._change(reload=self._restarts > self._reloads)
                restarted = self._restarts > self._reloads
            if at_s - rolled_s > self._roll_up_s:
                rolled_s = at_s
                with contextlib.closing(sqlite3.connect(self._ledger.path, isolation_level=None)) as db:
                    roll_up(db, self._zone, self._kept.keep_quarter_hours_ns, self._kept.keep_hours_ns, clock.utc_ns())
        self._pipeline.journal.flush(clock.utc_ns())
        return self._figures()

    def _advance(self, start_s: int, end_s: int, *, watched: bool) -> dict[str, int]:
        powers_mw: dict[str, int] = {}
        for gpu in self._gpus:
            parts, state = gpu.truth(watched=watched)
            powers_mw[gpu.uuid] = sum(part.power_mw for part in parts)
            gpu.counter_mj += powers_mw[gpu.uuid] * (end_s - start_s)
            if end_s > start_s:
                self._truth.add(gpu, parts, state, start_s, end_s)
        if end_s > start_s:
            self._truth.site(powers_mw, self._names, start_s, end_s)
        return powers_mw

    def _reading(self, powers_mw: Mapping[str, int], started: list[ProcessFacts]) -> Reading:
        at_ns, utc_ns = self._clock.boottime_ns(), self._clock.utc_ns()
        devices = [one for gpu in self._gpus for one in gpu.readings(at_ns, utc_ns, powers_mw[gpu.uuid])]
        cpu = [ProcessCpu(tenant.pid, tenant.start, at_ns * (1 + tenant.pid % 5) // 4)
               for gpu in self._gpus for tenant in gpu.scene.tenants] if self._readings % 3 else []
        return Reading(session=self._session, sequence=self._readings, boot_id="boot", boottime_ns=at_ns, monotonic_ns=at_ns,
                       utc_ns=utc_ns, driver_version="580.1", devices=tuple(devices), started=tuple(started),
                       process_cpu=tuple(cpu))

    def _change(self, *, reload: bool) -> None:
        self._pipeline.journal.flush(self._clock.utc_ns())
        spent = self._spent()
        if reload:
            self._reloads += 1
            self._pipeline.stages = self._stages(self._pipeline.stages)
        else:
            self._restarts += 1
            self._ledger.close()
            self._open()
        after = self._spent()
        self._budgets_moved_nano += sum(abs(after[name] - nano) for name, nano in spent.items())

    def _spent(self) -> dict[str, int]:
        self._pipeline.judge_budgets()
        return {budget.name: budget.spent_nano for budget in self._pipeline.snapshot().budgets}

    def _figures(self) -> dict[str, object]:
        totals, carries, spent = self._ledger.totals, self._ledger.carries(), self._spent()
        self._ledger.close()
        with contextlib.closing(open_for_reading(self._directory / "state")) as db:
            faults = verify(db)
            spans = dict(db.execute("SELECT span_ns / 3600000000000, COUNT(*) FROM usage GROUP BY 1"))
            summary_nano = sum(nano for (nano,) in db.execute("SELECT cost_nano FROM summary"))
        reader = LedgerReader(self._directory / "state")
        rows = reader.usage(None, None, ["gpu", "component"], (), self._zone)
        keys = ("project", "team", "model", "model_version")
        months = reader.usage(None, None, ["month", "component", "project"], keys, self._zone)
        rates = {row.keys[0]: row.energy_mj for row in reader.usage(None, None, ["rate"], keys, self._zone)}
        reader.close()
        audit = Audit(self._truth, self._prices, self._gpus, 1 + self._restarts + self._reloads, with_host=self._with_host)
        net = {key: nano - totals.credit_nano.get(key, 0) for key, nano in totals.cost_nano.items()}
        return {
            "readings": self._readings, "restarts": self._restarts, "reloads": self._reloads, "outages": self._bridged,
            "workloads": len({key[1] for key in net}), "counters": len(net),
            "rows_by_hours": {("quarter" if hours == 0 else str(hours)): n for hours, n in sorted(spans.items())},
            "kwh": round(sum(totals.device_energy_mj.values()) / 3.6e9),
            "billed": round(sum(net.values()) / 1e9, 2), "credit": round(sum(totals.credit_nano.values()) / 1e9, 2),
            "off": audit.energy(totals) | audit.money(net, totals, carries) | audit.bill(net, months, rates) | {
                "ledger rows less counters, nano": sum(row.cost_nano for row in rows) - sum(net.values()),
                "summary less counters, nano": summary_nano - sum(net.values()),
                "year's budget less counters, nano": spent["everything"] - self._of_the_year(net, months),
                "month's budget less its rows, nano": spent["one project"] - sum(
                    row.cost_nano for row in months if row.keys[0] == self._month() and row.keys[2] == "project-3"),
                "budgets moved by restarts, nano": self._budgets_moved_nano,
                "faults that verify finds": len(faults)}}

    def _month(self) -> str:
        return f"{dt.datetime.fromtimestamp(self._clock.now_s, self._zone):%Y-%m}"

    def _of_the_year(self, net: Mapping[CostKey, int], months: list[UsageRow]) -> int:
        year = self._month()[:4]
        return sum(net.values()) - sum(row.cost_nano for row in months if row.keys[0][:4] != year)
