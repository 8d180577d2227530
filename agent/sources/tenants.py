"""Who is on a simulated GPU: the scenario's workloads as they stand on one of its GPUs, and their processes."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from agent.model import ProcessFacts
from agent.sources.scenario import GRID_S, HOURS, Scenario, SimulatedWorkload
from agent.sources.splitmix import mix

ABSENT: Final = -1                   # in the place of a busy share: the process is not there
GIB: Final = 2**30
HOUR_S: Final = 3_600
DAY_S: Final = 86_400

Vector = tuple[int, ...]


class Tenant(Struct, frozen=True):
    """One workload on one GPU."""

    workload: SimulatedWorkload
    number: int                      # of the workload in the scenario
    home: int                        # index of the GPU that names the process: its own, or the first of several
    phase_s: int                     # of every_s
    burst_phase_s: int
    levels: tuple[Vector, Vector]    # nominal busy permille by local hour, on workdays and at the weekend
    memory_bytes: int

    def here(self, hour: int) -> bool:
        """Whether ``present_hours`` includes a local hour."""
        first, last = self.workload.present_hours
        return first <= hour < last if first < last else hour >= first or hour < last

    def cycled(self, level: int, second: int) -> int:
        """The hour's level as the cycles leave it at a second of the hour: gone, parked, or as it was."""
        workload = self.workload
        if workload.every_s and (second + self.phase_s) % workload.every_s >= workload.lasts_s:
            return ABSENT
        if workload.burst_every_s and (second + self.burst_phase_s) % workload.burst_every_s >= workload.burst_s:
            return min(level, 0)
        return level

    def started_s(self, local_s: int) -> int:
        """When the process that is there at a local second started; both in seconds since the anchor."""
        started = 0
        first, last = self.workload.present_hours
        if (first, last) != (0, HOURS):
            started = local_s - (local_s - first * HOUR_S) % DAY_S
        if self.workload.every_s:
            started = max(started, local_s - (local_s + self.phase_s) % self.workload.every_s)
        return started


class Occupant(Struct, frozen=True):
    """A process on the GPU at an instant."""

    tenant: Tenant
    pid: int
    start_ticks: int
    busy_permille: int

    def facts(self) -> ProcessFacts:
        """What /proc would say about it."""
        workload = self.tenant.workload
        unit = f"simulated-{self.tenant.number + 1}.service"
        return ProcessFacts(
            pid=self.pid, start_ticks=self.start_ticks, parent_pid=1, user=workload.user, group=workload.group,
            command=workload.command, exe=f"/usr/bin/{workload.command.split(' ', 1)[0]}",
            cwd=f"/home/{workload.user}", cgroup=f"/system.slice/{unit}", unit=unit,
            environ={f"FINOPS_{key.upper()}": value for key, value in workload.tags.items()},
        )  # fmt: skip


def tenants_of(scenario: Scenario, index: int) -> tuple[Tenant, ...]:
    """The tenants of one GPU, in the order of the scenario."""
    position = index % scenario.positions
    tenants = []
    for number, workload in enumerate(scenario.workload):
        if position not in workload.gpus:
            continue
        home = index - position + min(workload.gpus) if workload.one_process else index
        busy = workload.busy if isinstance(workload.busy, tuple) else (workload.busy,) * HOURS
        tenants.append(
            Tenant(
                workload=workload, number=number, home=home,
                phase_s=_phase_s(workload.every_s, scenario.seed, home, number, 1),
                burst_phase_s=_phase_s(workload.burst_every_s, scenario.seed, home, number, 2),
                levels=(
                    tuple(round(share * 1000) for share in busy),
                    tuple(round(share * workload.weekend * 1000) for share in busy),
                ),
                memory_bytes=round(workload.memory_gib * GIB),
            )
        )  # fmt: skip
    return tuple(tenants)


def _phase_s(every_s: int, *words: int) -> int:
    return mix(*words) % (every_s // GRID_S) * GRID_S if every_s else 0
