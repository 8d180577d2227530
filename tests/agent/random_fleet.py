"""A fleet to which anything may happen, tick by tick, through the whole pipeline and a real ledger.

After every tick: shares sum to each device's energy and time, to the millijoule and the nanosecond; the ledger holds no
more than was drawn; no counter has fallen; hardware cost is GPU time at its price. ``FleetMachine.ticks`` counts them.
"""

from __future__ import annotations

import shutil
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.model import (
    AccountingUse,
    DeviceReading,
    ProcessFacts,
    ProcessUse,
    Reading,
    Totals,
    UtilizationSample,
)
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.settings import Hardware, Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.units import NANO, NS_PER_HOUR, NS_PER_MS, NS_PER_S
from tests.agent.records import BOOT_NS, NOON_NS

KEYS = ("project", "team")
PLAIN, DIVIDED = "GPU-plain", "GPU-divided"
PROFILES = {"3+4": (3, 4), "2+2+1": (2, 2, 1), "7": (7,), "none": ()}
HARDWARE = (Hardware(gpu="*", price=Decimal(35_040), years=Decimal(4), currency="CNY"),)      # 1 CNY an hour
PIDS = st.integers(1, 6)
GPUS = st.sampled_from([PLAIN, DIVIDED])


class HandClock:
    """A clock that the machine turns."""

    def __init__(self) -> None:
        self.boot_ns = BOOT_NS

    def boottime_ns(self) -> int:
        return self.boot_ns

    def monotonic_ns(self) -> int:
        return self.boot_ns

    def utc_ns(self) -> int:
        return NOON_NS + self.boot_ns - BOOT_NS


class Gpu:
    """The truth about one GPU."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.counter_mj = 10_000
        self.drawn_mj = 0
        self.failed = False
        self.power_mw = 0
        self.listed = True
        self.samples = True
        self.processes: dict[int, tuple[int, str]] = {}          # PID -> start, place
        self.instances: dict[str, int] | None = None             # UUID -> slices; None: not divided
        self.ever = {uuid}

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
        self.gpus = {uuid: Gpu(uuid) for uuid in (PLAIN, DIVIDED)}
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
        pricing = Pricing(None, "", Decimal(1), HARDWARE, None, carries)
        return Stages(site="", tag_keys=KEYS, resolver=resolver, attribution=attribution, pricing=pricing,
                      idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC"))

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    @initialize()
    def first_reading(self) -> None:
        self.pipeline.tick(self.reading({}, ()))

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

    @rule(gpu=GPUS, to_mj=st.integers(0, 5_000))
    def counter_resets(self, gpu: str, to_mj: int) -> None:
        self.gpus[gpu].counter_mj = to_mj

    @rule(profile=st.sampled_from([*PROFILES, "off"]), generation=st.integers(1, 3))
    def is_divided(self, profile: str, generation: int) -> None:
        gpu = self.gpus[DIVIDED]
        gpu.processes.clear()
        if profile == "off":
            gpu.instances = None
            return
        gpu.instances = {f"MIG-{profile}-{generation}-{i}": slices for i, slices in enumerate(PROFILES[profile])}
        gpu.ever |= gpu.instances.keys()

    @rule()
    def daemon_is_killed(self) -> None:
        """The ledger has all: it is written at every tick. Facts are told again by a new probe."""
        self.ledger.close()
        self.open()
        self.sequence += 1_000
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
                gpu.power_mw = watts * 1_000 // (number + 1)
                energy_mj = gpu.power_mw * wait_ms // 1_000
                gpu.counter_mj += energy_mj
                gpu.drawn_mj += energy_mj
            self.before = self.after or self.ledger.totals       # also across a kill
            samples: dict[str, list[UtilizationSample]] = {PLAIN: [], DIVIDED: []}
            for i, (uuid, pid, percent) in enumerate(rows):
                samples[uuid].append(UtilizationSample(pid, (self.clock.utc_ns() - i * NS_PER_S // 6) // 1_000, percent))
            snapshot = self.pipeline.tick(self.reading({u: tuple(s) for u, s in samples.items()}, tuple(accounted)))
            places = [(status.uuid, status.workload) for status in snapshot.workloads]
            assert len(set(places)) == len(places)
            FleetMachine.ticks += 1
            self.after = self.ledger.totals
            self.holds()
            self.no_counter_falls()

    def reading(self, samples: dict[str, tuple[UtilizationSample, ...]], accounted: tuple[int, ...]) -> Reading:
        devices: list[DeviceReading] = []
        for index, gpu in enumerate(self.gpus.values()):
            devices += self.devices(index, gpu, samples.get(gpu.uuid, ()), accounted)
        self.sequence += 1
        started, self.started = tuple(self.started), []
        self.ended.clear()
        return Reading(session="random", sequence=self.sequence, boot_id="boot", boottime_ns=self.clock.boot_ns,
                       monotonic_ns=self.clock.boot_ns, utc_ns=self.clock.utc_ns(), driver_version="",
                       devices=tuple(devices), started=started)

    def devices(self, index: int, gpu: Gpu, samples: tuple[UtilizationSample, ...],
                accounted: tuple[int, ...]) -> list[DeviceReading]:
        common: dict[str, Any] = {"index": index, "name": "GPU", "boottime_ns": self.clock.boot_ns}
        if gpu.failed:
            return [DeviceReading(uuid=gpu.uuid, failed="lost", **common)]
        by_place: dict[str, list[ProcessUse]] = {place: [] for place in gpu.places}
        for pid, (start, place) in gpu.processes.items():
            by_place[place].append(ProcessUse(pid, start, 1))
        divided = gpu.instances is not None
        processes = () if divided else tuple(by_place[gpu.uuid]) if gpu.listed else None
        passed = tuple(ProcessUse(pid, start, None) for uuid, pid, start in self.ended if uuid == gpu.uuid)
        whole = DeviceReading(
            uuid=gpu.uuid, energy_mj=gpu.counter_mj, power_mw=gpu.power_mw, power_limit_mw=700_000, processes=processes,
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
            assert energy_mj <= gpu.drawn_mj
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
