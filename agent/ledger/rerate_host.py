"""Prices a past period's host again, where it was priced by its power.

No row has the host's energy: it is a row's cost over its price, an exact fraction. What replaces the row costs that energy at
the price of today. A row at a price of 0 tells no energy, and one by ``price_per_hour`` has none: both stay as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from agent.pricing.host_cost import BY_GPU_TIME
from agent.pricing.pricing import EnergyPrice, Pricing

PriceKey = tuple[str, str, str, str]             # currency, tariff, rate, price

_FRACTION_BITS: Final = 128                      # of a nano-unit: a carry that loses less than 2^-128 of one a row

_HOST_NET: Final = """
SELECT start_ns, uuid, workload, currency, tariff, rate, price, SUM(cost_nano), MAX(span_ns)
FROM (SELECT * FROM usage WHERE component = 'host' AND tariff <> '' AND price <> '0' AND start_ns >= ?1 AND start_ns < ?2
      UNION ALL
      SELECT * FROM correction WHERE component = 'host' AND tariff <> '' AND price <> '0' AND start_ns >= ?1 AND start_ns < ?2)
GROUP BY start_ns, uuid, workload, currency, tariff, rate, price
HAVING SUM(cost_nano) <> 0
ORDER BY start_ns, uuid, workload, currency, tariff, rate, price
"""


class HostRow(Struct, frozen=True):
    """What is booked for the host under one price, corrections included."""

    start_ns: int
    uuid: str
    workload: int
    currency: str
    tariff: str
    rate: str                                    # with the mark of a split by GPU time, where it has one
    price: str
    cost_nano: int
    span_ns: int


class HostRerating:
    """One pass over a period, as ``Rerating``: it carries remainders, so that a workload's rows sum to its energy at the new
    prices to one nano-unit."""

    def __init__(self, db: sqlite3.Connection, pricing: Pricing) -> None:
        self._db = db
        self._pricing = pricing
        self._carries: dict[tuple[str, int, str], int] = {}      # in 2^-128 nano-units

    def rows(self, from_ns: int, to_ns: int) -> dict[int, list[HostRow]]:
        """The rows that began in a time and may be priced again, by their begin."""
        found: dict[int, list[HostRow]] = {}
        for fields in self._db.execute(_HOST_NET, (from_ns, to_ns)):
            row = HostRow(*fields)
            found.setdefault(row.start_ns, []).append(row)
        return found

    def rebooked(self, row: HostRow, in_force: Collection[PriceKey]) -> list[HostRow] | None:
        """What takes a row's place; None where it stays: its price is still one of its time (or of those ``in_force`` for the
        devices' energy then, which a tier may have changed), or a price of its time is not known."""
        prices = self._pricing.energy_prices(row.start_ns, row.start_ns + row.span_ns)
        if not all(price.known for price in prices):
            return None
        mark = BY_GPU_TIME if row.rate.endswith(BY_GPU_TIME) else ""
        old_rate = row.rate.removesuffix(mark).removesuffix(", ")
        old = (row.currency, row.tariff, old_rate, row.price)
        if old in in_force or old in {self._key(price) for price in prices}:
            return None
        prices = [price for price in prices if price.rate == old_rate] or prices
        times_ns: dict[PriceKey, int] = {}
        for price in prices:
            times_ns[self._key(price)] = times_ns.get(self._key(price), 0) + price.end_utc_ns - price.start_utc_ns
        whole_ns = sum(times_ns.values())
        found = []
        for (currency, tariff, rate, new_price), time_ns in times_ns.items():
            key = (row.uuid, row.workload, currency)
            # The energy is cost / price: times the new price, and the part of the time that has it.
            fraction = (row.cost_nano * int(new_price) * time_ns << _FRACTION_BITS) // (int(row.price) * whole_ns)
            fraction += self._carries.get(key, 0)
            cost_nano = fraction >> _FRACTION_BITS
            self._carries[key] = fraction - (cost_nano << _FRACTION_BITS)
            found.append(HostRow(row.start_ns, row.uuid, row.workload, currency, tariff, ", ".join(filter(None, (rate, mark))),
                                 new_price, cost_nano, row.span_ns))
        return found

    def _key(self, price: EnergyPrice) -> PriceKey:
        return self._pricing.currency, self._pricing.tariff_name, price.rate, str(price.atto_per_kwh)
