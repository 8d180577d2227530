"""What a tariff costs, the naive way: for each minute ask zoneinfo for the local time and go through the rules as written.

Shares no code with the product: it reads the tariff's plain description, of which ``toml`` makes the file that is tested.
"""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

Spec = dict[str, Any]    # zone, versions: [{valid_from, rates, rules, adders, tax, tier_period}]


@cache
def number(text: str) -> Fraction:
    return Fraction(text)


def version_of(spec: Spec, local: dt.datetime) -> Spec:
    """The last version whose first day has come."""
    found = spec["versions"][0]
    for version in spec["versions"][1:]:
        if local.date() >= version["valid_from"]:
            found = version
    return found


def rate_of(version: Spec, local: dt.datetime) -> str:
    for rule in version["rules"]:
        if "months" in rule and local.month not in rule["months"]:
            continue
        if "days" in rule and DAYS[local.weekday()] not in _days(rule["days"]):
            continue
        if "dates" in rule and local.date() not in rule["dates"]:
            continue
        if "hours" in rule and not any(_within(span, local.hour * 60 + local.minute) for span in rule["hours"]):
            continue
        return str(rule["rate"])
    raise AssertionError(f"no rule matches {local}")


def price(spec: Spec, utc_s: int, used_kwh: Fraction) -> tuple[str, Fraction | None]:
    """The rate's name and the price per kWh; None where it is not known."""
    local = dt.datetime.fromtimestamp(utc_s, ZoneInfo(spec["zone"]))
    version = version_of(spec, local)
    name = rate_of(version, local)
    while True:
        rate = version["rates"][name]
        bare: Fraction | None
        if isinstance(rate, str):
            bare = number(rate)
        elif isinstance(rate, list):
            bare = next(number(cost) for upto, cost in rate if upto is None or used_kwh < upto)
        else:
            bare = _series(rate, utc_s)
            if bare is None and rate["missing"] not in {"last", "error"}:
                name = rate["missing"]
                continue
        break
    if bare is None:
        return name, None
    total = bare + sum((number(adder) for adder in version["adders"]), Fraction(0))
    rate_of_tax, included = version["tax"]
    return name, total if included else total * (1 + number(rate_of_tax))


def _series(rate: Spec, utc_s: int) -> Fraction | None:
    found = None
    for start_s, cost in rate["rows"]:
        if start_s <= utc_s:
            found = number(cost)
    length_s = rate["rows"][-1][0] - rate["rows"][-2][0]
    if rate["missing"] != "last" and utc_s >= rate["rows"][-1][0] + length_s:
        return None
    return None if found is None else found / (1000 if rate["per"] == "MWh" else 1)


def _days(spans: list[str]) -> set[str]:
    found: set[str] = set()
    for span in spans:
        first, _, last = span.partition("-")
        day = DAYS.index(first)
        found.add(first)
        while last and DAYS[day] != last:
            day = (day + 1) % 7
            found.add(DAYS[day])
    return found


def _within(span: str, minute: int) -> bool:
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in span.split("-"))
    return start <= minute < end if start < end else minute >= start or minute < end


def toml(spec: Spec, directory: Path) -> str:
    """The tariff as a configuration file; writes the CSV files of its series."""
    lines = ["[tariff.t]", 'currency = "EUR"', f'timezone = "{spec["zone"]}"']
    for at, version in enumerate(spec["versions"]):
        if at:
            lines += ["[[tariff.t.version]]", f"valid_from = {version['valid_from']}"]
        rates = []
        for name, rate in version["rates"].items():
            if isinstance(rate, str):
                rates.append(f"{name} = {rate}")
            elif isinstance(rate, list):
                blocks = [f"{{ price = {cost} }}" if upto is None else f"{{ upto = {upto}, price = {cost} }}"
                          for upto, cost in rate]
                rates.append(f"{name} = [{', '.join(blocks)}]")
            else:
                file = directory / f"{name}{at}.csv"
                rows = [f"{dt.datetime.fromtimestamp(start_s, dt.UTC).isoformat()},{cost}\n" for start_s, cost in rate["rows"]]
                file.write_text("start,price\n" + "".join(rows))
                rates.append(f'{name} = {{ csv = "{file.name}", unit = "EUR/{rate["per"]}", missing = "{rate["missing"]}" }}')
        lines.append(f"rates = {{ {', '.join(rates)} }}")
        adders = [f'{{ name = "adder {i}", per_kwh = {adder} }}' for i, adder in enumerate(version["adders"])]
        lines.append(f"adders = [{', '.join(adders)}]")
        rate_of_tax, included = version["tax"]
        lines.append(f"tax = {{ rate = {rate_of_tax}, included = {str(included).lower()} }}")
        if version["tier_period"]:
            lines.append(f'tier_period = "{version["tier_period"]}"')
        lines.append(f"rule = [{', '.join(map(_rule, version['rules']))}]")
    return "\n".join(lines) + "\n"


def _rule(rule: Spec) -> str:
    parts = []
    for key, value in rule.items():
        if isinstance(value, str):
            parts.append(f'{key} = "{value}"')
        else:
            parts.append(f"{key} = [{', '.join(repr(v) if isinstance(v, str) else str(v) for v in value)}]")
    return f"{{ {', '.join(parts)} }}"
