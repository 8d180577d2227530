"""Who used a device's energy and time. Every interval's energy and time is split whole: shares sum to it, exactly.

Methods, named on each share: ``idle`` (nobody on the device, and what the bare device draws), ``sole`` (one workload),
``sampled`` (in proportion to the driver's per-process utilization samples), ``accounting`` (a process that came and went
between samples, by the driver's accounting), ``equal`` (several, and nothing tells them apart), ``mig`` (by the instances of a
divided GPU, equally inside one), ``unwatched`` (the agent was not looking, or the driver does not tell: nobody is named).

The arithmetic is in ``sharing.py``, what is learned in ``static_power.py``; ``docs/decisions/attribution.md`` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from agent.attribution.holding import (
    Presence,
    accounted,
    busy_by_process,
    has_row_a_look,
    keys_of,
    looks,
    presence,
    told_before,
)
from agent.attribution.known_processes import Key, KnownProcesses
from agent.attribution.share_error import ShareError
from agent.attribution.sharing import Claim, Owed, Part, Place, by_cause, by_slices, by_use
from agent.attribution.static_power import Quiet, StaticPower, StaticPowers
from agent.model import IDLE, UNATTRIBUTED, DeviceReading, EnergyInterval, ProcessFacts, ProcessUse, Reading, Share, Workload
from agent.units import NS_PER_S, split_integer

Resolve = Callable[[ProcessFacts | None, str, str], Workload]      # facts, GPU uuid, GPU name

HOLD_NS: Final = 3 * NS_PER_S        # samples come up to a second late: without new ones the last ones stand for so long
MAX_WAITING: Final = 128             # readings without an interval: ten seconds of them, then nobody is named anyway
FINER: Final = 1_000                 # busy time in this fraction, where it is divided once more
QUIET_RATIO: Final = 0.005           # of the multiprocessors, as GPM measures them: nothing runs


def reserved(project: str, tag_keys: Sequence[str]) -> Workload:
    """The workload of a reserved project value: it stands under ``project``, or under the first key without one."""
    at = tag_keys.index("project") if "project" in tag_keys else 0
    return tuple(project if i == at else "" for i in range(len(tag_keys)))


class _Last(Struct, gc=False):
    """What is remembered of a device from one interval to the next."""

    boottime_ns: int
    holders: dict[str, list[Key]]                # by UUID of the GPU or instance
    owed: Owed = Owed()
    busy: dict[Key, int] = {}
    sampled_ns: int = 0
    row_a_look: bool = False                     # of the driver's rows of use; else each is a mean


class Attribution:
    """Splits intervals over workloads. Remembers processes and who held which device; learns static power."""

    def __init__(self, resolve: Resolve, tag_keys: Sequence[str], learned: Mapping[str, bytes] | None = None) -> None:
        """``learned`` is what ``learned`` gave in an earlier life."""
        self._resolve = resolve
        self._nobody = reserved(IDLE, tag_keys)
        self._unknown = reserved(UNATTRIBUTED, tag_keys)
        self._known = KnownProcesses()
        self._static = StaticPowers(learned)
        self._last: dict[str, _Last] = {}
        self._errors: dict[str, ShareError] = {}
        self._waiting: dict[str, tuple[DeviceReading, ...]] = {}

    @property
    def learned(self) -> Mapping[str, bytes]:
        """What has been learned of each device's static power, by UUID: for the ledger."""
        return self._static.encoded

    @property
    def nobody(self) -> Workload:
        """The workload of a device that nobody is on."""
        return self._nobody

    @property
    def remembered(self) -> int:
        """How many processes' facts are held."""
        return len(self._known)

    def static_power(self, uuid: str) -> StaticPower:
        """The learned static power of a device; its parts are None until they have been seen."""
        return self._static.power(uuid)

    @property
    def context_power_mw(self) -> Mapping[str, int]:
        """What each device draws with contexts open and nothing running, where that has been learned."""
        return self._static.held_mw

    def learn(self, reading: Reading) -> list[Key]:
        """Take up the facts that a reading brings. Returns the processes that are forgotten with it."""
        if len(self._last) > len(reading.devices):
            present = {device.uuid for device in reading.devices}
            for uuid in self._last.keys() - present:
                del self._last[uuid]
                self._errors.pop(uuid, None)
        return self._known.learn(reading)

    def remember(self, previous: Attribution) -> None:
        """Take over all that another has learned, as a reload does."""
        self._known, self._static = previous._known, previous._static
        self._last = previous._last

    def workload(self, process: ProcessUse, device: DeviceReading) -> Workload:
        """The workload that a process on a device belongs to."""
        return self._owner((process.pid, process.start_ticks), device)

    def share_error(self, share: Share) -> float | None:
        """The 95 % half-width of a workload's share of its device over the last ten minutes: by the samples, where these tell
        several apart; 0 for the only one there; None where nothing tells."""
        if share.method not in ("sole", "sampled", "accounting"):
            return None
        error = self._errors.get(share.uuid)
        if share.method == "sole" and (error is None or not error.told(share.workload)):
            return 0.0
        return error.half_width(share.workload) if error is not None else None

    def wait(self, reading: Reading, booked: Collection[str]) -> None:
        """Keep what a device tells in a reading that ends no interval of it: that counts in the one that covers this time."""
        for device in reading.devices:
            if device.uuid in self._last and device.uuid not in booked and device.failed is None:
                self._waiting[device.uuid] = (*self._waiting.get(device.uuid, ()), device)[-MAX_WAITING:]

    def split(self, interval: EnergyInterval, device: DeviceReading, instances: Sequence[DeviceReading],
              states: Mapping[str, str]) -> tuple[Share, ...]:
        """The shares of one interval, in the order in which they come. They sum to its ``energy_mj`` and its ``elapsed_ns``,
        over the device's UUID and those of its instances. Time in a gap is ``unwatched``, with no energy."""
        waiting = self._waiting.pop(interval.uuid, ())
        row_a_look = any(has_row_a_look(one.utilization_samples) for one in (*waiting, device))
        device = told_before(waiting, device)
        last = self._last.get(interval.uuid)
        watched = last is not None and last.boottime_ns == device.boottime_ns - interval.elapsed_ns
        now = _Last(device.boottime_ns, {place.uuid: keys_of(place.processes)
                                         for place in instances or (device,) if place.processes is not None})
        now.row_a_look = row_a_look or (last is not None and last.row_a_look)
        self._last[interval.uuid] = now
        if interval.bridged or (device.processes is None and not instances):
            return (self._unwatched(interval, interval.energy_mj, interval.elapsed_ns, {} if interval.bridged else states),)
        before = last.holders if last is not None and watched else {}
        if last is not None and watched:
            now.owed, now.busy, now.sampled_ns = last.owed, last.busy, last.sampled_ns
        quiet = _quiet(device, instances)
        self._static.observe(interval, quiet)
        power = self._static.power(interval.uuid)
        if instances:
            parts = self._divided(interval, device, instances, power, before, now)
            states = {**states, device.uuid: "unallocated"}      # what stands under its own UUID is in no instance
        else:
            parts = self._whole(interval, device, power, before.get(device.uuid), now)
        shares = [self._share(interval, part, states, calibrated=power.calibrated) for part in parts]
        if interval.gap_ns:
            shares.append(self._unwatched(interval, 0, interval.gap_ns, {}))
        return tuple(shares)

    def _whole(self, interval: EnergyInterval, device: DeviceReading, power: StaticPower, before: list[Key] | None,
               now: _Last) -> list[Part]:
        seen = before or ()
        holders = now.holders[device.uuid]
        fresh = busy_by_process(device, interval, seen, holders, self._known.recent)
        counted = accounted(device, interval, seen, fresh, row_a_look=now.row_a_look)
        there = presence(before, holders, [*fresh, *counted])
        samples_taken = "utilization_samples" not in device.errors
        if fresh:
            now.busy, now.sampled_ns = fresh, device.boottime_ns
        busy = fresh.copy()
        if not fresh and samples_taken and device.boottime_ns - now.sampled_ns <= HOLD_NS:
            busy = {key: part for key, part in now.busy.items() if key in there.halves}
        if samples_taken or counted.keys() >= there.halves.keys():
            busy |= counted
        claims = self._claims(device, there, busy, counted)
        if fresh and len(claims) > 1:
            error = self._errors.setdefault(device.uuid, ShareError())
            error.add(device.boottime_ns, {claim.workload: claim.busy for claim in claims if claim.busy},
                      looks(device.utilization_samples, interval.elapsed_ns, row_a_look=now.row_a_look))
        elif device.uuid in self._errors:
            self._errors[device.uuid].expire(device.boottime_ns)
        booked_ns = interval.elapsed_ns - interval.gap_ns
        runs = bool(device.utilization_ratio) or (device.gpm_sm_ratio or 0.0) > QUIET_RATIO
        if not claims and runs:          # and no process to be seen: somebody's, and not idle
            there, claims = Presence({(0, 0): 2}, 2), [Claim(self._unknown, "sole", 2, 0)]
        if not claims:                   # nobody: whatever it draws is idle power
            now.owed = Owed()
            return [Part(device.uuid, self._nobody, "idle", interval.energy_mj, booked_ns)]
        parts, now.owed = by_cause(interval.energy_mj, booked_ns, power, there.held_halves, now.owed)
        return by_use(device.uuid, parts, booked_ns, there.held_halves, claims, self._nobody)

    def _claims(self, device: DeviceReading, there: Presence, busy: dict[Key, int],
                counted: Mapping[Key, int]) -> list[Claim]:
        """One claim a workload, in the order in which its first process was there."""
        halves, shared = self._without_mps_server(there.halves, busy)
        resolve, facts, uuid, name = self._resolve, self._known.all.get, device.uuid, device.name
        by_owner: dict[Workload, list[int]] = {}
        methods: dict[Workload, str] = {}
        for key, half in halves.items():
            owner = resolve(facts(key), uuid, name)
            sums = by_owner.get(owner)
            if sums is None:
                sums = by_owner[owner] = [0, 0]
            sums[0] += half
            if key in busy:
                sums[1] += busy[key]
                if key in shared or key in counted:
                    methods.setdefault(owner, "equal" if key in shared else "accounting")
                else:
                    methods[owner] = "sampled"
        if len(by_owner) == 1:
            return [Claim(owner, "sole", *sums) for owner, sums in by_owner.items()]
        otherwise = "sampled" if busy else "equal"
        return [Claim(owner, methods.get(owner, otherwise), *sums) for owner, sums in by_owner.items()]

    def _without_mps_server(self, halves: Mapping[Key, int], busy: dict[Key, int]) -> tuple[Mapping[Key, int], set[Key]]:
        """The holders without the MPS server, where its clients are there. Its rows are their work: split equally over
        those that have no rows of their own. Returns also the clients so treated."""
        servers = self._known.mps_servers & halves.keys()
        clients = [key for key in halves if key not in servers] if servers else []
        if not clients:
            return halves, set()
        served = sum(busy.pop(server, 0) for server in servers)
        untold = [client for client in clients if client not in busy] if served else []
        for client in busy:
            busy[client] *= FINER
        if untold:
            busy.update(zip(untold, split_integer(served * FINER, [1] * len(untold)), strict=True))
        return {client: halves[client] for client in clients}, set(untold)

    def _divided(self, interval: EnergyInterval, device: DeviceReading, instances: Sequence[DeviceReading],
                 power: StaticPower, before: Mapping[str, list[Key]], now: _Last) -> list[Part]:
        places = []
        for instance in instances:
            owners: dict[Workload, int] = {}
            held_halves = 2
            if instance.processes is None:           # somebody may be there
                owners[self._unknown] = 2
            else:
                there = presence(before.get(instance.uuid), now.holders[instance.uuid])
                held_halves = there.held_halves
                for key, half in there.halves.items():
                    owner = self._owner(key, instance)
                    owners[owner] = owners.get(owner, 0) + half
            places.append(Place(instance.uuid, instance.mig_slices or 1, owners, held_halves, instance.gpm_sm_ratio))
        unused = (device.mig_slices or 0) - sum(place.slices for place in places)
        if unused > 0:
            places.append(Place(device.uuid, unused, {}, 0))
        booked_ns = interval.elapsed_ns - interval.gap_ns
        held_halves = max(place.held_halves for place in places)
        parts, now.owed = by_cause(interval.energy_mj, booked_ns, power, held_halves, now.owed)
        return by_slices(places, parts, booked_ns, bare_known=power.bare_mw is not None, nobody=self._nobody,
                         unknown=self._unknown)

    def _owner(self, key: Key, device: DeviceReading) -> Workload:
        return self._resolve(self._known.facts(key), device.uuid, device.name)

    def _unwatched(self, interval: EnergyInterval, energy_mj: int, gpu_ns: int, states: Mapping[str, str]) -> Share:
        part = Part(interval.uuid, self._unknown, "unwatched", energy_mj, gpu_ns)
        return self._share(interval, part, states, calibrated=False)

    @staticmethod
    def _share(interval: EnergyInterval, part: Part, states: Mapping[str, str], *, calibrated: bool) -> Share:
        return Share(uuid=part.uuid, workload=part.workload, start_utc_ns=interval.start_utc_ns,
                     end_utc_ns=interval.end_utc_ns, energy_mj=part.energy_mj, gpu_ns=part.gpu_ns, method=part.method,
                     state=states.get(part.uuid, "unknown"), calibrated=calibrated)


def _quiet(device: DeviceReading, instances: Sequence[DeviceReading]) -> Quiet | None:
    """Whether nothing runs on a device, as far as can be told, and if somebody holds it all the same."""
    places = instances or (device,)
    if any(place.processes is None for place in places) or device.utilization_ratio or device.accounting or device.passed:
        return None
    if any(sample.sm_percent for sample in device.utilization_samples):
        return None
    if any(place.gpm_sm_ratio is not None and place.gpm_sm_ratio > QUIET_RATIO for place in (device, *instances)):
        return None
    if not any(place.processes for place in places):
        return "bare"
    told = device.utilization_ratio is not None or all(place.gpm_sm_ratio is not None for place in places if place.processes)
    return "held" if told else None


def instances_by_parent(reading: Reading) -> Mapping[str, list[DeviceReading]]:
    """The MIG instances of each GPU that has some."""
    instances: dict[str, list[DeviceReading]] = {}
    for device in reading.devices:
        if device.parent_uuid is not None:
            instances.setdefault(device.parent_uuid, []).append(device)
    return instances
