"""What a year's energy costs, worked out apart from the product: a price for each minute from the local time that zoneinfo
gives, summed up; and for blocks the area under their steps. Integers, then fractions: nothing is rounded.

Shares no code with the product. Prices are in 1e-5 of the currency per kWh, tax in percent on top, so that every price
of these tariffs is an integer. ``toml`` gives the product the same tariff to read.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

PUE_PERCENT = 135
NANO_PER_UNIT = Fraction(10**9, 10**5 * 100 * 100)       # of mJ x (1e-5 / kWh) x percent of tax x percent of PUE
MJ_PER_KWH = 3_600_000_000


def midnight_s(date: dt.date, zone: ZoneInfo) -> int:
    return int(dt.datetime(date.year, date.month, date.day, tzinfo=zone).timestamp())


class ByMinute:
    """Europe/Berlin: a night rate whose end lies in the hour that the clock changes skip and repeat, a day-ahead series with
    negative prices, hourly and from the summer on by quarter-hours; then other terms. ``cost_until`` is what 1 mW costs from
    the start to an instant, in mJ x 1e-5/kWh x percent of tax."""

    zone_name = "Europe/Berlin"
    currency = "EUR"
    changes_on = dt.date(2026, 7, 1)
    night = (24_110, 26_030)                 # 0.2411, then 0.2603 a kWh
    noon = 8_990                             # only in the second terms, April to September
    adders = (3_450 + 1_120, 3_990)
    tax_percent = (119, 107)

    def __init__(self, first: dt.date, days: int, seed: int) -> None:
        self.zone = zone = ZoneInfo(self.zone_name)
        self.start_s = midnight_s(first, zone)
        self.end_s = midnight_s(first + dt.timedelta(days=days), zone)
        draw = Random(seed)
        quarterly_s = midnight_s(self.changes_on, zone)
        self.rows: list[tuple[int, int]] = []            # start, cents a MWh = 1e-5 a kWh
        at_s = self.start_s
        while at_s < self.end_s:
            hour = dt.datetime.fromtimestamp(at_s, zone).hour
            low = 20_000 if 10 <= hour < 16 else 2_500
            self.rows.append((at_s, draw.randrange(-low, 16_000)))
            at_s += 3_600 if at_s < quarterly_s else 900
        starts_s = [row[0] for row in self.rows]
        names, values, self.night_or_noon = [], [], {"night", "noon"}
        for minute_s in range(self.start_s, self.end_s, 60):
            local = dt.datetime.fromtimestamp(minute_s, zone)
            terms = int(local.date() >= self.changes_on)
            if (local.hour, local.minute) >= (23, 5) or (local.hour, local.minute) < (2, 20):
                name, price = "night", self.night[terms]
            elif terms and 4 <= local.month <= 9 and (11, 10) <= (local.hour, local.minute) < (13, 50) and local.weekday() < 5:
                name, price = "noon", self.noon
            else:
                name, price = "spot", self.rows[bisect_right(starts_s, minute_s) - 1][1]
            names.append(name)
            values.append((price + self.adders[terms]) * self.tax_percent[terms])
        self._values, self._names = values, names
        self._until = [0, *accumulate(60 * value for value in values)]
        self._credit_until = [0, *accumulate(60 * min(0, value) for value in values)]
        self.rates = sorted(set(names))
        self._seconds = {rate: [0, *accumulate(60 * (name == rate) for name in names)] for rate in self.rates}
        self.signs = 1 + sum((a < 0) != (b < 0) for a, b in pairwise(values))

    def cost_until(self, at_s: int) -> int:
        minute, second = divmod(at_s - self.start_s, 60)
        return self._until[minute] + (second * self._values[minute] if second else 0)

    def credit_until(self, at_s: int) -> int:
        minute, second = divmod(at_s - self.start_s, 60)
        return self._credit_until[minute] + (second * min(0, self._values[minute]) if second else 0)

    def seconds_until(self, rate: str, at_s: int) -> int:
        minute, second = divmod(at_s - self.start_s, 60)
        return self._seconds[rate][minute] + (second if second and self._names[minute] == rate else 0)

    def toml(self, directory: Path) -> str:
        rows = [f"{dt.datetime.fromtimestamp(at_s, dt.UTC).isoformat()},{cents / 100:.2f}"
                for at_s, cents in self.rows]
        (directory / "day_ahead.csv").write_text("start,price\n" + "\n".join(rows) + "\n")
        spot = '{ csv = "day_ahead.csv", unit = "EUR/MWh", missing = "error" }'
        return f"""
[tariff.t]
currency = "EUR"
timezone = "Europe/Berlin"
rates = {{ night = 0.2411, spot = {spot} }}
adders = [{{ name = "grid", per_kwh = 0.0345 }}, {{ name = "levies", per_kwh = 0.0112 }}]
tax = {{ rate = 0.19, included = false }}
rule = [{{ rate = "night", hours = ["23:05-02:20"] }}, {{ rate = "spot" }}]
[[tariff.t.version]]
valid_from = 2026-07-01
rates = {{ night = 0.2603, noon = 0.0899, spot = {spot} }}
adders = [{{ name = "grid", per_kwh = 0.0399 }}]
tax = {{ rate = 0.07, included = false }}
rule = [
  {{ rate = "night", hours = ["23:05-02:20"] }},
  {{ rate = "noon", months = [4, 5, 6, 7, 8, 9], days = ["mon-fri"], hours = ["11:10-13:50"] }},
  {{ rate = "spot" }},
]
"""


class ByBlock:
    """Asia/Shanghai: blocks over the site's kWh of a calendar year, which begins anew in mid-run, as do other terms within one.
    What others used is there at the start of each year. Money is a function of the site's energy alone."""

    zone_name = "Asia/Shanghai"
    currency = "CNY"
    baseline_kwh = 2_100
    changes_on = dt.date(2026, 9, 1)
    # kWh at which a block ends, in threes so that PUE divides them, and its price; the last has no end
    blocks = ([(2_112, 52_830), (3_000, 57_830), (4_500, 82_830), (None, 90_010)],
              [(2_112, 50_110), (3_600, 61_990), (5_100, 90_070), (None, 99_990)])
    adders = (3_000, 2_710)
    tax_percent = (113, 113)
    rates = ("base",)

    def __init__(self, first: dt.date, days: int) -> None:
        self.zone = zone = ZoneInfo(self.zone_name)
        self.start_s = midnight_s(first, zone)
        self.end_s = midnight_s(first + dt.timedelta(days=days), zone)
        self._changes_s = midnight_s(self.changes_on, zone)
        years = range(first.year + 1, first.year + 3)
        self.edges_s = sorted({self._changes_s, *(midnight_s(dt.date(year, 1, 1), zone) for year in years)})
        self._new_year_s = {midnight_s(dt.date(year, 1, 1), zone) for year in years}
        self._used = self.baseline_kwh * MJ_PER_KWH * 100        # of the site, in mJ x percent of PUE
        self.cost = 0                                            # mJ x 1e-5/kWh x percent of tax x percent of PUE

    def add(self, start_s: int, end_s: int, power_mw: int) -> None:
        """The devices' power over a span, in order of time."""
        for at_s in (*(edge_s for edge_s in self.edges_s if start_s < edge_s < end_s), end_s):
            if start_s in self._new_year_s:
                self._used = self.baseline_kwh * MJ_PER_KWH * 100
            terms = int(start_s >= self._changes_s)
            used = self._used + power_mw * (at_s - start_s) * PUE_PERCENT
            self.cost += self._area(terms, used) - self._area(terms, self._used)
            self._used, start_s = used, at_s

    def _area(self, terms: int, used: int) -> int:
        total = begin = 0
        for upto_kwh, price in self.blocks[terms]:
            end = used if upto_kwh is None else min(used, upto_kwh * MJ_PER_KWH * 100)
            total += max(0, end - begin) * (price + self.adders[terms]) * self.tax_percent[terms]
            begin = max(begin, end)
        return total

    def toml(self, directory: Path) -> str:
        def rates(terms: int) -> str:
            return ", ".join(f"{{ {f'upto = {upto}, ' if upto else ''}price = {price / 1e5:.5f} }}"
                             for upto, price in self.blocks[terms])

        return f"""
[tariff.t]
currency = "CNY"
timezone = "Asia/Shanghai"
tier_period = "year"
rates = {{ base = [{rates(0)}] }}
adders = [{{ name = "government funds", per_kwh = 0.03 }}]
tax = {{ rate = 0.13, included = false }}
rule = [{{ rate = "base" }}]
[[tariff.t.version]]
valid_from = 2026-09-01
tier_period = "year"
rates = {{ base = [{rates(1)}] }}
adders = [{{ name = "government funds", per_kwh = 0.0271 }}]
tax = {{ rate = 0.13, included = false }}
rule = [{{ rate = "base" }}]
"""
