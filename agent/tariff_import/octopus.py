"""Half-hourly unit rates as Octopus Energy's API gives them: ``{"results": [{"value_exc_vat", "value_inc_vat", "valid_from",
"valid_to", "payment_method"}]}``, pence per kWh, newest first.

The prices with VAT are taken, as they are what is paid; the tax is shown as included where the two prices tell its rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent.calendar.instants import format_instant, parse_instant_ns
from agent.tariff_import.base import CSV, Imported, Wishes, number, read_json, refuse, slug
from agent.tariff_import.tomltext import plain

PENCE = 100
_FINEST = Decimal("1e-9")                        # a price series holds so much
_UTC = ZoneInfo("UTC")
_KNOWN = frozenset({"value_exc_vat", "value_inc_vat", "valid_from", "valid_to", "payment_method"})
_VAT_SLACK = Decimal("0.0002")                   # pence: both prices are rounded to four decimals

_Row = tuple[int, int | None, Decimal, Decimal]  # from, to (None: for ever), with VAT, without


def read(file: Path, wishes: Wishes) -> Imported:
    """The tariff in a file. Raises UsageError with the field that is wrong."""
    document = read_json(file)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or not results:
        refuse(file, "results", "is not a list with unit rates; save the answer of a standard-unit-rates address")
    if isinstance(document, dict) and document.get("next"):
        refuse(file, "next", "names a further page, so that rates are missing; ask for them with a larger page_size")
    chosen = _of_one_method(file, results, wishes.payment_method)
    rows = sorted((_row(file, f"results[{i}]", result) for i, result in chosen), key=lambda row: row[0])
    for (start_ns, end_ns, *_), after in pairwise(rows):
        if end_ns != after[0]:
            what = "open" if end_ns is None else "until " + format_instant(end_ns, _UTC)
            refuse(file, "valid_to", f"the rate from {format_instant(start_ns, _UTC)} is {what}, and the next begins at "
                                     f"{format_instant(after[0], _UTC)}; rates must follow each other without gap or overlap")
    missing = "last" if rows[-1][1] is None else wishes.missing          # the last one holds until further notice
    table: dict[str, Any] = {"currency": "GBP", "timezone": wishes.timezone or "Europe/London",
                             "rates": {"unit": {"csv": CSV, "unit": "GBP/kWh", "missing": missing}}}
    vat = _vat(rows)
    if vat is not None:
        table["tax"] = {"rate": vat, "included": True}
    table["rule"] = [{"rate": "unit"}]
    notes = (f"From {file.name}, Octopus unit rates with VAT.",
             'Add the standing charge: fixed = [{ name = "standing charge", per_day = 0.55 }], in GBP with VAT.')
    return Imported(name=wishes.name or slug(file.stem), table=table, notes=notes, csv=_csv(rows))


def _of_one_method(file: Path, results: list[Any], wanted: str | None) -> list[tuple[int, Mapping[str, Any]]]:
    for i, result in enumerate(results):
        if not isinstance(result, dict):
            refuse(file, f"results[{i}]", "is not a table; save the service's answer as it came")
        if unknown := sorted(result.keys() - _KNOWN):
            refuse(file, f"results[{i}].{unknown[0]}", "is a field that is not understood; remove it if it changes no price")
    methods = sorted({str(result["payment_method"]) for result in results if result.get("payment_method")})
    if wanted is not None and wanted not in methods:
        refuse(file, "payment_method", f"is never {wanted}; choose one of {', '.join(methods) or 'none: leave it out'}")
    if wanted is None and len(methods) > 1:
        refuse(file, "payment_method", f"is one of {', '.join(methods)}, each with prices; choose with --payment-method")
    return [(i, result) for i, result in enumerate(results) if wanted is None or result.get("payment_method") in (wanted, None)]


def _row(file: Path, place: str, result: Mapping[str, Any]) -> _Row:
    moments: list[int | None] = []
    for field in ("valid_from", "valid_to"):
        text = result.get(field)
        if text is None and field == "valid_to":
            moments.append(None)
            continue
        try:
            moments.append(parse_instant_ns(str(text)))
        except ValueError as error:
            refuse(file, f"{place}.{field}", f"{text!r} {error}")
    start_ns, end_ns = moments
    if start_ns is None or (end_ns is not None and end_ns <= start_ns):
        refuse(file, f"{place}.valid_to", f"is {result.get('valid_to')}, not after valid_from; correct the file")
    with_vat, without = (number(file, f"{place}.{field}", result.get(field)) for field in ("value_inc_vat", "value_exc_vat"))
    return start_ns, end_ns, with_vat, without


def _vat(rows: list[_Row]) -> Decimal | None:
    """The rate of tax, to a tenth of a percent, that explains every row; None where none does."""
    largest = max(rows, key=lambda row: abs(row[3]))
    if largest[3] == 0:
        return None
    rate = (largest[2] / largest[3] - 1).quantize(Decimal("0.001"))
    fits = all(abs(row[3] * (1 + rate) - row[2]) <= _VAT_SLACK for row in rows)
    return rate if fits and 0 <= rate <= 1 else None


def _csv(rows: list[_Row]) -> str:
    """Rows start,price. A series' last row counts as long as the one before it: where it is not, it is written in halves."""
    starts = [(start_ns, with_vat) for start_ns, _, with_vat, _ in rows]
    start_ns, end_ns, price, _ = rows[-1]
    if end_ns is not None and (len(rows) == 1 or end_ns - start_ns != start_ns - rows[-2][0]):
        starts.append(((start_ns + end_ns) // 2, price))
    lines = [f"{format_instant(at_ns, _UTC)},{plain((price / PENCE).quantize(_FINEST))}" for at_ns, price in starts]
    return "\n".join(["start,price", *lines]) + "\n"
