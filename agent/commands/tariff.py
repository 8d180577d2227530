"""``gpu-finops tariff``: the price of a kWh at an instant, and the bill of a load. ``tariff_files.py`` has the other two."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from array import array
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from agent.calendar.instants import format_instant, parse_date_or_instant_ns, parse_instant_ns
from agent.commands import tariff_files
from agent.config.config import load
from agent.errors import ConfigError, FinOpsError, UsageError
from agent.files.printable import printable
from agent.model import FOREVER_NS
from agent.pricing.bill import Bill, BillLine, Load, make_bill
from agent.series_csv import Series, read_series
from agent.tariffs.ruled import RuledTariff
from agent.toml.document import Faults
from agent.toml.table import nearest
from agent.units import ATTO, MJ_PER_KWH, NS_PER_HOUR

_LOAD_DECIMALS = 9
_LONGEST_BILL_YEARS = 20                         # two million windows of demand
_LONGEST_BILL_NS = _LONGEST_BILL_YEARS * 366 * 24 * NS_PER_HOUR
_LOAD_LIMIT_KW = 10**9


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("tariff", help="prices and bills of a tariff, and tariffs from other formats")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    price = actions.add_parser("price", help="price per kWh at an instant, the rate's name, until when")
    price.add_argument("--at", required=True, metavar="INSTANT", help="with offset, such as 2026-07-15T13:00:00+08:00")
    price.set_defaults(run=run, act=_price)
    bill = actions.add_parser("bill", help="what a load costs: energy by rate, adders, demand, fixed, tax, total")
    bill.add_argument("--from", dest="start", required=True, metavar="A", help="a local date, or an instant with offset")
    bill.add_argument("--to", dest="end", required=True, metavar="B", help="the same; not included")
    size = bill.add_mutually_exclusive_group(required=True)
    size.add_argument("--kw", metavar="X", help="a constant load")
    size.add_argument("--load", type=Path, metavar="FILE.csv", help="rows start,kw, each in force until the next")
    bill.set_defaults(run=run, act=_bill)
    tariff_files.add_actions(actions)
    for action in (price, bill):
        action.add_argument("name", metavar="NAME", help="a tariff of the configuration")
        action.add_argument("--used-kwh", dest="used_kwh", default="0", metavar="X",
                            help="tiers: what the tier period had used before")
        action.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
        action.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    config = load(options.config_file)
    tariff = config.tariffs.get(options.name)
    if tariff is None:
        there = nearest(options.name, config.tariffs) if config.tariffs else "the configuration has no tariffs"
        raise UsageError(f"there is no tariff {options.name!r} in {config.file or 'the built-in defaults'}; {there}")
    document, text, status = options.act(tariff, options)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n" if options.json else text)
    return int(status)


def _price(tariff: RuledTariff, options: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    zone = ZoneInfo(tariff.timezone)
    try:
        at_ns = parse_instant_ns(options.at)
    except ValueError as error:
        raise UsageError(f"--at {options.at} {error}") from error
    price = tariff.price_at(at_ns, int(_decimal("--used-kwh", options.used_kwh) * MJ_PER_KWH))
    if not price.known:
        raise FinOpsError(f"tariff {tariff.name} has no price at {format_instant(at_ns, zone)}; choose an instant that its "
                          "prices and versions reach")
    until_ns = tariff.next_change(at_ns)
    amount = Fraction(price.atto_per_kwh, ATTO)
    document = {
        "tariff": tariff.name, "at": format_instant(at_ns, zone), "rate": price.rate, "currency": tariff.currency,
        "price_per_kwh": float(amount), "until": None if until_ns >= FOREVER_NS else format_instant(until_ns, zone),
    }
    until = "from then on" if until_ns >= FOREVER_NS else f"until {format_instant(until_ns, zone)}"
    return document, f"{_plain(amount)} {tariff.currency}/kWh  {price.rate}  {until}\n", 0


def _bill(tariff: RuledTariff, options: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    zone = ZoneInfo(tariff.timezone)
    from_ns, to_ns = (_moment(flag, text, zone) for flag, text in (("--from", options.start), ("--to", options.end)))
    if from_ns >= to_ns:
        raise UsageError(f"--to {options.end} is not after --from {options.start}; the span is half-open")
    if to_ns - from_ns > _LONGEST_BILL_NS:
        raise UsageError(f"--to {options.end} is more than {_LONGEST_BILL_YEARS} years after --from {options.start}; bill a "
                         "shorter time")
    bill = make_bill(tariff, _load(options, from_ns, zone), from_ns, to_ns,
                     Fraction(_decimal("--used-kwh", options.used_kwh)))
    if bill.unpriced_kwh:
        sys.stderr.write(f"gpu-finops: {_plain(bill.unpriced_kwh)} kWh fall where tariff {tariff.name} has no price, and are "
                         "in no line; choose a span that its prices and versions reach\n")
    return _document(bill, zone), _text(bill, zone), 1 if bill.unpriced_kwh else 0


def _moment(flag: str, text: str, zone: ZoneInfo) -> int:
    try:
        return parse_date_or_instant_ns(text, zone)
    except ValueError as error:
        raise UsageError(f"{flag} {text} {error}, or as a local date such as 2026-07-15") from error


def _decimal(flag: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or not 0 <= number < _LOAD_LIMIT_KW:
        raise UsageError(f"{flag} {text} is not an amount; write a number from 0 to below {_LOAD_LIMIT_KW}")
    return number


def _load(options: argparse.Namespace, from_ns: int, zone: dt.tzinfo) -> Load:
    if options.load is None:
        nano_kw = int(_decimal("--kw", options.kw).scaleb(_LOAD_DECIMALS))
        return Load(Series(array("q", [from_ns]), array("q", [nano_kw]), _LOAD_DECIMALS))
    faults = Faults()
    rows = read_series(options.load, "kw", faults)
    if rows is None:
        raise ConfigError(faults.lines())
    if rows.starts_ns[0] > from_ns:
        raise UsageError(f"the load in {options.load} begins at {format_instant(rows.starts_ns[0], zone)}, after --from "
                         f"{options.start}; begin there, or add a row")
    if min(rows.mantissas) < 0:
        raise UsageError(f"{options.load} has a negative load; feeding in is not billed here, write 0 or more")
    return Load(rows)


def _document(bill: Bill, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "tariff": bill.tariff, "currency": bill.currency, "timezone": bill.timezone,
        "from": format_instant(bill.from_ns, zone), "to": format_instant(bill.to_ns, zone),
        "kwh": float(bill.kwh), "unpriced_kwh": float(bill.unpriced_kwh),
        "lines": [{
            "kind": line.kind, "name": line.name, "quantity": float(line.quantity), "unit": line.unit,
            "price": None if line.price is None else float(line.price), "amount": float(line.amount),
            "included": line.included,
        } for line in bill.lines],
        "total": float(bill.total),
    }


def _text(bill: Bill, zone: ZoneInfo) -> str:
    head = f"{bill.tariff}: {format_instant(bill.from_ns, zone)} to {format_instant(bill.to_ns, zone)}, {_plain(bill.kwh)} kWh"
    rows = [_row(line) for line in bill.lines] + [("total", "", "", "", f"{float(bill.total):.4f} {bill.currency}")]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e:>{widths[4]}}"
             for a, b, c, d, e in rows]
    return "".join(f"{printable(line.rstrip())}\n" for line in [head, *lines])


def _row(line: BillLine) -> tuple[str, str, str, str, str]:
    """Amounts end in the total's columns: the currency stands there only once."""
    price = "" if line.price is None else f"x {_plain(line.price)}"
    return line.kind, line.name, f"{_plain(line.quantity)} {line.unit}".rstrip(), price, f"{float(line.amount):.4f}    "


def _plain(amount: Fraction) -> str:
    """At most six digits after the point, without trailing zeros."""
    text = f"{float(amount):.6f}".rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text
