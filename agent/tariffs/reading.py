"""Reads a ``[tariff.NAME]`` table, with its versions, into a RuledTariff, and checks that its parts fit together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from agent.calendar.instants import format_instant, local_midnight_ns
from agent.calendar.periods import PERIODS
from agent.calendar.zones import read_zone
from agent.currencies import CURRENCIES
from agent.files.stamps import Stamp
from agent.settings import TariffRule
from agent.tariffs import TARIFF_KINDS
from agent.tariffs.base import Rate, RateContext
from agent.tariffs.coverage import uncovered_span, unreachable_rules
from agent.tariffs.levies_reading import read_levies
from agent.tariffs.ruled import RuledTariff, TariffVersion
from agent.tariffs.rules import read_rules
from agent.tariffs.schedule import Schedule
from agent.toml.document import Faults, Node
from agent.toml.table import Table, nearest, type_name
from agent.units import NS_PER_S

_SINCE_EVER_NS = -(2**63)
_UTC = ZoneInfo("UTC")


class Terms(Struct):
    """One version's table, what was read from it, and where it begins."""

    table: Table
    own_keys: frozenset[str]                     # written in this version, not taken over from the one before
    starts_ns: int
    note: str                                    # which version, for the sentences about it
    rates: dict[str, Rate]


def read_tariff(name: str, node: Node, faults: Faults, files: dict[Path, Stamp],
                now_ns: int | None) -> RuledTariff | None:
    """A tariff; None, with a fault for everything that is wrong, where it is not good.

    A version takes over, key by key, what it does not write itself from the version before it; the plain table is the
    first. With ``now_ns`` a price series that must reach the present (``missing = "error"``) and does not is a fault.
    """
    before = len(faults)
    table = Table(node, faults)
    if not table.is_table:
        return None
    currency = table.need_text("currency", '"EUR", a code of ISO 4217', CURRENCIES, 'a code of ISO 4217, such as "EUR"')
    zone = read_zone(table, "timezone", '"Europe/Berlin", a name of the IANA database')
    context = RateContext(currency, faults, files)
    terms = [_read_rates(terms, context) for terms in _terms(table, zone or _UTC)]
    versions = [_read_version(terms, zone or _UTC) for terms in terms]
    if now_ns is not None:
        _check_present(terms, now_ns, faults)
    if len(faults) > before or zone is None:
        return None
    return RuledTariff(name, currency, zone.key, [version for version in versions if version is not None])


def _terms(table: Table, zone: ZoneInfo) -> list[Terms]:
    """The versions' tables, each completed by the one before."""
    found: list[Terms] = []
    entries = table.items("version") or ()
    values = {key: node for key, node in table.node.value.items() if key not in {"currency", "timezone", "version"}}
    plain = Node(values, table.node.file, table.node.line, table.node.key)
    if not entries or "rates" in values or "rule" in values:
        start = Table(plain, table.faults).date("valid_from") if "valid_from" in values else None
        starts_ns = local_midnight_ns(start, zone) if start else _SINCE_EVER_NS
        found.append(Terms(Table(plain, table.faults), frozenset(values), starts_ns, "", {}))
    for entry in entries:
        own = Table(entry, table.faults)
        if not own.is_table:
            continue
        for key in ("currency", "timezone"):
            if (fixed := own.get(key)) is not None:
                table.fault(fixed, "cannot change between versions; write another tariff")
        own_values = {key: own.node.value[key] for key in own.names() if key not in {"currency", "timezone"}}
        if "valid_from" not in own_values:
            own.missing("valid_from", "valid_from = 2027-01-01, the local date on which this version begins")
            continue
        start = own.date("valid_from")
        values = values | own_values
        if start is None:
            continue
        starts_ns = local_midnight_ns(start, zone)
        if found and starts_ns <= found[-1].starts_ns:
            table.fault(own_values["valid_from"], f"is {start}, not after the version before; order versions by date")
        whole = Table(Node(values, entry.file, entry.line, entry.key), table.faults)
        found.append(Terms(whole, frozenset(own_values), starts_ns, f" in the version from {start}", {}))
    return found


def _read_rates(terms: Terms, context: RateContext) -> Terms:
    rates = terms.table.table("rates")
    if rates is None:
        terms.table.missing("rates", "rates = { NAME = PRICE }, the price of a kWh by name")
        return terms
    if rates.is_table and not rates.names():
        rates.fault(rates.node, "is empty; write { NAME = PRICE }, the price of a kWh by name")
    for name in rates.names():
        node = rates.get(name)
        kind = next((kind for kind in TARIFF_KINDS.values() if node is not None and kind.claims(node)), None)
        if node is None or kind is None:
            forms = ", or ".join(kind.form for kind in TARIFF_KINDS.values())
            context.faults.at(rates.node.value[name], f"is {type_name(rates.node.value[name].value)}; write {forms}")
        elif (rate := kind.read(node, context)) is not None:
            terms.rates[name] = rate
    for name, rate in terms.rates.items():
        _check_fallback(name, rate, terms, rates)
    return terms


def _check_fallback(name: str, rate: Rate, terms: Terms, rates: Table) -> None:
    """The stand-in of a rate must be there, and the chain of stand-ins must end."""
    passed = [name]
    node = rates.node.value[name].value["missing"] if rate.fallback is not None else rates.node
    while rate.fallback is not None:
        if rate.fallback not in rates.names():
            rates.fault(node, f'is {rate.fallback!r}; write "last", "error" or the name of another rate')
            return
        if rate.fallback in passed:
            rates.fault(node, f"leads back to {rate.fallback!r}; let the last rate of the chain have a price of its own")
            return
        passed.append(rate.fallback)
        if rate.fallback not in terms.rates:
            return                               # at fault itself
        rate = terms.rates[rate.fallback]


def _read_version(terms: Terms, zone: ZoneInfo) -> TariffVersion | None:
    table = terms.table
    table.get("valid_from")
    if "holidays" in table.names() and (wish := table.get("holidays")) and "holidays" in terms.own_keys:
        table.fault(wish, "is a wish, not dates, and nothing looks holidays up while it runs; have it written out with "
                          f"gpu-finops tariff holidays {table.node.file or 'FILE'}")
    rates_node = table.get("rates")
    names: Mapping[str, Node] = rates_node.value if rates_node and isinstance(rates_node.value, dict) else {}
    rules = read_rules(table)
    named = {rule.rate for rule, _ in rules}
    written = table.get("rule")
    whole = written is not None and isinstance(written.value, list) and 0 < len(rules) == len(written.value)
    if written is None:
        table.missing("rule", 'rule = [{ rate = "NAME" }], which rate holds when')
    elif written.value == []:
        table.fault(written, 'is empty; write [{ rate = "NAME" }], which rate holds when')
    elif whole:
        _check_rules(terms, [rule for rule, _ in rules], [node for _, node in rules], names)
    levies = read_levies(table, names, named)
    stand_ins = {rate.fallback for rate in terms.rates.values()}
    if whole:
        for name, node in names.items():
            if name not in named | stand_ins:
                table.fault(node, f"is named by no rule{terms.note}; write a rule for it, or remove the rate")
    tiered = any(rate.tier_end_mj(0) is not None for rate in terms.rates.values())
    period = table.text("tier_period", PERIODS)
    if tiered and "tier_period" not in table.names():
        table.missing("tier_period", f'tier_period = "year", one of {", ".join(PERIODS)}, since a rate has blocks')
    elif not tiered and "tier_period" in terms.own_keys and len(terms.rates) == len(names):
        table.fault(table.node.value["tier_period"], "is never used, as no rate has blocks; remove it")
    table.close()
    if len(terms.rates) < len(names) or not rules:
        return None
    return TariffVersion(terms.starts_ns, Schedule([rule for rule, _ in rules], zone), terms.rates, levies,
                         period if tiered else None, zone)


def _check_rules(terms: Terms, rules: list[TariffRule], nodes: list[Node], names: Mapping[str, Node]) -> None:
    table = terms.table
    for rule, node in zip(rules, nodes, strict=True):
        if rule.rate not in names:
            table.fault(node.value["rate"], f"is {rule.rate!r}, which is not in rates{terms.note}; {nearest(rule.rate, names)}")
    for i in unreachable_rules(rules):
        table.fault(nodes[i], f"can never match{terms.note}, as earlier rules take all its hours; move it up or remove it")
    gap = uncovered_span(rules)
    if gap is not None:
        table.faults.at(table.node.value["rule"], f"no rule covers {gap}{terms.note}; end the list with a rule that has only"
                                                  f' a rate, such as {{ rate = "{rules[-1].rate}" }}')


def _check_present(terms: list[Terms], now_ns: int, faults: Faults) -> None:
    """A rate that has no price now, and no stand-in, would leave everything unpriced from the start."""
    in_force = [version for version in terms if version.starts_ns <= now_ns]
    for name, rate in in_force[-1].rates.items() if in_force else ():
        if rate.fallback is None and rate.atto_at(now_ns, 0) is None:
            node = in_force[-1].table.node.value["rates"].value[name]
            faults.at(node, f"has no price for the present ({format_instant(now_ns // NS_PER_S * NS_PER_S, _UTC)}); fetch"
                            f' the missing prices, or write missing = "last" or the name of another rate')
