"""What a device costs an hour besides energy: the price book's answer for its NVML name, and how that changes with time.

Hardware is written off over ``years`` of 8,760 hours, used or idle: by a straight line, or by a declining balance, where
each year takes ``rate`` of what is left and the last one the rest down to salvage. With ``bought`` that begins on a date and
ends; without one a straight line has no end. A rented device costs its rent instead: one price, a price series, or a
reservation, which is owed for every hour, those with nobody on the device to ``__idle__``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Protocol

from msgspec import Struct

from agent.model import FOREVER_NS
from agent.settings import Hardware, RentSeries
from agent.units import FEMTO, HOURS_PER_YEAR, NS_PER_HOUR, femto_per_hour

RESERVED = "reserved"                            # the rent's rate, where the hours are paid used or not
SPOT = "spot"
_FEMTO_DIGITS = 15


class PriceOverTime(Protocol):
    """Femto-units an hour. Pure."""

    def at(self, instant_ns: int) -> int | None:
        """The price at an instant; None where it is not known, 0 where nothing is owed."""

    def next_change(self, instant_ns: int) -> int:
        """The first later instant at which it may change; FOREVER_NS for never."""


class Steps(Struct, frozen=True):
    """Price i holds from ``starts_ns[i]`` on; before the first nothing is owed."""

    starts_ns: tuple[int, ...]
    femto: tuple[int, ...]

    def at(self, instant_ns: int) -> int:
        step = bisect_right(self.starts_ns, instant_ns)
        return self.femto[step - 1] if step else 0

    def next_change(self, instant_ns: int) -> int:
        step = bisect_right(self.starts_ns, instant_ns)
        return self.starts_ns[step] if step < len(self.starts_ns) else FOREVER_NS


class Quoted(Struct, frozen=True):
    """Prices from a file. After the last row's own length ``missing`` holds: a price, "last" or "error" (not known)."""

    rent: RentSeries

    def at(self, instant_ns: int) -> int | None:
        series, missing = self.rent.series, self.rent.missing
        row = bisect_right(series.starts_ns, instant_ns) - 1
        if row >= 0 and (missing == "last" or instant_ns < series.end_ns):
            return int(series.mantissas[row] * 10 ** (_FEMTO_DIGITS - series.decimals))
        return femto_per_hour(missing) if isinstance(missing, Decimal) else None

    def next_change(self, instant_ns: int) -> int:
        series = self.rent.series
        row = bisect_right(series.starts_ns, instant_ns)
        if row < len(series.starts_ns):
            return series.starts_ns[row]
        return series.end_ns if self.rent.missing != "last" and instant_ns < series.end_ns else FOREVER_NS


class HourlyPrice(Struct, frozen=True, gc=False):
    """One component's price. ``rate`` names the kind of rent where there are several. ``owed_off``: also for hours in which
    the machine is off, as a write-off and a reservation are, and rent by the hour is not."""

    component: str
    currency: str
    price: PriceOverTime
    rate: str = ""
    owed_off: bool = True


class Book(Struct, frozen=True, gc=False):
    """The price book's answer for one device. ``changes``: at least one of its prices is not the same for ever."""

    hourly: tuple[HourlyPrice, ...] = ()
    rented: bool = False
    changes: bool = False

    def next_change(self, instant_ns: int) -> int:
        return min((hourly.price.next_change(instant_ns) for hourly in self.hourly), default=FOREVER_NS)


def constant(price: Decimal) -> Steps:
    """The same price an hour, always."""
    return Steps((-FOREVER_NS,), (femto_per_hour(price),))


def price_device(name: str, hardware: Sequence[Hardware], site_currency: str) -> Book:
    """The prices of the first entry whose glob matches the NVML name; none where no entry matches."""
    entry = next((entry for entry in hardware if fnmatchcase(name, entry.gpu)), None)
    if entry is None:
        return Book()
    currency = entry.currency or site_currency
    if entry.rent_series is not None:
        spot = HourlyPrice("rent", currency, Quoted(entry.rent_series), SPOT, owed_off=False)
        return Book((spot,), rented=True, changes=True)
    if entry.reserved_per_gpu_hour is not None:
        return Book((HourlyPrice("rent", currency, constant(entry.reserved_per_gpu_hour), RESERVED),), rented=True)
    if entry.rent_per_gpu_hour is not None:
        return Book((HourlyPrice("rent", currency, constant(entry.rent_per_gpu_hour), owed_off=False),), rented=True)
    hourly = []
    if entry.price is not None and entry.years is not None:
        hourly.append(HourlyPrice("hardware", currency, _written_off(entry, entry.price, entry.years)))
    if entry.maintenance_per_year:
        hourly.append(HourlyPrice("maintenance", currency, constant(entry.maintenance_per_year / HOURS_PER_YEAR)))
    return Book(tuple(hourly), changes=entry.bought_ns is not None)


def _written_off(entry: Hardware, price: Decimal, years: Decimal) -> Steps:
    straight_line = (price - entry.salvage) / (years * HOURS_PER_YEAR)
    if entry.bought_ns is None:
        return constant(straight_line)
    end_ns = entry.bought_ns + int(years * HOURS_PER_YEAR * NS_PER_HOUR)
    if entry.declining_rate is None:
        return Steps((entry.bought_ns, end_ns), (femto_per_hour(straight_line), 0))
    starts_ns, femto = [], []
    value, salvage, rate = Fraction(price), Fraction(entry.salvage), Fraction(entry.declining_rate)
    start_ns = entry.bought_ns
    while start_ns < end_ns:
        until_ns = min(end_ns, start_ns + HOURS_PER_YEAR * NS_PER_HOUR)
        loss = value - salvage if until_ns == end_ns else min(value * rate, value - salvage)
        starts_ns.append(start_ns)
        femto.append(round(loss * FEMTO * NS_PER_HOUR / (until_ns - start_ns)))
        start_ns, value = until_ns, value - loss
    return Steps((*starts_ns, end_ns), (*femto, 0))
