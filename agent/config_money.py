"""Reads ``[[hardware]]`` and ``[[budget]]``, and sees to it that every amount has a currency."""

from __future__ import annotations

from decimal import Decimal

from agent.currencies import CURRENCIES
from agent.periods import PERIODS
from agent.settings import Budget, Hardware
from agent.toml_document import dotted
from agent.toml_table import Table, nearest, plain_number, type_name

INSTANCE = "instance"
DEFAULT_THRESHOLDS = Budget(name="", match={}, period="", limit=Decimal(0)).thresholds
_OWNED = ("price", "salvage", "years", "maintenance_per_year")


def read_hardware(entries: list[Table], site_currency: str | None) -> tuple[Hardware, ...]:
    """The price book, in order. ``site_currency`` is None without a tariff."""
    found: list[Hardware] = []
    for entry in entries:
        gpu = entry.need_text("gpu", '"NVIDIA H100*", a glob on the NVML name')
        if gpu and (taken := next((h.gpu for h in found if h.gpu in {gpu, "*"}), None)) is not None:
            entry.fault(entry.node, f"can never match, as the earlier {taken!r} takes all its devices; move it up or remove it")
        amounts = {key: entry.number(key, low=0) for key in (*_OWNED, "rent_per_gpu_hour")}
        years = entry.number("years", above=0, high=100)
        _check_kind(entry)
        price, salvage = amounts["price"], amounts["salvage"]
        if price is not None and salvage is not None and salvage > price:
            entry.fault(entry.node.value["salvage"], f"is {salvage}, more than the price; write at most {price}")
        currency = entry.text("currency", CURRENCIES, 'a code of ISO 4217, such as "EUR"')
        if currency is None and site_currency is None and "currency" not in entry.names():
            entry.missing("currency", 'currency = "EUR", as there is no site.tariff whose currency it could have')
        entry.close()
        default = Hardware(gpu="")
        found.append(Hardware(
            gpu=gpu, price=price, salvage=salvage or default.salvage, years=years,
            maintenance_per_year=amounts["maintenance_per_year"] or default.maintenance_per_year,
            rent_per_gpu_hour=amounts["rent_per_gpu_hour"], currency=currency or site_currency))
    return tuple(found)


def _check_kind(entry: Table) -> None:
    """Owned (price over years, maintenance) or rented, not both, not neither."""
    names = entry.names()
    owned = [key for key in _OWNED if key in names]
    if owned and "rent_per_gpu_hour" in names:
        entry.fault(entry.node.value[owned[0]], "stands beside rent_per_gpu_hour, which is instead of energy and hardware; "
                                                "keep one of the two")
    elif not owned and "rent_per_gpu_hour" not in names:
        entry.fault(entry.node, "has no price; write price and years for owned hardware, or rent_per_gpu_hour")
    elif "price" in names and "years" not in names:
        entry.missing("years", "years = 4, over which the price is spread")
    elif "price" not in names and (lone := next((key for key in ("years", "salvage") if key in names), None)):
        entry.fault(entry.node.value[lone], "has no price to go with; write price = 250000")


def read_budgets(entries: list[Table], tag_keys: tuple[str, ...], currencies: list[str]) -> tuple[Budget, ...]:
    """``currencies`` are those that costs come in, the site's first."""
    found: list[Budget] = []
    for entry in entries:
        name = entry.need_text("name", '"kronos monthly"')
        if name and name in {budget.name for budget in found}:
            entry.fault(entry.node.value["name"], f"is {name!r} again; give each budget a name of its own")
        limit = entry.number("limit", above=0)
        if "limit" not in entry.names():
            entry.missing("limit", "limit = 30000, in currency units")
        period = entry.need_text("period", f'"month", one of {", ".join(PERIODS)}', PERIODS)
        match = _match(entry, tag_keys)
        thresholds = _thresholds(entry)
        currency = _currency(entry, currencies)
        entry.close()
        if limit is not None and period:
            found.append(Budget(name=name, match=match, period=period, limit=limit, currency=currency,
                                thresholds=thresholds or DEFAULT_THRESHOLDS))
    return tuple(found)


def _match(entry: Table, tag_keys: tuple[str, ...]) -> dict[str, str]:
    example = 'match = { project = "kronos" }, or { instance = "*" } for everything on this instance'
    given = entry.table("match")
    if given is None:
        entry.missing("match", example)
        return {}
    if given.is_table and not given.names():
        given.fault(given.node, f"is empty; write {example}")
    for key in given.names():
        node = given.node.value[key]
        if key not in (*tag_keys, INSTANCE):
            given.fault(node, f"is neither one of tags.keys nor instance; {nearest(key, (*tag_keys, INSTANCE))}")
        elif key == INSTANCE and (node.value != "*" or len(given.names()) > 1):
            given.fault(node, 'stands for the whole of this instance; write match = { instance = "*" } and nothing beside it')
    return {key: value for key in given.names() if (value := given.text(key)) is not None}


def _thresholds(entry: Table) -> tuple[float, ...] | None:
    items = entry.items("thresholds")
    if items is None:
        return None
    found = []
    for item in items:
        number = plain_number(item.value)
        if number is None or not 0 < number <= 10:
            shown = type_name(item.value) if number is None else number
            entry.fault(item, f"is {shown}; write a part of the limit, more than 0 and at most 10, such as 0.8")
        else:
            found.append(float(number))
    if not items:
        entry.faults.at(entry.node, "is empty; write [0.5, 0.8, 1.0] or leave it out", dotted(entry.node.key, "thresholds"))
    return tuple(sorted(set(found)))


def _currency(entry: Table, currencies: list[str]) -> str | None:
    currency = entry.text("currency", CURRENCIES, 'a code of ISO 4217, such as "EUR"')
    if currency is not None and currency not in currencies:
        there = (f"costs come in {', '.join(currencies)} and there are no exchange rates; write one of these" if currencies else
                 "nothing here has a price; name a site.tariff, or write hardware with a price")
        entry.fault(entry.node.value["currency"], f"is {currency}, but {there}")
    elif currency is None and "currency" not in entry.names():
        if len(currencies) > 1:
            entry.missing("currency", f"which of {', '.join(currencies)} it counts: costs come in several currencies, and "
                                      "there are no exchange rates")
        elif not currencies:
            entry.fault(entry.node, "has nothing to count: there is neither a site.tariff nor hardware with a price; give one")
        else:
            return currencies[0]
    return currency
