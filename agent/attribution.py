"""Who used a device's energy and time. Every interval's energy and time is split whole: shares sum to it, exactly.

Methods, named on each share: ``idle`` (nobody on the device), ``sole`` (one workload), ``sampled`` (in proportion to the
driver's per-process utilization samples), ``equal`` (several, and nothing tells them apart), ``mig`` (by the slices of the
instances, equally inside one), ``unwatched`` (the agent was not looking: nobody is named).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.model import IDLE, UNATTRIBUTED, DeviceReading, EnergyInterval, ProcessFacts, ProcessUse, Reading, Share, Workload
from agent.units import split_integer

Resolve = Callable[[ProcessFacts | None, str, str], Workload]      # facts, GPU uuid, GPU name
MAX_REMEMBERED_PROCESSES = 20_000


def reserved(project: str, tag_keys: Sequence[str]) -> Workload:
    """The workload of a reserved project value: it stands under ``project``, or under the first key without one."""
    at = tag_keys.index("project") if "project" in tag_keys else 0
    return tuple(project if i == at else "" for i in range(len(tag_keys)))


class Attribution:
    """Splits intervals over workloads. Remembers the facts of the processes that readings bring."""

    def __init__(self, resolve: Resolve, tag_keys: Sequence[str]) -> None:
        self._resolve = resolve
        self._idle = reserved(IDLE, tag_keys)
        self._unattributed = reserved(UNATTRIBUTED, tag_keys)
        self._facts: dict[tuple[int, int], ProcessFacts] = {}

    def learn(self, reading: Reading) -> None:
        """Take up the facts of newly seen processes; forget the oldest of those no longer on any device."""
        for facts in reading.started:
            self._facts[facts.pid, facts.start_ticks] = facts
        if len(self._facts) > MAX_REMEMBERED_PROCESSES:
            present = {(p.pid, p.start_ticks) for d in reading.devices for p in d.processes or ()}
            self._facts = {key: facts for key, facts in self._facts.items() if key in present}

    @property
    def remembered(self) -> int:
        """How many processes' facts are held."""
        return len(self._facts)

    def remember(self, previous: Attribution) -> None:
        """Take over another's facts: the probe sends each process's only once."""
        self._facts.update(previous._facts)

    def workload(self, process: ProcessUse, device: DeviceReading) -> Workload:
        """The workload that a process on a device belongs to."""
        return self._resolve(self._facts.get((process.pid, process.start_ticks)), device.uuid, device.name)

    def weights(self, device: DeviceReading, instances: Sequence[DeviceReading] = ()) -> tuple[str, dict[Workload, int]]:
        """How a device's interval is to be split: the method, and an integer weight a workload.

        ``instances`` are the device's MIG instances, if any: each has its compute slices as weight, used or not.
        """
        if instances:
            return "mig", self._mig_weights(instances)
        processes = device.processes
        if not processes:
            # No list of processes is not the same as an empty one: then somebody may be there.
            return ("idle", {self._idle: 1}) if processes is not None else ("idle", {self._unattributed: 1})
        workloads = {process.pid: self.workload(process, device) for process in processes}
        distinct = set(workloads.values())
        if len(distinct) == 1:
            return "sole", {distinct.pop(): 1}
        busy: dict[Workload, int] = {}
        for sample in device.utilization_samples:
            owner = workloads.get(sample.pid)
            if owner is not None and sample.sm_percent:
                busy[owner] = busy.get(owner, 0) + sample.sm_percent
        if busy:
            return "sampled", busy
        equal: dict[Workload, int] = {}
        for workload in workloads.values():
            equal[workload] = equal.get(workload, 0) + 1
        return "equal", equal

    def _mig_weights(self, instances: Sequence[DeviceReading]) -> dict[Workload, int]:
        # A common multiple of the process counts keeps each instance's part whole before the one rounding.
        multiple = 1
        for instance in instances:
            multiple *= max(1, len(instance.processes or ()))
        weights: dict[Workload, int] = {}
        for instance in instances:
            owners = [self.workload(process, instance) for process in instance.processes or ()] or [self._idle]
            for owner in owners:
                part = (instance.mig_slices or 1) * multiple // len(owners)
                weights[owner] = weights.get(owner, 0) + part
        return weights

    def split(self, interval: EnergyInterval, device: DeviceReading, instances: Sequence[DeviceReading],
              state: str) -> tuple[Share, ...]:
        """The shares of one interval. They sum to its ``energy_mj`` and its ``elapsed_ns``; time in a gap is
        ``unwatched``, with no energy."""
        if interval.bridged:
            return (self._share(interval, self._unattributed, interval.energy_mj, interval.elapsed_ns, "unwatched", state),)
        method, weights = self.weights(device, instances)
        parts = list(weights.values())
        energies = split_integer(interval.energy_mj, parts)
        times = split_integer(interval.elapsed_ns - interval.gap_ns, parts)
        shares = [
            self._share(interval, workload, energy_mj, gpu_ns, method, state)
            for workload, energy_mj, gpu_ns in zip(weights, energies, times, strict=True)
        ]
        if interval.gap_ns:
            shares.append(self._share(interval, self._unattributed, 0, interval.gap_ns, "unwatched", "unknown"))
        return tuple(shares)

    @staticmethod
    def _share(interval: EnergyInterval, workload: Workload, energy_mj: int, gpu_ns: int, method: str,
               state: str) -> Share:
        return Share(uuid=interval.uuid, workload=workload, start_utc_ns=interval.start_utc_ns,
                     end_utc_ns=interval.end_utc_ns, energy_mj=energy_mj, gpu_ns=gpu_ns, method=method, state=state)


def instances_by_parent(reading: Reading) -> Mapping[str, list[DeviceReading]]:
    """The MIG instances of each GPU that has some."""
    instances: dict[str, list[DeviceReading]] = {}
    for device in reading.devices:
        if device.parent_uuid is not None:
            instances.setdefault(device.parent_uuid, []).append(device)
    return instances
