"""One simulated GPU as a closed form of time: power, energy since an anchor, and who caused it.

Time is cut into stretches of 10 s on which the set of processes and their nominal busy shares stand still. A stretch
has two halves of 5 s: in the first each busy share is off by a hash-derived amount, in the second by the same amount
the other way, so a whole stretch always holds its nominal energy. The nominal pattern repeats: within the hour
(all cycles divide it), and by the week. The energy of any interval is therefore a few integer sums, exact,
whatever its length; nothing is remembered between calls.

Vectors have one number for the bare GPU first, then one a tenant (a workload on this GPU). Power is integer mW and
time integer ns, so energy is exact in mW x ns = pJ. Of the static power, the bare part belongs to nobody
(``__idle__``), and the part that contexts add to the processes that are there, equally.
"""

from __future__ import annotations

from math import lcm
from typing import Final

from agent.sources.scenario import GRID_S, HOURS, Scenario
from agent.sources.splitmix import mix
from agent.sources.tenants import ABSENT, DAY_S, GIB, HOUR_S, Occupant, Tenant, Vector, tenants_of
from agent.units import NS_PER_HOUR, NS_PER_S, split_integer

_STRETCH_NS: Final = GRID_S * NS_PER_S
_HALF_NS: Final = _STRETCH_NS // 2
_DAY_NS: Final = DAY_S * NS_PER_S
_WEEK_NS: Final = 7 * _DAY_NS
_WORKDAYS: Final = 5
_ANCHOR_NS: Final = -3 * _DAY_NS     # Monday 1969-12-29: a week starts here, and no instant since 1970 is before it
_TICKS_PER_S: Final = 100
_FIRST_PID: Final = 10_000
_PIDS_PER_TENANT: Final = 8          # PIDs come round again, as they do: only (pid, start_ticks) names a process


class Waveform:
    """The closed form of one GPU. Instants are UTC nanoseconds since 1970, not before it."""

    def __init__(self, scenario: Scenario, index: int) -> None:
        gpu = scenario.gpu
        self._scenario = scenario
        self._index = index
        self._offset_ns = scenario.utc_offset_minutes * 60 * NS_PER_S - _ANCHOR_NS
        self._jitter_permille = round(scenario.jitter * 1000)
        self._idle_mw = round(gpu.idle_watts * 1000)
        self._context_mw = round(gpu.context_watts * 1000)
        self.limit_mw = round(gpu.limit_watts * 1000)
        self._permille_mw = (self.limit_mw - self._idle_mw - self._context_mw) // 1000
        self.memory_total_bytes = round(gpu.memory_gib * GIB)
        self.tenants = tenants_of(scenario, index)
        cycles = [cycle for t in self.tenants for cycle in (t.workload.every_s, t.workload.burst_every_s) if cycle]
        self._period_s = lcm(GRID_S, *cycles)
        self._prefix: tuple[Vector, list[Vector]] = ((), [])
        self._hours_mj = self._sum_hours()

    def power_mw(self, instant_ns: int) -> int:
        """Power at an instant."""
        return sum(self._powers_at(instant_ns + self._offset_ns))

    def energy_pj(self, instant_ns: int) -> Vector:
        """Energy since the anchor, by cause: the bare GPU, then each tenant."""
        local_ns = instant_ns + self._offset_ns
        week, rest_ns = divmod(local_ns, _WEEK_NS)
        day, rest_ns = divmod(rest_ns, _DAY_NS)
        hour, rest_ns = divmod(rest_ns, NS_PER_HOUR)
        weekend = day >= _WORKDAYS
        levels = self._levels(weekend, hour)
        period, rest_ns = divmod(rest_ns, self._period_s * NS_PER_S)
        stretch, rest_ns = divmod(rest_ns, _STRETCH_NS)
        prefix = self._period_prefix(levels)
        before, after = self._halves(local_ns, levels)
        first_ns, second_ns = min(rest_ns, _HALF_NS), max(rest_ns - _HALF_NS, 0)
        work, rest = self._hours_mj
        hours = (rest if weekend else work)[hour]
        workdays = _WORKDAYS * week + min(day, _WORKDAYS)
        restdays = (7 - _WORKDAYS) * week + max(day - _WORKDAYS, 0)
        return tuple([
            (workdays * work[HOURS][i] + restdays * rest[HOURS][i] + hours[i] + period * prefix[-1][i] + prefix[stretch][i])
            * NS_PER_S + before[i] * first_ns + after[i] * second_ns
            for i in range(len(before))
        ])  # fmt: skip

    def occupants(self, instant_ns: int) -> list[Occupant]:
        """The processes at an instant."""
        local_ns = instant_ns + self._offset_ns
        local_s = local_ns // NS_PER_S
        found = []
        for tenant, busy in zip(self.tenants, self.busy_permille(instant_ns), strict=True):
            if busy != ABSENT:
                started_s = tenant.started_s(local_s)
                found.append(Occupant(tenant, self._pid(tenant, started_s), (started_s + 1) * _TICKS_PER_S, busy))
        return found

    def busy_permille(self, instant_ns: int) -> Vector:
        """The busy share of each tenant at an instant; -1 where it is not there."""
        local_ns = instant_ns + self._offset_ns
        levels = self._levels_at(local_ns)
        nominal = self._nominal(levels, local_ns // NS_PER_S % HOUR_S)
        wobble = self._wobble(local_ns, nominal)
        sign = 1 if local_ns % _STRETCH_NS < _HALF_NS else -1
        return tuple([busy + sign * off for busy, off in zip(nominal, wobble, strict=True)])

    def _pid(self, tenant: Tenant, started_s: int) -> int:
        tenants = self._scenario.devices * len(self._scenario.workload)
        slot = tenant.home * len(self._scenario.workload) + tenant.number
        return _FIRST_PID + slot + mix(started_s) % _PIDS_PER_TENANT * tenants

    def _levels_at(self, local_ns: int) -> Vector:
        day, rest_ns = divmod(local_ns % _WEEK_NS, _DAY_NS)
        return self._levels(day >= _WORKDAYS, rest_ns // NS_PER_HOUR)

    def _levels(self, weekend: bool, hour: int) -> Vector:
        """Nominal busy permille of each tenant in a local hour, before cycles; -1 where it is not there."""
        return tuple([t.levels[weekend][hour] if t.here(hour) else ABSENT for t in self.tenants])

    def _nominal(self, levels: Vector, second: int) -> Vector:
        """Nominal busy permille at a second of the hour, with cycles, scaled down to what one GPU can give."""
        busy = [tenant.cycled(level, second) for tenant, level in zip(self.tenants, levels, strict=True)]
        wanted = sum(level for level in busy if level > 0) * (1000 + self._jitter_permille)
        if wanted > 1_000_000:
            busy = [level * 1_000_000 // wanted if level > 0 else level for level in busy]
        return tuple(busy)

    def _wobble(self, local_ns: int, nominal: Vector) -> Vector:
        """By how much each busy share is off in the first half of a stretch, and the other way in the second."""
        stretch = local_ns // _STRETCH_NS
        wobble = []
        for tenant, busy in zip(self.tenants, nominal, strict=True):
            reach = busy * self._jitter_permille // 1000 if busy > 0 else 0
            drawn = mix(self._scenario.seed, self._index, tenant.number, stretch) if reach else 0
            wobble.append(drawn % (2 * reach + 1) - reach)
        return tuple(wobble)

    def _powers(self, nominal: Vector) -> Vector:
        """Power by cause, without the wobble."""
        there = [i for i, busy in enumerate(nominal) if busy != ABSENT]
        powers = [0] * len(nominal)
        for i, context_mw in zip(there, split_integer(self._context_mw, [1] * len(there)) if there else (), strict=True):
            powers[i] = context_mw + nominal[i] * self._permille_mw
        return (self._idle_mw, *powers)

    def _halves(self, local_ns: int, levels: Vector) -> tuple[Vector, Vector]:
        """Power by cause in the first and in the second half of the stretch around an instant."""
        nominal = self._nominal(levels, local_ns // NS_PER_S % HOUR_S)
        powers = self._powers(nominal)
        wobble = (0, *[off * self._permille_mw for off in self._wobble(local_ns, nominal)])
        return (
            tuple([power + off for power, off in zip(powers, wobble, strict=True)]),
            tuple([power - off for power, off in zip(powers, wobble, strict=True)]),
        )

    def _powers_at(self, local_ns: int) -> Vector:
        before, after = self._halves(local_ns, self._levels_at(local_ns))
        return before if local_ns % _STRETCH_NS < _HALF_NS else after

    def _period_prefix(self, levels: Vector) -> list[Vector]:
        """Energy in mJ by cause from the start of a period to each of its stretches, the whole period last.
        Only the levels asked for last are kept: an hour's readings ask for the same."""
        known, prefix = self._prefix
        if not prefix or known != levels:
            total: Vector = (0,) * (len(self.tenants) + 1)
            prefix = [total]
            for second in range(0, self._period_s, GRID_S):
                powers = self._powers(self._nominal(levels, second))
                total = tuple([sum_mj + power * GRID_S for sum_mj, power in zip(total, powers, strict=True)])
                prefix.append(total)
            self._prefix = (levels, prefix)
        return prefix

    def _sum_hours(self) -> tuple[list[Vector], list[Vector]]:
        """Energy in mJ by cause from local midnight to each hour, the whole day last: of a workday, of a weekend day."""
        return self._sum_day(weekend=False), self._sum_day(weekend=True)

    def _sum_day(self, weekend: bool) -> list[Vector]:
        total: Vector = (0,) * (len(self.tenants) + 1)
        sums = [total]
        for hour in range(HOURS):
            period = self._period_prefix(self._levels(weekend, hour))[-1]
            total = tuple([s + e * (HOUR_S // self._period_s) for s, e in zip(total, period, strict=True)])
            sums.append(total)
        return sums
