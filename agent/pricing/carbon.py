"""How many grams of CO2e a kilowatt-hour stands for: a constant, or a series."""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from agent.model import FOREVER_NS
from agent.series_csv import Series


class Carbon(Protocol):
    """Pure: the same instant, the same intensity."""

    def __call__(self, instant_ns: int) -> Decimal:
        """Grams of CO2e per kWh."""

    def next_change(self, instant_ns: int) -> int:
        """The first later instant at which it may change; FOREVER_NS for never."""


class ConstantCarbon(Struct, frozen=True):
    """The same intensity always."""

    grams: Decimal

    def __call__(self, instant_ns: int) -> Decimal:
        return self.grams

    def next_change(self, instant_ns: int) -> int:
        return FOREVER_NS


class CarbonSeries(Struct, frozen=True):
    """Rows from a file. The first value holds before it begins and the last one after it ends: an estimate of today's
    intensity is better than none."""

    series: Series

    def __call__(self, instant_ns: int) -> Decimal:
        return self.series.value(max(0, bisect_right(self.series.starts_ns, instant_ns) - 1))

    def next_change(self, instant_ns: int) -> int:
        row = bisect_right(self.series.starts_ns, instant_ns)
        return self.series.starts_ns[row] if row < len(self.series.starts_ns) else FOREVER_NS
