"""GPUs that live through a year, and the truth about them: what each workload drew and had, in whole mW and seconds.

Everything is chosen so that the truth is whole numbers wherever it is split: readings are multiples of 21 s apart, powers are
multiples of 1,680 mW, and the processes of a device are busy by percents that divide evenly. So an exact program has no
rounding to excuse a difference with. Who gets what follows the rules that ``docs/decisions/attribution.md`` promises, in a few
lines of their own: the bare power to nobody, the contexts' equally by context, the rest by use; one who is there at one end of
an interval only counts for half of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from agent.model import DeviceReading, ProcessFacts, ProcessUse, UtilizationSample

TICK_S = 21
PERCENT_MW = 3_360                       # what a percent of use adds; a multiple of 20, so that PUE divides it
CONTEXT_MW = 10 * PERCENT_MW             # what open contexts add: 2 x 2 x 2 x 3 x 5 x 7 x 40
BARE_MW = 58_800
SLICE_PERCENT_MW = PERCENT_MW // 4       # what a percent of use of one slice adds
NS_PER_S = 1_000_000_000
NOBODY = ("__idle__", "", "", "")
UNTOLD = ("__unattributed__", "", "", "")
USES = ((90,), (40,), (4,), (0,), (90,), (40,), (60, 30), (25, 15), (7, 3), (0, 0), (6, 24), (40, 20, 20, 10), (3, 3, 2, 2))
SLICES = 4
PROFILES = ((2, 1, 1), (1, 1, 1, 1), (2, 1), (4,))

Workload = tuple[str, ...]


class Tenant(NamedTuple):
    """A process on a device (or on one instance of it)."""

    pid: int
    start: int
    workload: Workload
    percent: int
    place: int = 0


class Scene(NamedTuple):
    """Who is on a device for some hours. ``listed`` False: the driver does not tell."""

    tenants: tuple[Tenant, ...] = ()
    listed: bool = True
    profile: tuple[int, ...] = ()        # of a divided GPU: slices of its instances
    generation: int = 0


class Part(NamedTuple):
    """What one workload had of an interval. ``time`` is in parts of ``whole`` of it."""

    uuid: str
    workload: Workload
    power_mw: int
    time: int
    whole: int


def wholly(number: int, parts: int) -> int:
    """A division that leaves nothing."""
    quotient, rest = divmod(number, parts)
    if rest:
        raise ArithmeticError(f"{number} mW in {parts} parts: the benchmark's numbers do not divide")
    return quotient


class Gpu:
    """One device: a new scene every few hours, and the counter that its truth adds up to."""

    def __init__(self, index: int, name: str, divided: bool, seed: int) -> None:
        self.uuid = f"GPU-{index:08d}-0000-0000-0000-000000000000"
        self.index, self.name, self.divided = index, name, divided
        self.counter_mj = 1_000_000
        self.scene = Scene(profile=PROFILES[0]) if divided else Scene()
        self.before: Scene | None = None                     # None: nobody looked
        self._draw = Random(f"{seed}/{index}")
        self._until = 0
        self._scenes = 0

    def place(self, number: int) -> str:
        if not self.divided:
            return self.uuid
        return f"MIG-{self.index}-{self.scene.generation}-{number}"

    def look(self, reading: int) -> list[ProcessFacts]:
        """Move on to what there is at a reading; the facts of those who are new."""
        self.before, known = self.scene, {tenant.pid for tenant in self.scene.tenants}
        if reading < 4:
            return []                    # bare power is learned first,
        if reading == 4:                 # then that of contexts
            self.scene = self.scene._replace(tenants=(self._tenant(0),))
            self._until = 8
        elif reading > self._until:
            self._next(reading)
        return [facts_of(tenant) for tenant in self.scene.tenants if tenant.pid not in known]

    def _next(self, reading: int) -> None:
        draw = self._draw
        self._until = reading + draw.randrange(4, 60)
        kind = draw.random()
        if self.divided and self.scene.tenants:
            self.scene = self.scene._replace(tenants=())     # instances change hands empty
        elif kind < 0.82:
            self.scene = Scene(profile=self.scene.profile, generation=self.scene.generation)
            if self.divided and draw.random() < 0.3:
                self.scene = Scene(profile=draw.choice(PROFILES), generation=reading)
        elif kind < 0.84 and not self.divided:
            self.scene = Scene(listed=False)
        elif kind < 0.88 and not self.divided and self.scene.listed:      # somebody comes, those who are there stay
            stay = tuple(tenant._replace(percent=0) for tenant in self.scene.tenants[:2])
            self.scene = Scene((*stay, *self._with((0,) * (2 - len(stay)) or (0,)).tenants)[:4])
        else:
            self.scene = self._with(draw.choice(USES))

    def _with(self, percents: Sequence[int]) -> Scene:
        draw, tenants = self._draw, []
        profile = self.scene.profile
        if self.divided:                                     # a few instances, one or two processes each
            places = [place for place in range(len(profile)) if draw.random() < 0.7] or [0]
            used = draw.random() < 0.8
            for place in places:
                ratio = draw.choice((25, 50, 75, 100)) if used else 0
                tenants += [self._tenant(ratio, place) for _ in range(draw.choice((1, 1, 2)))]
            del tenants[4:]
        else:
            tenants = [self._tenant(percent) for percent in percents]
        return Scene(tuple(tenants), profile=profile, generation=self.scene.generation)

    def _tenant(self, percent: int, place: int = 0) -> Tenant:
        self._scenes += 1
        pid = 1_000 * (self.index + 1) + self._scenes % 900
        project = self._draw.randrange(12)
        workload = (f"project-{project}", f"team-{project % 3}", "", "") if project else UNTOLD
        return Tenant(pid, self._scenes, workload, percent, place)

    @property
    def _origin(self) -> Scene:
        """What an interval is known to have begun with: what it ends with, where nobody could look."""
        before, scene = self.before, self.scene
        return scene if before is None or not before.listed or before.generation != scene.generation else before

    @property
    def _steady(self) -> bool:
        """Whether those who are there went on as before; while they change, nothing runs."""
        return self._origin.tenants == self.scene.tenants

    def truth(self, *, watched: bool) -> tuple[list[Part], str]:
        """Who had what of the interval that ends with this look, and the state that it counts for."""
        scene, before = self.scene, self._origin
        if not watched:
            return [Part(self.uuid, UNTOLD, BARE_MW + CONTEXT_MW + 37 * PERCENT_MW, 1, 1)], "unknown"
        if not scene.listed:
            return [Part(self.uuid, UNTOLD, BARE_MW + CONTEXT_MW + 50 * PERCENT_MW, 1, 1)], "active"
        if self.divided:
            return self._divided_truth(scene, before), ""
        halves, steady = _halves(before.tenants, scene.tenants), self._steady
        held = 2 if 2 in halves.values() else bool(before.tenants) + bool(scene.tenants)
        whole = sum(halves.values())
        busy = sum(tenant.percent for tenant in scene.tenants) if steady else 0
        parts = []
        for tenant, half in halves.items():
            own_mw = wholly(CONTEXT_MW * held * half, 2 * whole) + (tenant.percent * PERCENT_MW if steady else 0)
            held_mw = CONTEXT_MW * held // 2 + busy * PERCENT_MW
            parts.append(Part(self.uuid, tenant.workload, own_mw, own_mw * held, held_mw * 2))
        parts.append(Part(self.uuid, NOBODY, BARE_MW, 2 - held, 2))
        if not scene.tenants:
            return parts, "unallocated"
        return parts, "parked" if not busy else "active" if busy >= 5 else "underused"

    def _divided_truth(self, scene: Scene, before: Scene) -> list[Part]:
        halves = _halves(before.tenants, scene.tenants)
        by_place = [{tenant: half for tenant, half in halves.items() if tenant.place == place}
                    for place in range(len(scene.profile))]
        held = [2 if 2 in there.values() else len({tenant in before.tenants for tenant in there}) for there in by_place]
        whole = sum(halves.values())
        parts = []
        for place, (slices, there) in enumerate(zip(scene.profile, by_place, strict=True)):
            here = sum(there.values())
            for tenant, half in there.items():
                context_mw = wholly(CONTEXT_MW * max(held) * half, 2 * whole)
                busy_mw = wholly(tenant.percent * SLICE_PERCENT_MW * slices * half, here) if self._steady else 0
                parts.append(Part(self.place(place), tenant.workload, context_mw + busy_mw, slices * held[place] * half,
                                  SLICES * 2 * here))
            parts.append(Part(self.place(place), NOBODY, BARE_MW * slices // SLICES, slices * (2 - held[place]), SLICES * 2))
        if unused := SLICES - sum(scene.profile):
            parts.append(Part(self.uuid, NOBODY, BARE_MW * unused // SLICES, unused, SLICES))
        return parts

    def readings(self, at_ns: int, utc_ns: int, power_mw: int) -> list[DeviceReading]:
        """What the driver answers."""
        scene = self.scene
        percents = [tenant.percent if self._steady else 0 for tenant in scene.tenants]
        common = {"index": self.index, "name": self.name, "boottime_ns": at_ns}
        use = tuple(ProcessUse(tenant.pid, tenant.start, 2**30) for tenant in scene.tenants)
        if not self.divided:
            return [DeviceReading(
                uuid=self.uuid, energy_mj=self.counter_mj, power_mw=power_mw, power_limit_mw=700_000,
                processes=use if scene.listed else None, utilization_ratio=sum(percents) / 100 if scene.listed else 0.5,
                utilization_samples=tuple(
                    UtilizationSample(tenant.pid, utc_ns // 1_000, percent)
                    for tenant, percent in zip(scene.tenants, percents, strict=True) if percent), **common)]
        whole = DeviceReading(uuid=self.uuid, energy_mj=self.counter_mj, power_mw=power_mw, power_limit_mw=700_000,
                              processes=(), mig_slices=SLICES, **common)
        instances = [DeviceReading(
            uuid=self.place(place), parent_uuid=self.uuid, mig_slices=slices,
            gpm_sm_ratio=max((percent for tenant, percent in zip(scene.tenants, percents, strict=True)
                              if tenant.place == place), default=0) / 100,
            processes=tuple(one for one, tenant in zip(use, scene.tenants, strict=True) if tenant.place == place), **common)
            for place, slices in enumerate(scene.profile)]
        return [whole, *instances]


def facts_of(tenant: Tenant) -> ProcessFacts:
    project, team, *_ = tenant.workload
    tags = {"FINOPS_PROJECT": project, "FINOPS_TEAM": team} if tenant.workload != UNTOLD else {}
    return ProcessFacts(pid=tenant.pid, start_ticks=tenant.start, command="python train.py", environ=tags)


def _halves(before: Sequence[Tenant], now: Sequence[Tenant]) -> dict[Tenant, int]:
    """How many ends of an interval each was there at."""
    halves: dict[tuple[int, int], int] = {}
    tenants = {}
    for tenant in (*before, *now):
        key = (tenant.pid, tenant.start)
        tenants[key] = tenant
        halves[key] = halves.get(key, 0) + 1
    return {tenants[key]: half for key, half in halves.items()}


def reading_times(start_s: int, end_s: int, outages_s: Sequence[int], seed: int) -> Iterator[tuple[int, bool]]:
    """When readings are taken, never on the boundary of a price but by chance, and whether the time before was watched. From
    the last reading before each of ``outages_s`` on, nobody looks for nine hours."""
    draw = Random(seed)
    at_s, ahead = start_s, sorted(at_s for at_s in outages_s if start_s < at_s < end_s - 86_400)
    yield at_s, True
    while True:
        step_s = TICK_S * draw.randrange(70, 230)
        watched = not (ahead and at_s + step_s > ahead[0])
        if not watched:
            ahead.pop(0)
            step_s = TICK_S * 1_543
        at_s += step_s
        if at_s > end_s:
            return
        yield at_s, watched
