"""Writes docs/metrics.md from the table of metrics: ``python -m exporters.metricsdoc > docs/metrics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from exporters.families import FAMILIES, SELF_FAMILIES, Family

_HEAD = """\
# Metrics

Generated from `exporters/families.py` by `python -m exporters.metricsdoc > docs/metrics.md`; a test compares.

Served at `/metrics` in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.0. `uuid` is the device's as NVML prints
it (`GPU-…`, `MIG-…`); `W` stands for the configured tag keys, by default `project`, `team`, `model` and `model_version`.
Counters of devices and workloads are lifetime totals from the ledger: they go on through restarts. A value that is not
known has no series. A device that does not answer keeps its counters; its gauges are left out and `finops_gpu_up` is 0.

Reserved values of `project`: `__idle__` (device on, nobody on it), `__unattributed__` (somebody, no tags), `__unverified__`
(claimed, not granted), `__overflow__` (past `tags.max_workloads`).
"""


def metrics_page() -> str:
    """The whole page, Markdown."""
    return "\n".join([
        _HEAD,
        "## What is measured and what it costs\n",
        _table(FAMILIES),
        "## The daemon itself\n",
        _table(SELF_FAMILIES),
    ])


def _table(families: Iterable[Family[Any]]) -> str:
    lines = ["| metric | type | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    for family in families:
        labels = ", ".join(family.labels)
        lines.append(f"| `{family.name}` | {family.type} | {family.unit} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
