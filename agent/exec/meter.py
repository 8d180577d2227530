"""What one command used, by the same stages as the daemon: readings to intervals, shares and charges.

The readings come close together, so that processes which live for a moment are seen; what they say is put together to
windows of a second before it is split, because the driver samples the use of each process a few times a second only.
A device on which nobody else is seen is the command's alone, whole, what it draws idle included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from agent.attribution.attribution import Attribution, instances_by_parent
from agent.energy.metering import EnergyMeter
from agent.energy.sensor_factor import SensorFactors
from agent.model import DeviceReading, EnergyInterval, ProcessFacts, ProcessUse, Reading, Share, Workload
from agent.pricing.pricing import Pricing
from agent.tags.session import in_session
from agent.units import NS_PER_S

WINDOW_NS = NS_PER_S
KEYS = ("project",)                              # of the two workloads that are told apart here
COMMAND: Workload = ("command",)
OTHERS: Workload = ("others",)
MOST_PROCESSES = 8_192                           # that are remembered; the first seen are forgotten
_MOST_ANCESTORS = 64

Costs = dict[tuple[str, str], int]               # component, currency -> nano-units


class Part(Struct):
    """Energy, time and money of one claim on a device."""

    energy_mj: int = 0
    gpu_ns: int = 0                              # while the command ran
    emissions_ug: int = 0
    unpriced_mj: int = 0
    costs: Costs = {}
    rates: dict[str, None] = {}                  # names, in the order in which they were in force

    def add(self, other: Part) -> None:
        self.energy_mj += other.energy_mj
        self.gpu_ns += other.gpu_ns
        self.emissions_ug += other.emissions_ug
        self.unpriced_mj += other.unpriced_mj
        for key, nano in other.costs.items():
            self.costs[key] = self.costs.get(key, 0) + nano
        self.rates |= other.rates


class DeviceUse(Struct):
    """One device while the command ran."""

    uuid: str
    index: int
    name: str
    whole: Part                                  # everything that the device used
    own: Part                                    # what is the command's
    elapsed_ns: int = 0
    gap_ns: int = 0                              # of it, time for which no energy is known
    methods: dict[str, None] = {}                # of measuring
    splits: dict[str, None] = {}                 # of telling the command's part; empty where it was alone
    seen: bool = False                           # a process of the command was on it
    divided: bool = False                        # into MIG instances
    unlisted: bool = False                       # the driver does not say who is on it
    others: set[int] = set()                     # PIDs of other people's processes on it


class CommandMeter:
    """Fed with readings: the first before the command starts, the last after its end."""

    def __init__(self, session_id: str, pricing: Pricing, parent_of: Callable[[int], int],
                 sensors: SensorFactors | None = None, own_pricing: Pricing | None = None) -> None:
        """``parent_of`` gives a process's parent, 0 where it is not known: for those whose environment is hidden."""
        self.devices: dict[str, DeviceUse] = {}
        self.failed: dict[str, str] = {}         # uuid -> why the device did not answer last
        self._session_id, self._parent_of = session_id, parent_of
        self._pricing, self._own_pricing = pricing, own_pricing or pricing
        self._sensors = sensors or SensorFactors(())
        self._energy = EnergyMeter()
        self._attribution = Attribution(self._workload, KEYS)
        self._facts: dict[tuple[int, int], ProcessFacts] = {}
        self._mine: dict[tuple[int, int], bool] = {}
        self._pid = 0
        self._ran_ns: list[int] = []             # BOOTTIME of the command's start, and of its end
        self._window: list[Reading] = []
        self._intervals: dict[str, list[EnergyInterval]] = {}
        self._last: Reading | None = None

    @property
    def reading(self) -> Reading | None:
        """The last one."""
        return self._last

    def started(self, pid: int, boottime_ns: int) -> None:
        self._pid, self._ran_ns = pid, [boottime_ns]

    def ended(self, boottime_ns: int) -> None:
        """The command has ended: later time is nobody's, but energy that a counter shows late is still taken up."""
        self._ran_ns.append(boottime_ns)

    def advance(self, reading: Reading) -> None:
        """Take up the next reading."""
        for facts in reading.started:
            self._facts[facts.pid, facts.start_ticks] = facts
        while len(self._facts) > MOST_PROCESSES:
            oldest = next(iter(self._facts))
            del self._facts[oldest]
            self._mine.pop(oldest, None)
        intervals = self._energy.advance(reading, self._sensors)
        self._last = reading
        self.failed = {device.uuid: device.failed for device in reading.devices if device.failed is not None}
        if not self._ran_ns:                     # what was used beforehand has no part in what comes
            self._attribution.learn(reading)
            return
        for interval in intervals:
            self._intervals.setdefault(interval.uuid, []).append(interval)
        self._window.append(reading)
        if reading.boottime_ns - self._window[0].boottime_ns >= WINDOW_NS:
            self.close_window()

    def close_window(self) -> None:
        """Split what has been gathered. To be called once more at the end."""
        if not self._window:
            return
        merged = merge(self._window)
        self._attribution.learn(merged)
        instances = instances_by_parent(merged)
        devices = {device.uuid: device for device in merged.devices}
        for uuid, parts in self._intervals.items():
            if uuid in devices:
                self._book(joined(parts), devices[uuid], instances.get(uuid, ()))
        self._window, self._intervals = [], {}

    def still_there(self) -> int:
        """How many processes of the command are on a device at the last reading."""
        if self._last is None:
            return 0
        there = (process for device in self._last.devices for process in device.processes or ())
        return len({process.pid for process in there if self._is_mine(process)})

    def _book(self, interval: EnergyInterval, device: DeviceReading, instances: Sequence[DeviceReading]) -> None:
        use = self.devices.get(interval.uuid)
        if use is None:
            use = self.devices[interval.uuid] = DeviceUse(interval.uuid, device.index, device.name, Part(), Part())
        use.elapsed_ns += interval.elapsed_ns
        use.gap_ns += interval.gap_ns
        use.methods[interval.method] = None
        there = [process for holder in (device, *instances) for process in (*(holder.processes or ()), *holder.passed)]
        mine = [self._is_mine(process) for process in there]
        use.unlisted |= any(holder.processes is None for holder in (instances or (device,)))
        use.seen, use.divided = use.seen or any(mine), use.divided or bool(instances)
        if len(use.others) < MOST_PROCESSES:
            use.others |= {process.pid for process, own in zip(there, mine, strict=True) if not own}
        ran_ns = self._overlap_ns(interval, device.boottime_ns)
        whole = Share(uuid=interval.uuid, workload=("whole",), start_utc_ns=interval.start_utc_ns,
                      end_utc_ns=interval.end_utc_ns, energy_mj=interval.energy_mj,
                      gpu_ns=interval.elapsed_ns - interval.gap_ns, method="sole")
        priced = self._priced(whole, interval, ran_ns, device.name)
        use.whole.add(priced)
        if all(mine) and not instances:
            use.own.add(priced)                  # once: a second charge would climb the tariff's tiers a second time
            return
        for share in self._attribution.split(interval, device, instances, {}):
            if share.workload == COMMAND:
                use.splits[share.method] = None
                use.own.add(self._priced(share, interval, ran_ns, device.name, self._own_pricing))

    def _priced(self, share: Share, interval: EnergyInterval, ran_ns: int, device_name: str,
                pricing: Pricing | None = None) -> Part:
        ran = replace(share, gpu_ns=share.gpu_ns * ran_ns // max(1, interval.elapsed_ns))
        part = Part(energy_mj=ran.energy_mj, gpu_ns=ran.gpu_ns, costs={}, rates={})
        for charge in (pricing or self._pricing).charge(ran, device_name):
            part.emissions_ug += charge.emissions_ug
            if charge.component == "energy":
                part.rates[charge.rate] = None
                part.unpriced_mj += 0 if charge.rate else charge.energy_mj
            if charge.currency:
                key = (charge.component, charge.currency)
                part.costs[key] = part.costs.get(key, 0) + charge.cost_nano
        return part

    def _overlap_ns(self, interval: EnergyInterval, end_ns: int) -> int:
        """How long the command ran within an interval that ended at a BOOTTIME."""
        started_ns, ended_ns = self._ran_ns[0], self._ran_ns[1] if len(self._ran_ns) > 1 else end_ns
        return max(0, min(end_ns, ended_ns) - max(end_ns - interval.elapsed_ns, started_ns))

    def _workload(self, facts: ProcessFacts | None, uuid: str, name: str) -> Workload:
        return COMMAND if facts is not None and self._belongs(facts) else OTHERS

    def _is_mine(self, process: ProcessUse) -> bool:
        if process.pid == self._pid:
            return True
        facts = self._facts.get((process.pid, process.start_ticks))
        return facts is not None and self._belongs(facts)

    def _belongs(self, facts: ProcessFacts) -> bool:
        key = (facts.pid, facts.start_ticks)
        if key not in self._mine:
            self._mine[key] = (facts.pid == self._pid or in_session(facts.environ, self._session_id)
                               or self._descends(facts))
        return self._mine[key]

    def _descends(self, facts: ProcessFacts) -> bool:
        pid = facts.parent_pid
        for _ in range(_MOST_ANCESTORS):
            if pid <= 1:
                return False
            if pid == self._pid:
                return True
            pid = self._parent_of(pid)
        return False


def joined(intervals: Sequence[EnergyInterval]) -> EnergyInterval:
    """Successive intervals of a device as one."""
    return replace(
        intervals[-1], start_utc_ns=intervals[0].start_utc_ns, elapsed_ns=sum(i.elapsed_ns for i in intervals),
        energy_mj=sum(i.energy_mj for i in intervals), gap_ns=sum(i.gap_ns for i in intervals),
        bridged=any(i.bridged for i in intervals))


def merge(readings: Sequence[Reading]) -> Reading:
    """The last of successive readings, with the processes and samples of all of them."""
    found: dict[str, list[DeviceReading]] = {}
    for reading in readings:
        for device in reading.devices:
            found.setdefault(device.uuid, []).append(device)
    return replace(
        readings[-1], devices=tuple(_merged(found[device.uuid]) for device in readings[-1].devices),
        started=tuple(facts for reading in readings for facts in reading.started))


def _merged(devices: Sequence[DeviceReading]) -> DeviceReading:
    last = devices[-1]
    listed = [device.processes for device in devices if device.processes is not None]
    processes = _once(use for uses in listed for use in uses)
    passed = _once(use for device in devices for use in device.passed)
    return replace(
        last, processes=tuple(processes.values()) if listed else None,
        passed=tuple(use for key, use in passed.items() if key not in processes),
        utilization_samples=tuple(row for device in devices for row in device.utilization_samples),
        accounting=tuple(row for device in devices for row in device.accounting))


def _once(uses: Iterable[ProcessUse]) -> Mapping[tuple[int, int], ProcessUse]:
    return {(use.pid, use.start_ticks): use for use in uses}
