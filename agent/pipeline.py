"""One tick, all stages in order: reading, energy, attribution, pricing, ledger, snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent import __version__
from agent.attribution.attribution import Attribution, instances_by_parent
from agent.budgets import BudgetBook
from agent.clock import Clock
from agent.energy.metering import UNWATCHED_NS, EnergyMeter, method_of
from agent.energy.off_time import OffTime
from agent.energy.sensor_factor import SensorFactors
from agent.idle import IdleJudge
from agent.ledger.batch import Batch
from agent.ledger.journal import Journal
from agent.ledger.ledger import Ledger
from agent.model import (
    AgentStatus,
    BudgetStatus,
    Charge,
    DeviceReading,
    DeviceStatus,
    EnergyInterval,
    Reading,
    Share,
    Snapshot,
    Workload,
    WorkloadStatus,
)
from agent.pricing.host_cost import CpuTime, HostMeter
from agent.pricing.pricing import Pricing
from agent.tags.resolver import WorkloadResolver
from agent.units import NS_PER_S, split_integer

MISSED_INTERVALS_PERCENT = 250           # of the sampling interval without a reading: then nobody was watching


class Stages:
    """What the configuration decides: replaced whole by a reload, between two ticks."""

    def __init__(self, *, site: str, tag_keys: tuple[str, ...], resolver: WorkloadResolver, attribution: Attribution,
                 pricing: Pricing, idle: IdleJudge, budgets: BudgetBook,
                 calibration: SensorFactors | None = None, interval_ns: int = NS_PER_S) -> None:
        self.site = site
        self.tag_keys = tag_keys
        self.resolver = resolver
        self.attribution = attribution
        self.pricing = pricing
        self.idle = idle
        self.budgets = budgets
        self.calibration = calibration or SensorFactors(())
        self.unwatched_ns = max(UNWATCHED_NS, MISSED_INTERVALS_PERCENT * interval_ns // 100)


class Pipeline:
    """Carries readings through the stages. Used by one thread; snapshots may be handed to any other."""

    def __init__(self, stages: Stages, ledger: Ledger, clock: Clock, flush_interval_ns: int) -> None:
        self.stages = stages
        self._ledger = ledger
        self._clock = clock
        self._energy = EnergyMeter(ledger.meters())
        self.journal = Journal(ledger, flush_interval_ns, self._observe)
        self.config_reload_success = True
        self.probe_restarts = 0
        self._host = HostMeter(ledger.host())
        self._cpu = CpuTime()
        self._budgets: tuple[BudgetStatus, ...] = ()
        self._ticks = 0
        self._missed_ticks = 0
        self._dropped_ticks = 0
        self._tick_seconds = 0.0
        self._last: Reading | None = None
        self._states: Mapping[str, str] = {}
        self._workloads: tuple[WorkloadStatus, ...] = ()

    def tick(self, reading: Reading) -> Snapshot:
        """Carry one reading through every stage. Commits before it publishes."""
        started_ns = self._clock.monotonic_ns()
        stages = self.stages
        measured, reading = reading, stages.calibration.power(reading)
        stages.resolver.forget(stages.attribution.learn(reading))
        self._states = stages.idle.judge(reading, stages.attribution.context_power_mw)
        if self.journal.full:
            self._dropped_ticks += 1
        else:
            self._book(reading, self._energy.advance(measured, stages.calibration, stages.unwatched_ns))
        self.journal.flush_if_due(started_ns, reading.utc_ns)
        self._last = reading
        self._ticks += 1
        self._tick_seconds = (self._clock.monotonic_ns() - started_ns) / NS_PER_S
        return self.snapshot()

    def _book(self, reading: Reading, intervals: tuple[EnergyInterval, ...]) -> None:
        stages = self.stages
        devices = {device.uuid: device for device in reading.devices}
        instances = instances_by_parent(reading)
        charges: list[Charge] = []
        everybody: list[Share] = []
        divided: list[tuple[EnergyInterval, tuple[Share, ...]]] = []
        stages.attribution.wait(reading, {interval.uuid for interval in intervals})
        for interval in intervals:
            device, parts = devices[interval.uuid], instances.get(interval.uuid, ())
            shares = stages.attribution.split(interval, device, parts, self._states)
            for share in shares:
                charges += stages.pricing.charge(share, device.name)
            everybody += shares
            divided.append((interval, shares))
        self._cpu.learn(reading, stages.attribution.workload)
        cpu_ratio = reading.host.cpu_utilization_ratio if reading.host is not None else None
        charges += stages.pricing.charge_host(
            self._host.advance(reading, intervals), everybody, self._cpu.by_workload_ns, cpu_ratio)
        charges += self._charge_off(devices)
        host = stages.pricing.host_nano_per_hour(reading.utc_ns, _present(everybody), self._cpu.by_workload_ns, cpu_ratio)
        self._workloads = tuple(
            status for interval, shares in divided
            for status in self._now(interval, shares, devices[interval.uuid], instances.get(interval.uuid, ()), host))
        names = {uuid: device.name for uuid, device in devices.items()}
        self.journal.batch.add(reading.session, reading.sequence, names, intervals, self._states, charges, self._energy.states,
                               stages.attribution.learned, self._host.state)

    def _charge_off(self, devices: Mapping[str, DeviceReading]) -> list[Charge]:
        """What is owed for times in which the machine was off: nobody was on its devices then."""
        def nobody(uuid: str, time: OffTime) -> Share:
            return Share(uuid=uuid, workload=self.stages.attribution.nobody, start_utc_ns=time.start_utc_ns, method="idle",
                         end_utc_ns=time.end_utc_ns, energy_mj=0, gpu_ns=time.end_utc_ns - time.start_utc_ns)
        pricing = self.stages.pricing
        charges: list[Charge] = []
        for time in self._energy.off:
            charges += pricing.charge_off(nobody(time.uuid, time), devices[time.uuid].name)
        for time in self._host.off:
            charges += pricing.charge_host_off([
                (nobody(uuid, time), device.name) for uuid, device in devices.items()
                if device.parent_uuid is None and device.failed is None])
        return charges

    def _now(self, interval: EnergyInterval, shares: tuple[Share, ...], device: DeviceReading,
             instances: list[DeviceReading] | tuple[()],
             host_nano: dict[tuple[str, Workload], int | None]) -> list[WorkloadStatus]:
        """What each workload draws at this moment: the device's power, split as the interval's energy was. Its part of the
        host is taken out of ``host_nano``, so that it counts once."""
        live = _present(shares)
        if device.power_mw is None or interval.bridged:
            return []
        pricing, attribution = self.stages.pricing, self.stages.attribution
        weights = [share.energy_mj for share in live]
        powers = split_integer(device.power_mw, weights if any(weights) else [share.gpu_ns for share in live])
        memory = self._memory(device, instances)
        return [
            WorkloadStatus(
                uuid=share.uuid, workload=share.workload, power_mw=power_mw,
                memory_used_bytes=memory.get((share.uuid, share.workload)),
                cost_nano_per_hour=_sum(
                    pricing.nano_per_hour(interval.end_utc_ns, power_mw, device.name, (share.gpu_ns, interval.elapsed_ns)),
                    host_nano.pop((share.uuid, share.workload), 0)),
                method=share.method, share_error_ratio=attribution.share_error(share))
            for share, power_mw in zip(live, powers, strict=True)
        ]

    def _memory(self, device: DeviceReading, instances: list[DeviceReading] | tuple[()]) -> dict[tuple[str, Workload], int]:
        memory: dict[tuple[str, Workload], int] = {}
        for holder in (device, *instances):
            for process in holder.processes or ():
                if process.memory_bytes is not None:
                    key = (holder.uuid, self.stages.attribution.workload(process, holder))
                    memory[key] = memory.get(key, 0) + process.memory_bytes
        return memory

    def missed(self, ticks: int) -> None:
        """Count ticks that did not take place in time."""
        self._missed_ticks += ticks

    def judge_budgets(self) -> None:
        """Evaluate the budgets now; snapshots carry the result until the next call."""
        self._budgets = self.stages.budgets.judge(self._clock.utc_ns())

    def _observe(self, batch: Batch) -> None:
        for (minute_ns, workload, currency), cost_nano in batch.spend.items():
            self.stages.budgets.observe(minute_ns, workload, currency, cost_nano)

    def snapshot(self, *, stale: bool = False) -> Snapshot:
        """What there is to see now. ``stale``: the probe did not answer, so no device is up and nothing draws."""
        now_ns = self._clock.utc_ns()
        last, stages = self._last, self.stages
        return Snapshot(
            utc_ns=now_ns, tag_keys=stages.tag_keys, site=stages.site, currency=stages.pricing.currency,
            driver_version=last.driver_version if last else "", simulated=bool(last and last.simulated), stale=stale,
            devices=tuple(self._device(device, stale=stale) for device in last.devices) if last else (),
            workloads=() if stale else self._workloads, totals=self._ledger.totals, budgets=self._budgets,
            tariff=stages.pricing.status(now_ns), host=last.host if last and not stale else None,
            listed=stages.resolver.listed(),
            agent=AgentStatus(
                version=__version__, last_sample_utc_ns=last.utc_ns if last else None, ticks=self._ticks,
                missed_ticks=self._missed_ticks, tick_seconds=self._tick_seconds, ledger_ok=self.journal.ok,
                config_reload_success=self.config_reload_success, dropped_series=stages.resolver.overflowed,
                probe_restarts=self.probe_restarts, queued_ticks=self.journal.queued_ticks,
                dropped_ticks=self._dropped_ticks, ledgers_set_aside=self._ledger.kept_aside))

    def _device(self, device: DeviceReading, *, stale: bool) -> DeviceStatus:
        up = device.failed is None and not stale
        check = self._energy.check(device.uuid) if up else None
        static = self.stages.attribution.static_power(device.uuid)
        return DeviceStatus(
            uuid=device.uuid, index=device.index, name=device.name, up=up,
            energy_method="mig" if device.parent_uuid else method_of(device),
            state=self._states.get(device.uuid, "unknown") if up else "unknown",
            power_mw=device.power_mw if up else None, power_limit_mw=device.power_limit_mw if up else None,
            utilization_ratio=device.utilization_ratio if up else None,
            memory_used_bytes=device.memory_used_bytes if up else None,
            memory_total_bytes=device.memory_total_bytes if up else None,
            temperature_celsius=device.temperature_celsius if up else None,
            energy_disagreement_ratio=check.ratio if check is not None else None,
            energy_suspect=check.suspect if check is not None else None,
            hidden_processes=hidden_processes(device) if up else None,
            bare_power_mw=static.bare_mw, context_power_mw=static.context_mw, parent_uuid=device.parent_uuid)


def hidden_processes(device: DeviceReading) -> int | None:
    """How many of a device's processes /proc does not show: those of other PID namespaces, or behind hidepid."""
    return None if device.processes is None else sum(process.start_ticks == 0 for process in device.processes)


def _present(shares: Sequence[Share]) -> list[Share]:
    """The shares of those who are there now: not of a gap in the interval, unless there is nothing else."""
    return [share for share in shares if share.method != "unwatched"] or list(shares)


def _sum(one_nano: int | None, other_nano: int | None) -> int | None:
    """Unknown where either is."""
    return None if one_nano is None or other_nano is None else one_nano + other_nano
