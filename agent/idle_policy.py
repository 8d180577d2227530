"""Idle cost shared over those who used the devices: a view on the ledger's figures, which it never changes.

- ``separate``: idle cost stays on ``__idle__``;
- ``proportional``: each workload bears idle cost in proportion to its own cost;
- ``even``: each project bears the same; inside a project its workloads bear it in proportion to their own cost.

The weights are those of the whole time asked about, currency by currency, whatever the report is by. So what a project
bears in all is the same by day, by GPU and by component, and the sum over projects of each day, GPU and component is
the raw one. Splits are exact integers; where nobody used anything, idle cost stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from agent.ledger.query import UsageRow
from agent.model import IDLE, Workload
from agent.units import split_integer

SEPARATE: Final = "separate"
PROPORTIONAL: Final = "proportional"
EVEN: Final = "even"
POLICIES: Final = (SEPARATE, PROPORTIONAL, EVEN)


class Usage(Protocol):
    """Whoever answers as LedgerReader.usage does."""

    def usage(self, from_ns: int | None, to_ns: int | None, by: Sequence[str], tag_keys: Sequence[str],
              zone: ZoneInfo) -> list[UsageRow]: ...


def usage_with_idle(reader: Usage, from_ns: int | None, to_ns: int | None, by: Sequence[str], tag_keys: Sequence[str],
                    zone: ZoneInfo, policy: str) -> list[UsageRow]:
    """As ``reader.usage``, with ``idle_nano`` on each row: what the policy moves there, negative where it takes it away.
    They sum to zero. A workload that bears idle cost of a day or a GPU which it did not use has a row there with nothing else.
    """
    if policy == SEPARATE:
        return reader.usage(from_ns, to_ns, by, tag_keys, zone)
    beside = [key for key in by if key not in tag_keys]
    rows = reader.usage(from_ns, to_ns, [*tag_keys, *beside], tag_keys, zone)
    place = tag_keys.index("project") if "project" in tag_keys else 0
    detail = (*tag_keys, *beside)
    picked = [detail.index(key) for key in by]
    sums: dict[tuple[tuple[str, ...], str], list[int]] = {}

    def add(keys: tuple[str, ...], currency: str, *amounts: int) -> None:
        total = sums.setdefault((tuple([keys[i] for i in picked]), currency), [0, 0, 0, 0, 0])
        for i, amount in enumerate(amounts):
            total[i] += amount

    bearers = _bearers(rows, len(tag_keys), place)
    for row in rows:
        moved_nano = 0
        if row.keys[place] == IDLE:
            for workload, part_nano in share(row.cost_nano, bearers.get(row.currency, {}), place, policy).items():
                moved_nano += part_nano
                if part_nano:
                    add((*workload, *row.keys[len(tag_keys):]), row.currency, 0, 0, 0, 0, part_nano)
        add(row.keys, row.currency, row.energy_mj, row.gpu_ns, row.cost_nano, row.emissions_ug, -moved_nano)
    return [UsageRow(keys, currency, *total) for (keys, currency), total in sorted(sums.items())]


def share(idle_nano: int, cost_nano: Mapping[Workload, int], place: int, policy: str) -> dict[Workload, int]:
    """An idle cost split over workloads by their own costs; ``place`` is the project's in a workload. The parts sum to it;
    none where there is no workload. A workload whose cost is a credit has no weight; where all weigh nothing they are equal."""
    if not cost_nano:
        return {}
    if policy == PROPORTIONAL:
        return _by_cost(idle_nano, cost_nano)
    projects: dict[str, dict[Workload, int]] = {}
    for workload, nano in cost_nano.items():
        projects.setdefault(workload[place], {})[workload] = nano
    parts = split_integer(idle_nano, [1] * len(projects))
    return {workload: part for part_nano, members in zip(parts, projects.values(), strict=True)
            for workload, part in _by_cost(part_nano, members).items()}


def _by_cost(idle_nano: int, cost_nano: Mapping[Workload, int]) -> dict[Workload, int]:
    return dict(zip(cost_nano, split_integer(idle_nano, [max(0, nano) for nano in cost_nano.values()]), strict=True))


def _bearers(rows: Sequence[UsageRow], tags: int, place: int) -> dict[str, dict[Workload, int]]:
    """What each workload but idle cost in all, by currency."""
    found: dict[str, dict[Workload, int]] = {}
    for row in rows:
        if row.keys[place] != IDLE and row.currency:
            costs = found.setdefault(row.currency, {})
            workload = row.keys[:tags]
            costs[workload] = costs.get(workload, 0) + row.cost_nano
    return found
