"""Ways out of the house: one file an exporter, one line in EXPORTERS."""

from __future__ import annotations

from collections.abc import Callable

from agent.settings import Web
from exporters.base import Exporter, Hooks
from exporters.prometheus import PrometheusExporter

__all__ = ["EXPORTERS"]

EXPORTERS: dict[str, Callable[[Web, Hooks], Exporter]] = {
    "prometheus": PrometheusExporter,
}
