"""Ways out of the house: one file an exporter, one line in EXPORTERS, imported only when it is used."""

from __future__ import annotations

from importlib import import_module

from agent.errors import UsageError
from exporters.base import Exporter

__all__ = ["EXPORTERS", "exporter_class"]

EXPORTERS: dict[str, str] = {
    "prometheus": "exporters.prometheus:PrometheusExporter",
}


def exporter_class(name: str) -> type[Exporter]:
    """The exporter of that name. Raises UsageError for a name that is not in EXPORTERS."""
    target = EXPORTERS.get(name)
    if target is None:
        raise UsageError(f"unknown exporter {name!r}: choose one of {', '.join(EXPORTERS)}")
    module, _, attribute = target.partition(":")
    found: type[Exporter] = getattr(import_module(module), attribute)
    return found
