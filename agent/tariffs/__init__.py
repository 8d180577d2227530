"""The kinds of rate that a tariff may have: one file each, one line each in the registry below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.tariffs import flat, series, tiers
from agent.tariffs.base import RateKind

TARIFF_KINDS: Final[Mapping[str, RateKind]] = {
    "flat": flat.KIND,
    "series": series.KIND,
    "tiers": tiers.KIND,
}
