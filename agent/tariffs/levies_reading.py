"""Reads what a tariff adds to its rates: ``adders``, ``tax``, ``demand`` and ``fixed``."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from agent.tariffs.flat import read_price
from agent.tariffs.levies import Adder, DemandCharge, FixedCharge, Levies, Tax
from agent.toml.document import Node, dotted
from agent.toml.table import Table
from agent.units import NS_PER_S

_WINDOWS_NS = {f"{minutes}m": minutes * 60 * NS_PER_S for minutes in (5, 10, 15, 30, 60)}


def read_levies(table: Table, names: Mapping[str, Node], named: set[str]) -> Levies:
    """``names`` are the tariff's rates; ``named``, those that a rule names."""
    return Levies(adders=_adders(table), tax=_tax(table), demand=_demand(table, names, named), fixed=_fixed(table))


def _adders(table: Table) -> tuple[Adder, ...]:
    found = []
    for entry in table.tables("adders"):
        name, price = entry.need_text("name", '"grid fee"'), entry.get("per_kwh")
        if price is None:
            entry.missing("per_kwh", "per_kwh = 0.03")
        elif (atto := read_price(price, table.faults)) is not None:
            found.append(Adder(name, atto))
        entry.close()
    return tuple(found)


def _tax(table: Table) -> Tax | None:
    entry = table.table("tax")
    if entry is None or not entry.is_table:
        return None
    rate, included = entry.number("rate", low=0, high=1), entry.truth("included")
    if "rate" not in entry.names():
        entry.missing("rate", "rate = 0.19 for 19 %")
    if "included" not in entry.names():
        entry.missing("included", "included = true where the prices hold the tax already, else false")
    entry.close()
    return Tax(Fraction(rate), included) if rate is not None and included is not None else None


def _demand(table: Table, names: Mapping[str, Node], named: set[str]) -> tuple[DemandCharge, ...]:
    found = []
    for entry in table.tables("demand"):
        name = entry.need_text("name", '"maximum demand"')
        price = entry.number("per_kw_month", low=0)
        if "per_kw_month" not in entry.names():
            entry.missing("per_kw_month", "per_kw_month = 42.0")
        window = entry.need_text("window", '"15m"', _WINDOWS_NS)
        when = entry.texts("when", names)
        if when == () and (written := entry.get("when")) is not None and not written.value:
            table.fault(written, "is empty and would never count; leave it out to count every window")
        for rate in when or ():
            if rate not in named and named:
                table.faults.at(entry.node, f"names {rate!r}, which no rule uses; name a rate that holds at some time",
                                dotted(entry.node.key, "when"))
        entry.close()
        if price is not None and window:
            found.append(DemandCharge(name, price, _WINDOWS_NS[window], frozenset(when or ())))
    return tuple(found)


def _fixed(table: Table) -> tuple[FixedCharge, ...]:
    found = []
    for entry in table.tables("fixed"):
        name = entry.need_text("name", '"customer charge"')
        prices = {per: entry.number(f"per_{per}") for per in ("day", "month")}
        given = [per for per in prices if f"per_{per}" in entry.names()]
        if len(given) != 1:
            table.fault(entry.node, "needs exactly one price; write per_day = 24.0 or per_month = 720.0")
        found += [FixedCharge(name, price, per) for per, price in prices.items() if price is not None]
        entry.close()
    return tuple(found)
