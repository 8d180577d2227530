"""From what is known of a process to the workload it is charged to: sources, grants, caps, in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from agent.errors import ConfigError
from agent.model import OVERFLOW, RESERVED_PROJECTS, UNATTRIBUTED, UNVERIFIED, ProcessFacts, Workload
from agent.settings import Tags
from agent.tags import TAG_SOURCES
from agent.tags.base import TagSource
from agent.tags.grants import Grants
from agent.tags.labels import label_value

PROCESS_LIMIT: Final = 8192          # processes whose workload is remembered; the oldest goes first


class WorkloadResolver:
    """Names workloads. Not thread-safe.

    The sources are asked in their order and the first that answers wins, key by key; a blank value is no answer. Then,
    in the place of ``project`` (of the first key, where no key has that name) and with nothing in the others:

    - no facts, or no tag at all: ``__unattributed__``;
    - a project that the process may not charge, or one of the reserved names: ``__unverified__``;
    - a workload beyond ``max_workloads`` distinct ones: ``__overflow__``. Known ones, those in ``known`` (the ledger's)
      included, keep their place.
    """

    def __init__(
        self, tags: Tags, sources: Sequence[TagSource] | None = None, known: Iterable[Workload] = ()
    ) -> None:
        """``sources``: by default those of TAG_SOURCES that ``tags.sources`` names. Raises ConfigError for an unknown one."""
        self._keys = tags.keys
        self._sources = tuple(sources) if sources is not None else build_sources(tags)
        self._grants = Grants(tags.grants)
        self._place = tags.keys.index("project") if "project" in tags.keys else 0
        self._max_workloads = tags.max_workloads
        self._unattributed = self._reserved(UNATTRIBUTED)
        self._unverified = self._reserved(UNVERIFIED)
        self._overflow = self._reserved(OVERFLOW)
        self._always = {self._reserved(name) for name in RESERVED_PROJECTS}
        self._listed: frozenset[Workload] | None = None
        self._known = {
            workload for workload in known
            if len(workload) == len(tags.keys) and workload[self._place] not in RESERVED_PROJECTS
        }  # fmt: skip
        self._resolved: dict[tuple[int, int], tuple[ProcessFacts, dict[str, Workload]]] = {}
        self.overflowed = 0              # claims refused at the cap
        self.truncated = 0               # values cut to the longest label

    @property
    def known(self) -> frozenset[Workload]:
        """The distinct workloads that have a place under the cap."""
        return frozenset(self._known)

    def retain(self, recent: Iterable[Workload]) -> None:
        """Give the places of workloads that are neither recent nor on a device now to others; those that were refused
        may claim again."""
        live = {workload for _, by_gpu in self._resolved.values() for workload in by_gpu.values()}
        self._known &= live | set(recent)
        self._listed = None
        self._resolved = {key: entry for key, entry in self._resolved.items() if self._overflow not in entry[1].values()}

    def listed(self) -> frozenset[Workload]:
        """The workloads that have series: those with a place, and the reserved ones."""
        if self._listed is None or len(self._listed) != len(self._known) + len(self._always):
            self._listed = frozenset(self._known | self._always)
        return self._listed

    def resolve(self, facts: ProcessFacts | None, gpu_uuid: str, gpu_name: str) -> Workload:
        """As ``workload``, remembered for as long as the process and its facts are the same."""
        if facts is None:
            return self._unattributed
        key = (facts.pid, facts.start_ticks)
        entry = self._resolved.get(key)
        if entry is None or (entry[0] is not facts and entry[0] != facts):
            self._resolved.pop(key, None)
            if len(self._resolved) >= PROCESS_LIMIT:
                del self._resolved[next(iter(self._resolved))]
            entry = self._resolved[key] = (facts, {})
        workload = entry[1].get(gpu_uuid)
        if workload is None:
            workload = entry[1][gpu_uuid] = self.workload(facts, gpu_uuid, gpu_name)
        return workload

    def forget(self, processes: Iterable[tuple[int, int]]) -> None:
        """Drops what is remembered of processes (pid, start_ticks) that are gone."""
        for key in processes:
            self._resolved.pop(key, None)

    def workload(self, facts: ProcessFacts | None, gpu_uuid: str, gpu_name: str) -> Workload:
        """The workload of a process on a GPU: one value a tag key, in the order of the keys."""
        tags = self._tags(facts, gpu_uuid, gpu_name) if facts is not None else {}
        if facts is None or not tags:
            return self._unattributed
        workload = tuple([tags.get(key, "") for key in self._keys])
        project = workload[self._place]
        if project in RESERVED_PROJECTS or (project and not self._grants.allow(facts, project)):
            return self._unverified
        if workload in self._known:
            return workload
        if len(self._known) >= self._max_workloads:
            self.overflowed += 1
            return self._overflow
        self._known.add(workload)
        return workload

    def _tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in self._sources:
            for key, raw in source.tags(facts, gpu_uuid, gpu_name).items():
                if key in found or key not in self._keys:
                    continue
                value, cut = label_value(raw)
                if value:
                    found[key] = value
                    self.truncated += cut
        return found

    def _reserved(self, name: str) -> Workload:
        return tuple([name if place == self._place else "" for place in range(len(self._keys))])


def build_sources(tags: Tags) -> tuple[TagSource, ...]:
    """The sources that ``tags.sources`` names, in its order. Raises ConfigError for a name that is not in TAG_SOURCES."""
    unknown = [name for name in tags.sources if name not in TAG_SOURCES]
    if unknown:
        raise ConfigError([f"tags.sources: {unknown[0]!r} is not a tag source, choose from {', '.join(TAG_SOURCES)}"])
    return tuple([TAG_SOURCES[name](tags) for name in tags.sources])
