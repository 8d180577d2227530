"""Runs focus-validator over FOCUS datasets and reads its report: it ends with 0 whatever it finds.

    python scripts/focus_check.py ENVIRONMENT [FILE ...]

ENVIRONMENT is a virtual environment that has the validator; ``scripts/focus-check.sh`` makes one. Without a FILE it makes a
ledger with market, negative, missing and flat prices, owned, rented and MIG devices, prices a part of it again, and checks its
export as CSV and as Parquet. Ends with 1 where a rule is broken that is not known, or a known one is not broken any more.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.commands.focus_export import export_focus
from agent.config.config import load
from agent.ledger.file import FILE_NAME
from agent.ledger.rerate import Rerating
from agent.pricing.pricebook import price_device
from agent.pricing.pricing import Pricing
from agent.units import NS_PER_HOUR
from tests.exporters.focus import books

# Broken, and why that is right.
KNOWN: Final = {
    "InvoiceId-C-005-C":
        "InvoiceId MUST NOT be null where there is an invoice. It is null, because there is none, as InvoiceId-C-004-C asks. "
        "The validator sees no invoices and checks both for every row; no dataset can keep both. InvoiceId-C-003-C, which asks "
        "for one of the two, passes",
}
FEWEST_PASSED: Final = 228           # of 578 rules; the others cannot be computed, or are for columns that do not apply here
# What a site of one's own has, of what FOCUS lets depend on the provider.
CRITERIA: Final = (
    "ACCOUNT_NAMING_SUPPORTED", "MULTIPLE_PRICING_CATEGORIES_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED", "UNIT_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED", "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED", "TAGGING_SUPPORTED")
LIMIT_S: Final = 300
END_NS: Final = books.START_NS + 8 * NS_PER_HOUR


class Later:
    """Some hours after the ledger's last row: its first billing month is closed."""

    def utc_ns(self) -> int:
        return END_NS

    boottime_ns = monotonic_ns = utc_ns


def make_exports(directory: Path) -> list[Path]:
    """The ledger of the tests, rated again at other market prices, as CSV and as Parquet."""
    booked = books.configure(directory)
    books.fill(booked)
    (directory / "prices.csv").write_text(books.PRICES.replace("81.37", "99.99"))
    config = load(booked.file, {"state_dir": booked.state_dir}, environ={"HOME": "/"})
    with contextlib.closing(sqlite3.connect(config.state_dir / FILE_NAME, isolation_level=None)) as db:
        pricing = Pricing(config.tariff, "spot", config.site.pue, (), None, {})
        Rerating(db, pricing, lambda name: price_device(name, config.hardware, "").rented).write(books.START_NS, END_NS, END_NS)
    files = [directory / "usage.csv", directory / "usage.parquet"]
    for file in files:
        export_focus(config, None, None, file, Later())
    return files


def validate(environment: Path, file: Path, *options: str) -> str:
    """What the validator prints of a file. It is run where its package lies: it looks for a file of its own beside that."""
    (package,) = environment.glob("lib/python*/site-packages")
    command = [environment / "bin" / "focus-validator", "--validate-version", "1.2", "--block-download", "--data-file",
               file.resolve(), "--applicability-criteria", ",".join(CRITERIA), *options]
    done = subprocess.run(command, cwd=package, timeout=LIMIT_S, check=False, text=True,  # noqa: S603 - a program of our own choice
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{done.stdout}\nfocus-check: the validator ended with {done.returncode} over {file} (its words are above)")
    return done.stdout


def judged(report: Path) -> tuple[int, list[str]]:
    """How many rules of a report passed, and a sentence for each thing that is wrong with it."""
    outcomes: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by the validator a moment ago
        outcomes[case.attrib["name"].partition(" :: ")[0]] = case[0].tag if len(case) else "passed"
    broken = {rule for rule, outcome in outcomes.items() if outcome not in {"passed", "skipped"}}
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    faults = [f"{rule} is broken ({outcomes[rule]})" for rule in sorted(broken - KNOWN.keys())]
    faults += [f"{rule} is known as broken and is not any more: take it off the list" for rule in sorted(KNOWN.keys() - broken)]
    if passed < FEWEST_PASSED:
        faults.append(f"{passed} rules passed, {FEWEST_PASSED} should: columns are missing, or the report is not whole")
    return passed, faults


def check(environment: Path, file: Path, report: Path) -> bool:
    """Validate one file and tell what was found; whether all is well."""
    validate(environment, file, "--output-type", "unittest", "--output-destination", str(report))
    passed, faults = judged(report)
    print(f"{file.name}: {passed} rules of FOCUS 1.2 passed, {len(KNOWN)} known as broken, {len(faults)} faults")
    if faults:
        told = validate(environment, file, "--show-violations")
        print(told[told.find("--- Failures ---"):])
    for fault in faults:
        print(f"{file.name}: {fault}")
    return not faults


def main() -> int:
    environment, *named = (Path(argument) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        files = named or make_exports(directory)
        good = [check(environment, file, directory / f"{number}.xml") for number, file in enumerate(files)]
    for rule, reason in KNOWN.items():
        print(f"known: {rule}: {reason}.")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
