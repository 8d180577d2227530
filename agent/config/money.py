"""Reads ``[[hardware]]``, ``[host]`` and ``[[budget]]``, and sees to it that every amount has a currency."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.calendar.instants import format_instant, local_midnight_ns
from agent.calendar.periods import PERIODS
from agent.currencies import CURRENCIES
from agent.files.stamps import Stamp, file_stamp
from agent.series_csv import read_series
from agent.settings import Budget, Hardware, Host, RentSeries
from agent.toml.document import dotted
from agent.toml.table import Table, nearest, plain_number, resolve_file, type_name
from agent.units import HOURS_PER_YEAR, NS_PER_S

INSTANCE = "instance"
DEFAULT_THRESHOLDS = Budget(name="", match={}, period="", limit=Decimal(0)).thresholds
_HIGHEST_PER_HOUR = 10**9                        # as for a kWh: beyond it is a slip, in any currency
METHODS = ("straight", "declining")
_OWNED = ("price", "salvage", "years", "bought", "method", "rate", "maintenance_per_year")
_NEED_PRICE = ("years", "salvage", "bought", "method", "rate")
_RENTED = ("rent_per_gpu_hour", "reserved_per_gpu_hour")
_CODE = 'a code of ISO 4217, such as "EUR"'


def read_hardware(entries: list[Table], site_currency: str | None, zone: ZoneInfo, files: dict[Path, Stamp],
                  now_ns: int | None) -> tuple[Hardware, ...]:
    """The price book, in order. ``site_currency`` is None without a tariff; ``zone`` is where ``bought`` is a date. With
    ``now_ns`` a rent series that must reach the present (``missing = "error"``) and does not is a fault."""
    found: list[Hardware] = []
    for entry in entries:
        gpu = entry.need_text("gpu", '"NVIDIA H100*", a glob on the NVML name')
        if gpu and (taken := next((h.gpu for h in found if h.gpu in {gpu, "*"}), None)) is not None:
            entry.fault(entry.node, f"can never match, as the earlier {taken!r} takes all its devices; move it up or remove it")
        price, salvage, maintenance, reserved = (
            entry.number(key, low=0) for key in ("price", "salvage", "maintenance_per_year", "reserved_per_gpu_hour"))
        rent, rent_series = _rent(entry, files, now_ns)
        years = entry.number("years", above=0, high=100)
        bought = entry.date("bought")
        rate = _declining_rate(entry)
        _check_kind(entry)
        for key, hourly in (("rent_per_gpu_hour", rent), ("reserved_per_gpu_hour", reserved),
                            ("years", price / (years * HOURS_PER_YEAR) if price is not None and years else None),
                            ("maintenance_per_year", maintenance / HOURS_PER_YEAR if maintenance is not None else None)):
            if hourly is not None and hourly > _HIGHEST_PER_HOUR:
                entry.fault(entry.node.value[key], f"makes {hourly:.3g} an hour; write what a device can cost, at most "
                                                   f"{_HIGHEST_PER_HOUR} an hour")
        if price is not None and salvage is not None and salvage > price:
            entry.fault(entry.node.value["salvage"], f"is {salvage}, more than the price; write at most {price}")
        currency = entry.text("currency", CURRENCIES, _CODE)
        if currency is None and site_currency is None and "currency" not in entry.names():
            entry.missing("currency", 'currency = "EUR", as there is no site.tariff whose currency it could have')
        entry.close()
        default = Hardware(gpu="")
        found.append(Hardware(
            gpu=gpu, price=price, salvage=salvage or default.salvage, years=years, declining_rate=rate,
            bought_ns=local_midnight_ns(bought, zone) if bought is not None else None,
            maintenance_per_year=maintenance or default.maintenance_per_year, rent_per_gpu_hour=rent, rent_series=rent_series,
            reserved_per_gpu_hour=reserved, currency=currency or site_currency))
    return tuple(found)


def _declining_rate(entry: Table) -> Decimal | None:
    """The part of what is left that a year takes; None for a straight line."""
    method, rate = entry.text("method", METHODS), entry.number("rate", above=0, high=1)
    names = entry.names()
    if method == "declining":
        if "rate" not in names:
            entry.missing("rate", "rate = 0.4 for 40 % of what is left each year")
        if "bought" not in names:
            entry.missing("bought", "bought = 2026-01-01, the date from which it loses value")
        return rate
    if "rate" in names and (method == "straight" or "method" not in names):
        entry.fault(entry.node.value["rate"], 'belongs to method = "declining"; write that too, or remove the rate')
    return None


def _rent(entry: Table, files: dict[Path, Stamp], now_ns: int | None) -> tuple[Decimal | None, RentSeries | None]:
    node = entry.get("rent_per_gpu_hour")
    if node is None or not isinstance(node.value, dict):
        return entry.number("rent_per_gpu_hour", low=0), None
    table = Table(node, entry.faults)
    text = table.need_text("csv", '"spot.csv", with rows start,price')
    missing: str | Decimal | None = None
    told = table.get("missing")
    if told is None:
        table.missing("missing", 'missing = "last", "error" or a price: what holds after the last row')
    elif told.value in ("last", "error"):
        missing = str(told.value)
    elif plain_number(told.value) is not None:
        missing = table.number("missing", low=0)
    else:
        shown = repr(told.value) if isinstance(told.value, str) else type_name(told.value)
        table.fault(told, f'is {shown}; write "last", "error" or a price per GPU hour')
    table.close()
    file = resolve_file(node.value["csv"], entry.faults) if text else None
    if file is None:
        return None, None
    files[file] = file_stamp(file)
    series = read_series(file, "price", entry.faults)
    if series is None or missing is None:
        return None, None
    if missing != "last" and len(series.starts_ns) < 2:
        entry.faults.line(file, 2, "row", 'one row alone does not say how long it holds; add a row, or write missing = "last"')
    if missing == "error" and now_ns is not None and not series.starts_ns[0] <= now_ns < series.end_ns:
        moment = format_instant(now_ns // NS_PER_S * NS_PER_S, ZoneInfo("UTC"))
        entry.fault(node, f"has no price for the present ({moment}); fetch the missing prices, or write missing = "
                          '"last" or a price')
    return None, RentSeries(series=series, missing=missing)


def _check_kind(entry: Table) -> None:
    """Owned (price over years, maintenance) or rented, not both, not neither."""
    names = entry.names()
    owned, rented = [key for key in _OWNED if key in names], [key for key in _RENTED if key in names]
    if owned and rented:
        entry.fault(entry.node.value[owned[0]], f"stands beside {rented[0]}, which is instead of energy and hardware; "
                                                "keep one of the two")
    elif len(rented) > 1:
        entry.fault(entry.node.value[rented[1]], f"stands beside {rented[0]}; a device has one rent, keep one of the two")
    elif not owned and not rented:
        entry.fault(entry.node, "has no price; write price and years for owned hardware, or rent_per_gpu_hour")
    elif "price" in names and "years" not in names:
        entry.missing("years", "years = 4, over which the price is spread")
    elif "price" not in names and (lone := next((key for key in _NEED_PRICE if key in names), None)):
        entry.fault(entry.node.value[lone], "has no price to go with; write price = 250000")


def read_host(entry: Table | None, site_currency: str | None) -> Host | None:
    """The machine around the GPUs; None where it is not priced."""
    if entry is None or not entry.is_table:
        return None
    price = entry.number("price_per_hour", low=0)
    idle, most = entry.number("idle_watts", low=0, high=100_000), entry.number("max_watts", low=0, high=100_000)
    currency = entry.text("currency", CURRENCIES, _CODE)
    names = entry.names()
    by_power = [key for key in ("idle_watts", "max_watts") if key in names]
    if "price_per_hour" in names and by_power:
        entry.fault(entry.node.value[by_power[0]], "stands beside price_per_hour; price the host by one of the two")
    elif "price_per_hour" not in names and len(by_power) < 2:
        entry.fault(entry.node, "needs price_per_hour, or idle_watts and max_watts; write one of the two")
    elif by_power and site_currency is None:
        entry.fault(entry.node.value["idle_watts"], "has no price for its energy; name a site.tariff, or write price_per_hour")
    elif by_power and "currency" in names:
        entry.fault(entry.node.value["currency"], "is the site tariff's where the host is priced by power; remove it")
    if idle is not None and most is not None and most < idle:
        entry.fault(entry.node.value["max_watts"], f"is {most}, less than idle_watts; write the power with all CPUs busy")
    if "price_per_hour" in names and site_currency is None and "currency" not in names:
        entry.missing("currency", 'currency = "EUR", as there is no site.tariff whose currency it could have')
    entry.close()
    return Host(price_per_hour=price, currency=currency or site_currency, idle_watts=idle, max_watts=most)


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
