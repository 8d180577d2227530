"""A fleet to which anything may happen, tick by tick, through the whole pipeline and a real ledger.

After every tick: shares sum to each device's energy and time, to the millijoule and the nanosecond. A device whose counter
was never reset has booked what that added since it was first seen, neither more nor less; one with samples alone what those
come to; one that was reset no more than it drew, and no less than its counter added between readings that can be compared. No
counter has fallen; hardware cost is GPU time at its price. After every few ticks: energy costs its price in the ledger's rows,
to the last fraction of a nano-unit, and that is the price of the time in which it was drawn. ``FleetMachine.ticks`` counts the
ticks. What must be booked is worked out in ``fleet_truth.py``.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.config.config import load
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from agent.model import (
    AccountingUse,
    DeviceReading,
    PowerSample,
    ProcessFacts,
    ProcessUse,
    Reading,
    Snapshot,
    Totals,
    UtilizationSample,
)
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.settings import Hardware, Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.units import ENERGY_COST_DENOMINATOR, MJ_PER_KWH, NANO, NS_PER_HOUR, NS_PER_MS, NS_PER_S
from tests.agent.fleet_truth import Counted, Sampled, Spend
from tests.agent.records import BOOT_NS, NOON_NS

KEYS = ("project", "team")
PLAIN, DIVIDED, SAMPLED = "GPU-plain", "GPU-divided", "GPU-sampled"
PROFILES = {"3+4": (3, 4), "2+2+1": (2, 2, 1), "7": (7,), "none": ()}
HARDWARE = (Hardware(gpu="*", price=Decimal(35_040), years=Decimal(4), currency="CNY"),)      # 1 CNY an hour
PRICES = ("0.8113", "-0.2907", "1.5301", "0.0001", "-1.25")       # a kWh, each for seven seconds and then over again
TURN_S = 7
TURNS = 600
PUE = Decimal("1.25")
SAMPLE_MS, RING_MS = 100, 10_000
PIDS = st.integers(1, 6)
GPUS = st.sampled_from([PLAIN, DIVIDED, SAMPLED])
COUNTING = st.sampled_from([PLAIN, DIVIDED])


MOST_SHARES = 24                         # of an interval: workloads on up to three instances, and nobody on each
CONFIG = """
[tariff.t]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { spot = { csv = "spot.csv", unit = "CNY/kWh", missing = "last" } }
rule = [{ rate = "spot" }]
"""


class HandClock:
    """A clock that the machine turns."""

    def __init__(self) -> None:
        self.boot_ns = BOOT_NS
        self.asleep_ns = 0

    def boottime_ns(self) -> int:
        return self.boot_ns

    def monotonic_ns(self) -> int:
        return self.boot_ns - self.asleep_ns

    def utc_ns(self) -> int:
        return NOON_NS + self.boot_ns - BOOT_NS


class Gpu:
    """The truth about one GPU."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.counter_mj = 10_000
        self.drawn_mj = 0
        self.failed = False
        self.asleep = False                                      # runtime power management: not woken, and it answers nothing
        self.resets = 0
        self.glitch = self.glitched = False                      # the counter shows nothing once, and is back
        self.ring: list[PowerSample] = []
        self.truth: Counted | Sampled = Sampled() if uuid == SAMPLED else Counted()
        self.power_mw = 0
        self.listed = True
        self.samples = True
        self.processes: dict[int, tuple[int, str]] = {}          # PID -> start, place
        self.instances: dict[str, int] | None = None             # UUID -> slices; None: not divided
        self.ever = {uuid}

    def draw(self, power_mw: int, wait_ms: int, utc_ns: int) -> None:
        """Use power for some time up to an instant."""
        self.power_mw = power_mw
        self.counter_mj += power_mw * wait_ms // 1_000
        self.drawn_mj += power_mw * wait_ms // 1_000
        ends_us = utc_ns // 1_000
        self.ring += [PowerSample(ends_us - left_ms * 1_000, power_mw)
                      for left_ms in range(wait_ms - SAMPLE_MS, -1, -SAMPLE_MS)]

    def recent(self, utc_ns: int) -> tuple[PowerSample, ...]:
        """What the driver's ring still has of that which was not read yet."""
        return tuple(sample for sample in self.ring if sample.timestamp_us > utc_ns // 1_000 - RING_MS * 1_000)

    @property
    def answers(self) -> bool:
        return not self.failed and not (self.asleep and self.instances is None and self.uuid != SAMPLED)

    @property
    def places(self) -> list[str]:
        return list(self.instances) if self.instances else [self.uuid]


class FleetMachine(RuleBasedStateMachine):
    """Rules change the world; ``tick`` carries a reading of it through the pipeline."""

    ticks = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = HandClock()
        self.gpus = {uuid: Gpu(uuid) for uuid in (PLAIN, DIVIDED, SAMPLED)}
        self.lives = 0
        self.config = self.folder / "config.toml"
        self.config.write_text(CONFIG)
        noon = dt.datetime.fromtimestamp(NOON_NS // NS_PER_S, dt.UTC)
        (self.folder / "spot.csv").write_text("start,price\n" + "".join(
            f"{(noon + dt.timedelta(seconds=TURN_S * n)).isoformat()},{PRICES[n % len(PRICES)]}\n" for n in range(TURNS)))
        self.tariff = load(self.config, environ={"HOME": "/"}).tariffs["t"]
        self.spend = Spend([Fraction(price) * Fraction(PUE) for price in PRICES], NOON_NS, TURN_S * NS_PER_S, TURNS)
        self.started: list[ProcessFacts] = []
        self.ended: list[tuple[str, int, int]] = []
        self.starts = 0
        self.sequence = 0
        self.elapsed_ns = 0
        self.before: Totals | None = None
        self.after: Totals | None = None
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.folder, self.clock.utc_ns())
        self.pipeline = Pipeline(self.stages(None), self.ledger, self.clock, 0)

    def stages(self, previous: Stages | None) -> Stages:
        resolver = WorkloadResolver(Tags(keys=KEYS, max_workloads=4), known=self.ledger.workloads())
        attribution = Attribution(resolver.resolve, KEYS, self.ledger.calibrations())
        if previous is not None:
            attribution.remember(previous.attribution)
        carries = previous.pricing.carries if previous is not None else self.ledger.carries()
        pricing = Pricing(self.tariff, "t", PUE, HARDWARE, None, carries)
        return Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=attribution, pricing=pricing,
                      idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC"))

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    @initialize()
    def first_reading(self) -> None:
        self.gpus[SAMPLED].draw(0, SAMPLE_MS, self.clock.utc_ns())
        self.read({}, ())

    @rule(gpu=GPUS, pid=PIDS, project=st.sampled_from(["", "a", "b", "c", "d", "e", "__idle__"]), place=st.integers(0, 2),
          hidden=st.booleans())
    def process_starts(self, gpu: str, pid: int, project: str, place: int, hidden: bool) -> None:
        """On a PID that another had, or has on another GPU: then it is the same process on both."""
        self.starts += 1
        known = next((g.processes[pid][0] for g in self.gpus.values() if pid in g.processes), None)
        start = known if known is not None else 0 if hidden else self.starts
        target = self.gpus[gpu]
        target.processes[pid] = (start, target.places[place % len(target.places)])
        if known is None:
            environ = {"FINOPS_PROJECT": project} if project and not hidden else {}
            self.started.append(ProcessFacts(pid=pid, start_ticks=start, environ=environ))

    @rule(gpu=GPUS, pid=PIDS)
    def process_ends(self, gpu: str, pid: int) -> None:
        found = self.gpus[gpu].processes.pop(pid, None)
        if found is not None:
            self.ended.append((gpu, pid, found[0]))

    @rule(gpu=GPUS, what=st.sampled_from(["failed", "listed", "samples"]))
    def flips(self, gpu: str, what: str) -> None:
        setattr(self.gpus[gpu], what, not getattr(self.gpus[gpu], what))

    @rule(gpu=COUNTING)
    def counter_resets(self, gpu: str) -> None:
        """It counts from nothing, and a little is used at once."""
        reset = self.gpus[gpu]
        reset.resets += 1
        reset.counter_mj = reset.resets
        reset.drawn_mj += reset.resets

    @rule(gpu=COUNTING)
    def counter_glitches(self, gpu: str) -> None:
        if not self.gpus[gpu].glitched and not self.gpus[gpu].resets:
            self.gpus[gpu].glitch = True

    @rule(gpu=GPUS)
    def device_sleeps_or_wakes(self, gpu: str) -> None:
        self.gpus[gpu].asleep = not self.gpus[gpu].asleep

    @rule(asleep_ms=st.sampled_from([500, 3_000, 600_000]))
    def machine_is_suspended(self, asleep_ms: int) -> None:
        """BOOTTIME and the wall clock go on, MONOTONIC does not, and nothing is used."""
        self.clock.boot_ns += asleep_ms * NS_PER_MS
        self.clock.asleep_ns += asleep_ms * NS_PER_MS

    @rule(profile=st.sampled_from([*PROFILES, "off"]), generation=st.integers(1, 3))
    def is_divided(self, profile: str, generation: int) -> None:
        gpu = self.gpus[DIVIDED]
        gpu.processes.clear()
        if profile == "off":
            gpu.instances = None
            return
        gpu.instances = {f"MIG-{profile}-{generation}-{i}": slices for i, slices in enumerate(PROFILES[profile])}
        gpu.ever |= gpu.instances.keys()

    @precondition(lambda self: self.ledger.meters())         # before the first charge nothing is written
    @rule()
    def daemon_is_killed(self) -> None:
        """The ledger has all: it is written at every tick. Facts are told again by a new probe."""
        self.ledger.close()
        self.open()
        self.lives += 1
        for gpu in self.gpus.values():
            self.started += [ProcessFacts(pid=pid, start_ticks=start, environ={"FINOPS_PROJECT": "a"})
                             for pid, (start, _) in gpu.processes.items()]

    @rule()
    def configuration_is_reloaded(self) -> None:
        self.pipeline.stages = self.stages(self.pipeline.stages)

    @rule(wait_ms=st.sampled_from([0, 200, 1_000, 1_000, 1_000, 5_000, 30_000]), watts=st.integers(0, 600),
          rows=st.lists(st.tuples(GPUS, st.integers(1, 8), st.integers(0, 120)), max_size=12),
          accounted=st.lists(st.integers(1, 9), max_size=2), times=st.integers(1, 6))
    def tick(self, wait_ms: int, watts: int, rows: list[tuple[str, int, int]], accounted: list[int], times: int) -> None:
        for _ in range(times):
            self.clock.boot_ns += wait_ms * NS_PER_MS
            for number, gpu in enumerate(self.gpus.values()):
                gpu.draw(watts * 1_000 // (number + 1), wait_ms, self.clock.utc_ns())
            self.before = self.after or self.ledger.totals       # also across a kill
            samples: dict[str, list[UtilizationSample]] = {uuid: [] for uuid in self.gpus}
            for i, (uuid, pid, percent) in enumerate(rows):
                samples[uuid].append(UtilizationSample(pid, (self.clock.utc_ns() - i * NS_PER_S // 6) // 1_000, percent))
            snapshot = self.read({u: tuple(s) for u, s in samples.items()}, tuple(accounted))
            places = [(status.uuid, status.workload) for status in snapshot.workloads]
            assert len(set(places)) == len(places)
            FleetMachine.ticks += 1
            self.after = self.ledger.totals
            self.holds()
            self.no_counter_falls()
        self.money_is_energy_at_its_price()

    def read(self, samples: dict[str, tuple[UtilizationSample, ...]], accounted: tuple[int, ...]) -> Snapshot:
        """Carry a reading through the pipeline, and show the same to the truth."""
        reading = self.reading(samples, accounted)
        for device in reading.devices:
            gpu = self.gpus.get(device.uuid)
            if gpu is None or gpu.failed:
                continue
            if not gpu.answers:
                gpu.truth.silent(reading)
            else:
                span = gpu.truth.read(reading, device)
                if span is not None:                         # else no time has passed, and nobody takes it up
                    self.spend.add(gpu.uuid, *span)
                    gpu.glitched = gpu.glitch
                gpu.glitch = False
                gpu.ring.clear()
        return self.pipeline.tick(reading)

    def reading(self, samples: dict[str, tuple[UtilizationSample, ...]], accounted: tuple[int, ...]) -> Reading:
        devices: list[DeviceReading] = []
        for index, gpu in enumerate(self.gpus.values()):
            devices += self.devices(index, gpu, samples.get(gpu.uuid, ()), accounted)
        self.sequence += 1
        started, self.started = tuple(self.started), []
        self.ended.clear()
        return Reading(session=f"random-{self.lives}", sequence=self.sequence, boot_id="boot", boottime_ns=self.clock.boot_ns,
                       monotonic_ns=self.clock.monotonic_ns(), utc_ns=self.clock.utc_ns(), driver_version="",
                       devices=tuple(devices), started=started)

    def devices(self, index: int, gpu: Gpu, samples: tuple[UtilizationSample, ...],
                accounted: tuple[int, ...]) -> list[DeviceReading]:
        common: dict[str, Any] = {"index": index, "name": "GPU", "boottime_ns": self.clock.boot_ns}
        if gpu.failed:
            return [DeviceReading(uuid=gpu.uuid, failed="lost", **common)]
        if not gpu.answers:
            return [DeviceReading(uuid=gpu.uuid, power_limit_mw=700_000, processes=(),
                                  errors={"energy_mj": "suspended", "power_mw": "suspended"}, **common)]
        by_place: dict[str, list[ProcessUse]] = {place: [] for place in gpu.places}
        for pid, (start, place) in gpu.processes.items():
            by_place[place].append(ProcessUse(pid, start, 1))
        divided = gpu.instances is not None
        processes = () if divided else tuple(by_place[gpu.uuid]) if gpu.listed else None
        passed = tuple(ProcessUse(pid, start, None) for uuid, pid, start in self.ended if uuid == gpu.uuid)
        whole = DeviceReading(
            uuid=gpu.uuid, energy_mj=None if gpu.uuid == SAMPLED else 0 if gpu.glitch else gpu.counter_mj,
            power_samples=gpu.recent(self.clock.utc_ns()) if gpu.uuid == SAMPLED else (),
            power_mw=gpu.power_mw, power_limit_mw=700_000, processes=processes,
            mig_slices=7 if divided else None, passed=passed,
            utilization_ratio=None if divided else float(any(0 < sample.sm_percent <= 100 for sample in samples)),
            utilization_samples=samples if gpu.samples and not divided else (),
            accounting=() if divided else tuple(
                AccountingUse(pid, 0, self.clock.utc_ns() // 1_000 - 300_000, 300, 50, None) for pid in accounted),
            errors={} if gpu.samples else {"utilization_samples": "Not Supported"}, **common)
        told = gpu.samples                       # the same flip serves for GPM
        return [whole, *(
            DeviceReading(uuid=uuid, parent_uuid=gpu.uuid, mig_slices=slices, gpm_sm_ratio=0.1 * slices if told else None,
                          processes=tuple(by_place[uuid]) if gpu.listed else None, **common)
            for uuid, slices in (gpu.instances or {}).items())]

    def holds(self) -> None:
        totals = self.after
        assert totals is not None
        for gpu in self.gpus.values():
            energy_mj = sum(mj for (uuid, _), mj in totals.energy_mj.items() if uuid in gpu.ever)
            assert energy_mj == totals.device_energy_mj.get(gpu.uuid, 0), gpu.uuid
            gpu_ns = sum(ns for (uuid, _), ns in totals.gpu_ns.items() if uuid in gpu.ever)
            assert gpu_ns == sum(ns for (uuid, _), ns in totals.device_state_ns.items() if uuid == gpu.uuid)
            if gpu.resets:
                assert gpu.truth.least_mj <= energy_mj <= gpu.drawn_mj
            elif not gpu.glitched:
                assert energy_mj == gpu.truth.energy_mj, gpu.uuid
            if not gpu.truth.fell:
                assert totals.device_gap_ns.get(gpu.uuid, 0) == gpu.truth.gap_ns, gpu.uuid
            assert totals.device_unpriced_mj.get(gpu.uuid, 0) == 0
            costs = [nano for (uuid, _, component, _), nano in totals.cost_nano.items()
                     if uuid in gpu.ever and component == "hardware"]
            hours_nano = gpu_ns * NANO // NS_PER_HOUR
            assert hours_nano - len(costs) <= sum(costs) <= hours_nano

    @invariant()
    def no_counter_falls(self) -> None:
        if self.before is None or self.after is None:
            return
        for field in Totals.__struct_fields__:
            earlier: dict[Any, int] = getattr(self.before, field)
            later: dict[Any, int] = getattr(self.after, field)
            fallen = {key: (value, later.get(key)) for key, value in earlier.items() if later.get(key, -1) < value}
            assert not fallen, field

    def money_is_energy_at_its_price(self) -> None:
        totals, carries = self.ledger.totals, self.ledger.carries()
        with closing(open_for_reading(self.folder)) as db:
            assert verify(db) == []
            rows = db.execute(
                "SELECT uuid, tags, price, SUM(energy_mj) FROM usage JOIN workload ON workload.id = usage.workload "
                "WHERE component = 'energy' GROUP BY uuid, tags, price").fetchall()
        exact: dict[tuple[str, tuple[str, ...]], int] = {}
        for uuid, tags, price, energy_mj in rows:
            key = (uuid, tuple(msgspec.json.decode(tags)))
            exact[key] = exact.get(key, 0) + int(price) * energy_mj
        booked: dict[str, Fraction] = {}
        for (uuid, workload), amount in exact.items():
            cost_key = (uuid, workload, "energy", "CNY")
            nano = totals.cost_nano.get(cost_key, 0) - totals.credit_nano.get(cost_key, 0)
            assert nano * ENERGY_COST_DENOMINATOR + carries.get(cost_key, 0) == amount
            booked[uuid] = booked.get(uuid, Fraction(0)) + Fraction(amount, ENERGY_COST_DENOMINATOR)
        for gpu in self.gpus.values():
            if not gpu.truth.fell:
                nano = sum((booked.get(uuid, Fraction(0)) for uuid in gpu.ever), Fraction(0))
                true_nano, cuts = self.spend.of(gpu.uuid)
                # where a price changes within an interval, each share of it is cut to a whole millijoule
                assert abs(nano - true_nano) <= cuts * MOST_SHARES * self.spend.widest * NANO / MJ_PER_KWH, gpu.uuid
