"""A rate of OpenEI's Utility Rate Database (URDB), as its API gives it in JSON, as a tariff.

Its periods (of energy, of demand, and of demand by month) each have a calendar of their own; here a rate's name stands for
one combination of the three, and demand charges name the combinations that they count in. ``adj`` is added to the price;
``sell`` is about feeding in, which is not billed here. Blocks of "kWh daily" are so many kWh for each day of the month, over
the month as a whole: months of another length then have a rate of their own. A field that changes the bill and has no
counterpart is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from agent.tariff_import.base import Imported, Wishes, number, read_json, refuse, slug
from agent.tariff_import.urdb_fields import BILLED, HARMLESS, REFUSED, empty

_WINDOWS: Final = frozenset({5, 10, 15, 30, 60})
_DAILY: Final = {"kwh": False, "kwh daily": True}        # units of blocks, and whether they are by the month's days
_DAYS_OF_MONTH: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS: Final = {"weekday": ["mon-fri"], "weekend": ["sat", "sun"]}
_HOURS: Final = range(24)

# period of energy, of demand, and of the month's demand; days of the month where blocks are by them, else 0
_Combination = tuple[int, int, int, int]
_Calendar = Mapping[str, list[list[_Combination]]]       # weekday or weekend -> month -> hour


def read(file: Path, wishes: Wishes) -> Imported:
    """The tariff in a file. Raises UsageError with the field that is wrong."""
    rate = _one_rate(file, read_json(file), wishes.label)
    _check_fields(file, rate, wishes.ignore)
    if wishes.timezone is None:
        refuse(file, "timezone", "is in no field of a URDB rate; write --timezone with the utility's, such as "
                                 "America/Los_Angeles")
    currency = wishes.currency or _currency(file, rate)
    for field in ("energyratestructure", "demandratestructure", "flatdemandstructure"):
        if not isinstance(rate.get(field) or [], list):
            refuse(file, field, "is not a list of periods, each a list of blocks; correct the file")
    energy, daily = _energy(file, rate)
    calendar = _calendar(file, rate, daily)
    _check_blocks(file, energy, calendar)
    used = sorted({entry for months in calendar.values() for hours in months for entry in hours})
    names = _names(used)
    demand = _demand(file, rate, names)
    table: dict[str, Any] = {"currency": currency, "timezone": wishes.timezone}
    if any(isinstance(energy[entry[0]], list) for entry in used):
        table["tier_period"] = "month"
    table["rates"] = {names[entry]: _of_month(energy[entry[0]], entry[3]) for entry in used}
    if demand:
        table["demand"] = demand
    if fixed := _fixed(file, rate):
        table["fixed"] = fixed
    table["rule"] = _rules(calendar, names)
    notes = [f"From {file.name}: {', '.join(str(rate[key]) for key in ('utility', 'name', 'label') if rate.get(key))}"]
    if demand and empty(rate.get("demandwindow")):
        notes.append('The source does not say over how long demand is metered; "15m" is assumed.')
    if daily:
        notes.append("Blocks of so many kWh a day are written as kWh a month, times its days; of February, 28.")
    notes += [f"Left out on demand: {field}" for field in sorted(wishes.ignore & rate.keys())]
    name = wishes.name or slug(f"{rate.get('utility', '')} {rate.get('name', '')}")
    return Imported(name=name, table=table, notes=tuple(notes))


def _one_rate(file: Path, document: Any, label: str | None) -> Mapping[str, Any]:
    items = document.get("items", [document]) if isinstance(document, dict) else document
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        refuse(file, "items", "holds no rate; save the API's answer with detail=full")
    rates = [{key.lower(): value for key, value in item.items()} for item in items]
    if label is not None:
        rates = [rate for rate in rates if rate.get("label") == label]
    if len(rates) != 1:
        labels = ", ".join(str(item.get("label")) for item in items[:5])
        refuse(file, "items", f"holds {len(rates)} rates{'' if label is None else f' with the label {label}'}; choose one with "
                              f"--label: {labels}")
    return rates[0]


def _check_fields(file: Path, rate: Mapping[str, Any], ignore: frozenset[str]) -> None:
    for field, value in rate.items():
        if field in BILLED or field in HARMLESS or field in ignore or (field in REFUSED and empty(value)):
            continue
        what = REFUSED.get(field, "is a field that is not understood")
        refuse(file, field, f"{what}, which cannot be billed here; where it does not concern you, write --ignore {field}")


def _currency(file: Path, rate: Mapping[str, Any]) -> str:
    if rate.get("country") not in (None, "", "USA", "US"):
        refuse(file, "country", f"is {rate['country']}; write --currency with the code of its prices")
    if rate.get("currency") not in (None, "", "USD"):
        refuse(file, "currency", f"is {rate['currency']}; write --currency with the code of its prices")
    return "USD"


def _calendar(file: Path, rate: Mapping[str, Any], daily: frozenset[int]) -> _Calendar:
    """For each kind of day, month and hour, which periods hold. ``daily``: the periods of energy with blocks by the day."""
    flat = rate.get("flatdemandmonths")
    months = len(rate.get("flatdemandstructure") or ())
    if flat is None and months > 1:
        refuse(file, "flatdemandmonths", f"is missing, but flatdemandstructure has {months} entries; correct the file")
    flat = [0] * 12 if flat is None or not months else _twelve(file, "flatdemandmonths", flat)
    found: dict[str, list[list[_Combination]]] = {}
    for day in _DAYS:
        energy = _schedule(file, rate, "energy", day)
        demand = _schedule(file, rate, "demand", day)
        found[day] = [[(energy[month][hour], demand[month][hour], _index(file, "flatdemandmonths", flat[month], max(months, 1)),
                        _DAYS_OF_MONTH[month] if energy[month][hour] in daily else 0)
                       for hour in _HOURS] for month in range(12)]
    return found


def _schedule(file: Path, rate: Mapping[str, Any], kind: str, day: str) -> list[list[int]]:
    field = f"{kind}{day}schedule"
    periods = rate.get(f"{kind}ratestructure") or ()
    written = rate.get(field)
    if not periods or (written is None and len(periods) == 1):
        return [[0] * 24 for _ in range(12)]
    if written is None:
        refuse(file, field, f"is missing, but {kind}ratestructure has {len(periods)} periods; correct the file")
    rows = _twelve(file, field, written)
    if not all(isinstance(row, list) and len(row) == 24 for row in rows):
        refuse(file, field, "is not 12 months of 24 hours; correct the file")
    return [[_index(file, field, entry, len(periods)) for entry in row] for row in rows]


def _twelve(file: Path, field: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) != 12:
        refuse(file, field, "is not a list of 12 months; correct the file")
    return value


def _index(file: Path, field: str, value: Any, size: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < size or value != int(value):
        refuse(file, field, f"names period {value}, and there are {size}, from 0; correct the file")
    return int(value)


def _tiers(file: Path, field: str, periods: Any) -> list[list[Mapping[str, Any]]]:
    good = isinstance(periods, list) and all(
        isinstance(tiers, list) and tiers and all(isinstance(tier, dict) for tier in tiers) for tiers in periods)
    if not good:
        refuse(file, field, "is not a list of periods, each a list of blocks; correct the file")
    for period, tiers in enumerate(periods):
        for at, tier in enumerate(tiers):
            if unknown := sorted(tier.keys() - {"rate", "adj", "sell", "max", "unit"}):
                refuse(file, f"{field}[{period}][{at}].{unknown[0]}", "is a field that is not understood; correct the file")
    return list(periods)


def _price(file: Path, place: str, tier: Mapping[str, Any]) -> Decimal:
    if "rate" not in tier:
        refuse(file, f"{place}.rate", "is missing; correct the file")
    return number(file, f"{place}.rate", tier["rate"]) + number(file, f"{place}.adj", tier.get("adj") or 0)


def _energy(file: Path, rate: Mapping[str, Any]) -> tuple[list[Any], frozenset[int]]:
    """Each period's price or blocks, and the periods whose blocks are so many kWh a day."""
    field = "energyratestructure"
    if not rate.get(field):
        refuse(file, field, "is missing; a tariff needs a price of energy")
    found, daily = [], set()
    for period, tiers in enumerate(_tiers(file, field, rate[field])):
        blocks: list[dict[str, Decimal]] = []
        units = set()
        for at, tier in enumerate(tiers):
            place = f"{field}[{period}][{at}]"
            unit = str(tier.get("unit") or "kWh").lower()
            if unit not in _DAILY:
                refuse(file, f"{place}.unit", f"is {tier['unit']}; blocks count in kWh or kWh daily here")
            block = {"price": _price(file, place, tier)}
            if at < len(tiers) - 1:
                if tier.get("max") is None:
                    refuse(file, f"{place}.max", "is missing; only the last block has no end")
                block = {"upto": number(file, f"{place}.max", tier["max"]), **block}
                units.add(_DAILY[unit])
            blocks.append(block)
        found.append(blocks if len(blocks) > 1 else blocks[0]["price"])
        if len(units) > 1:
            refuse(file, f"{field}[{period}].unit", "counts some blocks by day and others by month; correct the file")
        if True in units:
            daily.add(period)
    return found, frozenset(daily)


def _check_blocks(file: Path, energy: Sequence[Any], calendar: _Calendar) -> None:
    for month in range(12):
        together = {entry[0] for day in calendar.values() for entry in day[month]}
        if len(together) > 1 and any(isinstance(energy[period], list) for period in together):
            refuse(file, "energyratestructure.max", f"is a block in a period beside another in month {month + 1}, where each "
                                                    "counts its own kWh; here blocks count all kWh of the site")


def _of_month(price: Any, days: int) -> Any:
    """A period's price or blocks in a month of so many days; 0 where its blocks are the month's as they are."""
    if days == 0:
        return price
    return [{**block, "upto": block["upto"] * days} if "upto" in block else block for block in price]


def _names(used: Sequence[_Combination]) -> dict[_Combination, str]:
    """A name each: e0 for the period of energy, d1 and f1 where there are several of demand, m31 for months of 31 days."""
    several = [len({entry[part] for entry in used}) > 1 for part in range(4)]
    return {entry: "-".join(f"{letter}{entry[part]}" for part, letter in enumerate("edfm") if part == 0 or several[part])
            for entry in used}


def _demand(file: Path, rate: Mapping[str, Any], names: Mapping[_Combination, str]) -> list[dict[str, Any]]:
    minutes = number(file, "demandwindow", rate.get("demandwindow") or 15)
    if minutes not in _WINDOWS:
        refuse(file, "demandwindow", f"is {minutes} minutes; demand is billed over 5, 10, 15, 30 or 60 here")
    found = []
    for field, part, units in (("flatdemandstructure", 2, ("flatdemandunit", "demandunits")),
                               ("demandratestructure", 1, ("demandrateunit", "demandunits"))):
        for period, tiers in enumerate(_tiers(file, field, rate.get(field) or [])):
            prices = [_price(file, f"{field}[{period}][{at}]", tier) for at, tier in enumerate(tiers)]
            if len(set(prices)) > 1:
                refuse(file, f"{field}[{period}].max", "prices demand in blocks; here a kW has one price")
            if prices[0] == 0:
                continue
            for unit in (*(rate.get(unit) for unit in units), *(tier.get("unit") for tier in tiers)):
                if unit not in (None, "", "kW"):
                    refuse(file, units[0], f"is {unit}; demand is billed in kW a month here")
            when = [name for entry, name in names.items() if entry[part] == period]
            if when:
                charge = {"name": f"{field.removesuffix('structure')} {period}", "per_kw_month": prices[0],
                          "window": f"{int(minutes)}m"}
                found.append(charge if len(when) == len(names) else {**charge, "when": when})
    return found


def _fixed(file: Path, rate: Mapping[str, Any]) -> list[dict[str, Any]]:
    first, monthly = rate.get("fixedchargefirstmeter"), rate.get("fixedmonthlycharge")
    if empty(first):
        return [] if empty(monthly) else [{"name": "fixed charge", "per_month": number(file, "fixedmonthlycharge", monthly)}]
    per = {"$/month": "per_month", "$/day": "per_day"}.get(str(rate.get("fixedchargeunits") or "").lower())
    if per is None:
        refuse(file, "fixedchargeunits", f"is {rate.get('fixedchargeunits')!r}; fixed charges are by $/month or $/day here")
    price = number(file, "fixedchargefirstmeter", first)
    if not empty(monthly) and (per != "per_month" or number(file, "fixedmonthlycharge", monthly) != price):
        refuse(file, "fixedmonthlycharge", "differs from fixedchargefirstmeter; remove the one that is not billed")
    return [{"name": "fixed charge", per: price}]


def _rules(calendar: _Calendar, names: Mapping[_Combination, str]) -> list[dict[str, Any]]:
    """Which combination holds when: months and kinds of day whose hours are the same are one."""
    if len(names) == 1:
        return [{"rate": name} for name in names.values()]
    rules: list[dict[str, Any]] = []
    days: dict[tuple[_Combination, ...], dict[str, list[int]]] = {}
    for day, months in calendar.items():
        for month, hours in enumerate(months):
            days.setdefault(tuple(hours), {}).setdefault(day, []).append(month + 1)
    for spread, kinds in days.items():
        same = len({tuple(months) for months in kinds.values()}) == 1 and len(kinds) == len(_DAYS)
        for day, numbers in [("", next(iter(kinds.values())))] if same else list(kinds.items()):
            where: dict[str, Any] = {} if len(numbers) == 12 else {"months": numbers}
            if day:
                where["days"] = _DAYS[day]
            spans: dict[_Combination, list[str]] = {}
            start = 0
            for hour in range(1, 25):
                if hour == 24 or spread[hour] != spread[start]:
                    spans.setdefault(spread[start], []).append(f"{start:02d}:00-{hour:02d}:00")
                    start = hour
            for entry, written in spans.items():
                whole = written == ["00:00-24:00"]
                rules.append({"rate": names[entry], **where, **({} if whole else {"hours": written})})
    return rules
