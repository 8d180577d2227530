"""What a URDB rate costs, straight from its fields, hour by hour. Shares no code with the product."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)          # NREL's SAM counts so, leap year or not


def bill(rate: Mapping[str, Any], zone: str, month: tuple[int, int], load_kw: Mapping[int, int]) -> Fraction:
    """The bill of one calendar month. ``load_kw``: kW by UTC second of each hour's begin."""
    year, number = month
    first = dt.datetime(year, number, 1, tzinfo=ZoneInfo(zone))
    after = dt.datetime(year + number // 12, number % 12 + 1, 1, tzinfo=ZoneInfo(zone))
    cost, kwh, peak = Fraction(0), Fraction(0), Fraction(0)
    peaks: dict[int, Fraction] = {}
    for at_s in range(int(first.timestamp()), int(after.timestamp()), 3_600):
        local = dt.datetime.fromtimestamp(at_s, ZoneInfo(zone))
        kind = "weekend" if local.weekday() >= 5 else "weekday"
        load = Fraction(load_kw[at_s])
        period = rate["energyratestructure"][rate[f"energy{kind}schedule"][number - 1][local.hour]]
        daily = str(period[0].get("unit", "kWh")) == "kWh daily"
        cost += _blocks(period, kwh, load, DAYS[number - 1] if daily else 1)
        kwh, peak = kwh + load, max(peak, load)
        if "demandratestructure" in rate:
            window = rate[f"demand{kind}schedule"][number - 1][local.hour]
            peaks[window] = max(peaks.get(window, Fraction(0)), load)
    for window, highest in peaks.items():
        cost += highest * _price(rate["demandratestructure"][window][0])
    if "flatdemandstructure" in rate:
        cost += peak * _price(rate["flatdemandstructure"][rate["flatdemandmonths"][number - 1]][0])
    fixed = Fraction(str(rate.get("fixedchargefirstmeter", 0)))
    return cost + fixed * ((after.date() - first.date()).days if rate.get("fixedchargeunits") == "$/day" else 1)


def _price(tier: Mapping[str, Any]) -> Fraction:
    return Fraction(str(tier["rate"])) + Fraction(str(tier.get("adj", 0)))


def _blocks(tiers: list[dict[str, Any]], used: Fraction, more: Fraction, times: int) -> Fraction:
    """``times``: how often a block's limit counts, once for each day where it is by the day."""
    cost = Fraction(0)
    for tier in tiers:
        room = more if tier is tiers[-1] else max(Fraction(0), Fraction(str(tier["max"])) * times - used)
        part = min(room, more)
        cost, used, more = cost + part * _price(tier), used + part, more - part
    return cost
