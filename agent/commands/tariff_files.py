"""``gpu-finops tariff import`` and ``tariff holidays``: configuration files made from others' files. Never fetches anything."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from pathlib import Path
from typing import Any

from agent.calendar.zones import find_zone
from agent.currencies import CURRENCIES
from agent.errors import FinOpsError, UsageError
from agent.tariff_import import FORMATS
from agent.tariff_import.base import Wishes
from agent.tariff_import.holidays import PLACEHOLDER, holiday_dates, wished, write_out
from agent.tariff_import.tomltext import tariff_text

_YEARS = re.compile(r"([0-9]{4})(?:-([0-9]{4}))?")


def add_actions(actions: Any) -> None:
    make = actions.add_parser("import", help="a tariff from a local file of another format")
    make.add_argument("--format", required=True, choices=sorted(FORMATS))
    make.add_argument("file", type=Path, metavar="FILE", help="a JSON file; nothing is fetched")
    make.add_argument("--name", metavar="N", help="the tariff's name; default: from the file")
    make.add_argument("--timezone", metavar="ZONE", help="IANA; urdb needs it")
    make.add_argument("--currency", metavar="CODE", help="ISO 4217; urdb: where the rate is not American")
    make.add_argument("--label", metavar="L", help="urdb: which rate of several")
    make.add_argument("--payment-method", dest="payment_method", metavar="M", help="octopus: which prices of several")
    make.add_argument("--missing", choices=["last", "error"], default="last", help="octopus: what holds after the last price")
    make.add_argument("--ignore", action="append", default=[], metavar="FIELD", help="urdb: leave a field out")
    make.set_defaults(run=run_import)
    days = actions.add_parser("holidays", help="public holidays as dates")
    days.add_argument("what", metavar="CODE|FILE", help='a country such as CN or US-CA: prints dates = [...]; or a '
                                                        'configuration with holidays = "CN", which is written out')
    days.add_argument("--years", metavar="A-B", help="such as 2026-2028; default: this year and the next two")
    days.set_defaults(run=run_holidays)
    for action in (make, days):
        action.add_argument("-o", dest="output", type=Path, metavar="OUT.toml", help="default: standard output")
        action.add_argument("--force", action="store_true", help="write over files that are there")


def run_import(options: argparse.Namespace) -> int:
    if options.timezone is not None and find_zone(options.timezone) is None:
        raise UsageError(f"--timezone {options.timezone} is not a name of the IANA database, such as Europe/London")
    if options.currency is not None and options.currency not in CURRENCIES:
        raise UsageError(f"--currency {options.currency} is not a code of ISO 4217, such as USD")
    wishes = Wishes(name=options.name, timezone=options.timezone, currency=options.currency, label=options.label,
                    payment_method=options.payment_method, missing=options.missing, ignore=frozenset(options.ignore))
    try:
        tariff = FORMATS[options.format](options.file, wishes)
    except (TypeError, AttributeError, LookupError) as error:
        raise FinOpsError(f"{options.file}: a field has another shape than {options.format} gives it ({error}); "
                          "save the answer as it came") from error
    if tariff.csv is None:
        _write({options.output: tariff_text(tariff, "")}, force=options.force)
        return 0
    if options.output is None:
        raise UsageError(f"prices of {options.format} go into a CSV file beside the tariff; write -o OUT.toml")
    csv = options.output.with_suffix(".csv")
    if csv == options.output:
        raise UsageError(f"-o {options.output} is where the prices go; write a name that ends in .toml")
    _write({csv: tariff.csv, options.output: tariff_text(tariff, csv.name)}, force=options.force)
    return 0


def run_holidays(options: argparse.Namespace) -> int:
    years = _years(options.years)
    file = Path(options.what)
    if not file.is_file():
        if file.suffix:
            raise UsageError(f"there is no file {file}; give a configuration, or a country such as CN")
        found = holiday_dates(options.what, years)
        lines = [f"  {day.isoformat()},{'':2}# {' '.join(name.split())}" for day, name in found]
        _write({options.output: "\n".join(["dates = [", *lines, "]"]) + "\n"}, force=options.force)
        return 0
    text = file.read_text(encoding="utf-8")
    codes = wished(text)
    if len(codes) != 1 or PLACEHOLDER not in text:
        raise UsageError(f'{file} needs holidays = "CN" in a tariff and dates = ["holidays"] in its rules, of one country a '
                         f"file; it asks for {', '.join(codes) or 'none'}")
    dates = [day for day, _ in holiday_dates(codes[0], years)]
    _write({options.output: write_out(text, codes[0], dates)}, force=options.force)
    return 0


def _years(text: str | None) -> list[int]:
    if text is None:
        this = dt.datetime.now(tz=dt.UTC).year
        return [this, this + 1, this + 2]
    found = _YEARS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not 1990 <= first <= last <= 2100:
        raise UsageError(f"--years {text} is not a span of years; write 2026 or 2026-2028")
    return list(range(first, last + 1))


def _write(texts: dict[Path | None, str], *, force: bool) -> None:
    """Whole files or none of them; None is standard output."""
    there = [file for file in texts if file is not None and file.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} is there already; write another name, or --force to write over it")
    for file, text in texts.items():
        if file is None:
            sys.stdout.write(text)
            continue
        part = file.with_name(f".{file.name}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise FinOpsError(f"{file} cannot be written ({error.strerror}); give a place that can") from error
