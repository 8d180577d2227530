"""The arithmetic of a split: static and dynamic energy, and device time, over those who were there. Pure, and exact.

An interval's energy has three parts. What the bare device draws belongs to nobody (``__idle__``). What open contexts add
is split equally over context time. The rest, the dynamic part, is split in proportion to busy time. (An equal split of a
fixed part and a proportional split of an additive part is the Shapley value.) Every split is by largest remainder.

Device time follows the energy that holders caused, the bare part left out: a device that somebody holds is nobody
else's to use, and its hours are the holders'. The time of a divided GPU goes by slices, which are what a tenant was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from agent.attribution.static_power import StaticPower
from agent.model import Workload
from agent.units import NS_PER_S, split_integer

MAX_OWED_NS = 2 * NS_PER_S           # static energy that an interval could not cover is owed for so long, not longer
USE_SCALE = 1_000_000


class Claim(Struct, frozen=True, gc=False):
    """What one workload had of a device in an interval."""

    workload: Workload
    method: str
    halves: int                          # context time: halves of the interval, summed over its processes
    busy: int                            # busy time, in a unit common to the interval's claims


class Place(Struct, frozen=True, gc=False):
    """One instance of a divided GPU in an interval; or its slices that are in no instance, under the GPU's own UUID."""

    uuid: str
    slices: int
    owners: Mapping[Workload, int]       # halves of the interval, summed over the workload's processes
    held_halves: int                     # of the interval in which somebody held it: 0, 1 or 2
    use_ratio: float | None = None       # how busy its multiprocessors were; None: the driver does not say


class Part(Struct, frozen=True, gc=False):
    """A workload's part of an interval."""

    uuid: str
    workload: Workload
    method: str
    energy_mj: int
    gpu_ns: int


class Parts(Struct, frozen=True, gc=False):
    """An interval's energy by cause."""

    bare_mj: int
    context_mj: int
    dynamic_mj: int


class Owed(Struct, frozen=True, gc=False):
    """Static energy not booked yet, in pJ (mW x ns): a counter that moves in steps has less of it in one interval and more
    in the next, and no division rounds it away."""

    bare_pj: int = 0
    context_pj: int = 0


def by_cause(energy_mj: int, booked_ns: int, power: StaticPower, held_halves: int, owed: Owed) -> tuple[Parts, Owed]:
    """Split an interval's energy by cause: first what the bare device draws, then what contexts add, then the rest.
    ``held_halves``: of the interval in which somebody held the device. A part that is not known is in the rest."""
    bare_mw = power.bare_mw or 0
    context_mw = (power.context_mw or 0) if held_halves else 0
    bare_mj, bare_pj = _booked(owed.bare_pj + bare_mw * booked_ns, energy_mj, bare_mw)
    context_owed_pj = owed.context_pj + context_mw * booked_ns * held_halves // 2 if held_halves else 0
    context_mj, context_pj = _booked(context_owed_pj, energy_mj - bare_mj, context_mw)
    return Parts(bare_mj, context_mj, energy_mj - bare_mj - context_mj), Owed(bare_pj, context_pj)


def _booked(owed_pj: int, available_mj: int, power_mw: int) -> tuple[int, int]:
    booked_mj = min(available_mj, owed_pj // NS_PER_S)
    return booked_mj, min(owed_pj - booked_mj * NS_PER_S, power_mw * MAX_OWED_NS)


def by_use(uuid: str, parts: Parts, booked_ns: int, held_halves: int, claims: Sequence[Claim],
           nobody: Workload) -> list[Part]:
    """The parts of a whole GPU's interval. There is a claim, or ``held_halves`` is 0 and nothing is dynamic."""
    held_mj, held_ns = parts.context_mj + parts.dynamic_mj, booked_ns * held_halves // 2
    shares: list[Part] = []
    if claims:
        halves, busy = [claim.halves for claim in claims], [claim.busy for claim in claims]
        if not any(busy):
            busy = halves
        whole_halves, whole_busy = sum(halves), sum(busy)
        if whole_halves and held_mj:     # one common denominator, so that there is one rounding
            weights = [parts.context_mj * half * whole_busy + parts.dynamic_mj * part * whole_halves
                       for half, part in zip(halves, busy, strict=True)]
        else:
            weights = busy
        shares = [
            Part(uuid, claim.workload, claim.method, energy_mj, gpu_ns)
            for claim, energy_mj, gpu_ns in zip(
                claims, split_integer(held_mj, weights), split_integer(held_ns, weights), strict=True)]
    if parts.bare_mj or held_ns < booked_ns or not shares:
        shares.append(Part(uuid, nobody, "idle", parts.bare_mj, booked_ns - held_ns))
    return shares


def by_slices(places: Sequence[Place], parts: Parts, booked_ns: int, *, bare_known: bool, nobody: Workload,
              unknown: Workload) -> list[Part]:
    """The parts of a divided GPU's interval: bare energy and time by slices, used or not; the contexts' equally by context;
    the dynamic part by use where every held instance tells it, else by the slices of those that are held. As long
    as bare power is not known it is in the dynamic part, which then goes by all slices."""
    slices = [place.slices for place in places]
    weights, told = _use(places, bare_known=bare_known)
    contexts = split_integer(parts.context_mj, [sum(place.owners.values()) for place in places])
    shares: list[Part] = []
    for place, bare_mj, context_mj, dynamic_mj, time_ns in zip(
            places, split_integer(parts.bare_mj, slices), contexts, split_integer(parts.dynamic_mj, weights),
            split_integer(booked_ns, slices), strict=True):
        if place.owners:
            held_ns = time_ns * place.held_halves // 2
            halves = list(place.owners.values())
            shares += [
                Part(place.uuid, workload, "mig", energy_mj, gpu_ns)
                for workload, energy_mj, gpu_ns in zip(
                    place.owners, split_integer(context_mj + dynamic_mj, halves), split_integer(held_ns, halves),
                    strict=True)]
            left_mj, left_ns = bare_mj, time_ns - held_ns
        elif told and dynamic_mj:        # busy, and no process to be seen
            shares.append(Part(place.uuid, unknown, "mig", dynamic_mj, 0))
            left_mj, left_ns = bare_mj + context_mj, time_ns
        else:
            left_mj, left_ns = bare_mj + context_mj + dynamic_mj, time_ns
        if left_mj or left_ns:
            shares.append(Part(place.uuid, nobody, "idle", left_mj, left_ns))
    return shares


def _use(places: Sequence[Place], *, bare_known: bool) -> tuple[list[int], bool]:
    """A weight for each place's dynamic energy, and whether it is what the driver told of its use."""
    if all(place.use_ratio is not None for place in places if place.owners):
        told = [round((place.use_ratio or 0.0) * USE_SCALE) * place.slices for place in places]
        if any(told):
            return told, True
    held = [place.slices if place.owners else 0 for place in places]
    if bare_known and any(held):
        return held, False
    return [place.slices for place in places], False
