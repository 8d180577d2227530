"""``gpu-finops tariff import`` and ``tariff holidays``: configuration files made from others' files. Never fetches anything."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
from pathlib import Path
from typing import Any

from agent.calendar.zones import find_zone
from agent.currencies import CURRENCIES
from agent.errors import FinOpsError, UsageError
from agent.files.inputs import is_file, read_input
from agent.files.outputs import write_whole
from agent.tariff_import import FORMATS
from agent.tariff_import.base import Wishes
from agent.tariff_import.holidays import PLACEHOLDER, holiday_dates, wished, write_out
from agent.tariff_import.tomltext import tariff_text
from agent.tariffs.reading import read_tariff
from agent.toml.document import Faults, parse_document

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
    texts = _imported(options, wishes)
    if any(file is not None and is_file(file) and file.samefile(options.file) for file in texts):
        raise UsageError(f"{options.file} is what is imported, and would be written over; write another name with -o")
    _write(texts, force=options.force)
    return 0


def _imported(options: argparse.Namespace, wishes: Wishes) -> dict[Path | None, str]:
    """The texts to write, by file."""
    try:
        tariff = FORMATS[options.format](options.file, wishes)
    except (TypeError, AttributeError, LookupError) as error:
        raise FinOpsError(f"{options.file}: a field has another shape than {options.format} gives it ({error}); "
                          "save the answer as it came") from error
    if tariff.csv is None:
        return {options.output: _checked(tariff_text(tariff, ""), options.file)}
    if options.output is None:
        raise UsageError(f"prices of {options.format} go into a CSV file beside the tariff; write -o OUT.toml")
    if options.output.suffix != ".toml":
        raise UsageError(f"-o {options.output}: write a name that ends in .toml; the prices go beside it, in one that ends in "
                         ".csv")
    csv = options.output.with_suffix(".csv")
    return {csv: tariff.csv, options.output: tariff_text(tariff, csv.name)}


def _checked(text: str, source: Path) -> str:
    """A tariff's text, where it is a good one: what another program wrote need not be."""
    faults = Faults()
    document = parse_document(text, source, faults)
    for name, node in document.value["tariff"].value.items() if document is not None else ():
        read_tariff(name, node, faults, {}, None)
    if faults:
        what = faults.lines()[0].removeprefix(f"{source}:").partition(": ")[2]
        raise UsageError(f"{source} makes no good tariff: {what}")
    return text


def run_holidays(options: argparse.Namespace) -> int:
    years = _years(options.years)
    file = Path(options.what)
    if not is_file(file):
        if file.suffix:
            raise UsageError(f"there is no file {file}; give a configuration, or a country such as CN")
        found = holiday_dates(options.what, years)
        lines = [f"  {day.isoformat()},{'':2}# {' '.join(name.split())}" for day, name in found]
        _write({options.output: "\n".join(["dates = [", *lines, "]"]) + "\n"}, force=options.force)
        return 0
    text = _text(file)
    codes = wished(text)
    if len(codes) != 1 or PLACEHOLDER not in text:
        raise UsageError(f'{file} needs holidays = "CN" in a tariff and dates = ["holidays"] in its rules, of one country a '
                         f"file; it asks for {', '.join(codes) or 'none'}")
    dates = [day for day, _ in holiday_dates(codes[0], years)]
    _write({options.output: write_out(text, codes[0], dates)}, force=options.force)
    return 0


def _text(file: Path) -> str:
    try:
        return read_input(file).decode()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); give a configuration, or a country such as CN") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


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
    there = [file for file in texts if file is not None and os.path.lexists(file)]
    if there and not force:
        raise UsageError(f"{there[0]} is there already; write another name, or --force to write over it")
    sys.stdout.write(texts.get(None, ""))
    try:
        write_whole({file: text for file, text in texts.items() if file is not None})
    except OSError as error:
        raise FinOpsError(f"{error.filename} cannot be written ({error.strerror}); give a place that can") from error
