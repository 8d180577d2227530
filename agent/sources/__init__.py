"""Where readings come from: one file a source, one line in SOURCES, imported only when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from agent.errors import UsageError
from agent.sources.base import Source

SOURCES: dict[str, str] = {
    "nvml": "agent.sources.nvml_source:NvmlSource",
    "simulated": "agent.sources.simulated:SimulatedSource",
    "replay": "agent.sources.replay:ReplaySource",
}
FINITE = frozenset({"replay"})         # sources with an end: opened again they would begin anew


def open_source(name: str, options: Mapping[str, Any]) -> Source:
    """The source of that name, opened. ``options`` is what JSON can carry, as it goes to the probe on its command line.

    Raises UsageError for a name that is not in SOURCES, SourceError where it cannot be opened.
    """
    target = SOURCES.get(name)
    if target is None:
        raise UsageError(f"unknown source {name!r}: choose one of {', '.join(SOURCES)}")
    module, _, factory = target.partition(":")
    source: Source = getattr(import_module(module), factory)(options)
    source.open()
    return source
