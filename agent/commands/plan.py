"""``gpu-finops plan``: total cost of ownership, break-even and what-if for a scenario file."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from agent.calendar.instants import parse_date_or_instant_ns
from agent.config.config import Config, load
from agent.errors import ConfigError, FinOpsError
from agent.ledger.query import LedgerReader
from agent.plan.hours import Run, cheapest_run, price_pieces
from agent.plan.outcome import compute
from agent.plan.reading import read_scenario
from agent.plan.report import as_table, document
from agent.plan.scenario import Estimate, Job, Scenario
from agent.tariffs.ruled import RuledTariff
from agent.toml.table import nearest
from agent.units import NANO, NS_PER_HOUR


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("plan", help="total cost of ownership, break-even and what-if for a scenario file")
    parser.add_argument("file", type=Path, metavar="FILE", help="the scenario, such as deploy/plan.toml")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F",
                        help="whose tariffs jobs name, and whose ledger has the actual costs")
    parser.add_argument("--state.dir", dest="state_dir", type=Path, metavar="D")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0: what the scenario expects is what its inputs give. 1: something is not; told on stderr, with its line."""
    scenario = read_scenario(options.file)
    config: Config | None = None
    if scenario.jobs or any(estimate.actual is None for estimate in scenario.estimates):
        config = load(options.config_file, {} if options.state_dir is None else {"state_dir": options.state_dir})
    actuals = tuple(_actual(estimate, scenario, config) for estimate in scenario.estimates)
    tariffs = [_tariff(job, scenario, config) for job in scenario.jobs]
    runs = tuple(_cheapest(job, tariff, scenario) for job, tariff in zip(scenario.jobs, tariffs, strict=True))
    outcome = compute(scenario, actuals, runs)
    zones = [ZoneInfo(tariff.timezone) for tariff in tariffs]
    if options.json:
        encoder = msgspec.json.Encoder(decimal_format="number")
        sys.stdout.write(msgspec.json.format(encoder.encode(document(outcome, zones)), indent=2).decode() + "\n")
    else:
        sys.stdout.write(as_table(outcome, zones))
    faults = outcome.faults()
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


def _fault(scenario: Scenario, entry: Job | Estimate, key: str, sentence: str) -> ConfigError:
    return ConfigError([f"{scenario.file}:{entry.place.line}: {entry.place.key}.{key}: {sentence}"])


def _span(scenario: Scenario, entry: Job | Estimate, prefix: str, texts: tuple[str, str], zone: ZoneInfo) -> tuple[int, int]:
    moments = []
    for key, text in zip(("from", "to"), texts, strict=True):
        try:
            moments.append(parse_date_or_instant_ns(text, zone))
        except ValueError as error:
            sentence = f"is {text!r}, which {error}, or as a local date such as 2026-07-15"
            raise _fault(scenario, entry, prefix + key, sentence) from error
    if moments[0] >= moments[1]:
        raise _fault(scenario, entry, f"{prefix}to", f"is {texts[1]}, not after from; the span is half-open")
    return moments[0], moments[1]


def _actual(estimate: Estimate, scenario: Scenario, config: Config | None) -> Fraction:
    """What is given, or what the ledger has in the scenario's currency for the tags that match."""
    if estimate.actual is not None or config is None:
        return estimate.actual or Fraction(0)
    zone = ZoneInfo(config.timezone)
    from_ns, to_ns = _span(scenario, estimate, "actual.", (estimate.ledger_from, estimate.ledger_to), zone)
    for key in estimate.match:
        if key not in config.tags.keys:
            sentence = f"is not one of tags.keys; {nearest(key, config.tags.keys)}"
            raise _fault(scenario, estimate, f"actual.match.{key}", sentence)
    reader = LedgerReader(config.state_dir)
    try:
        rows = reader.usage(from_ns, to_ns, list(estimate.match), config.tags.keys, zone)
    finally:
        reader.close()
    costs = [row.cost_nano for row in rows if row.currency == scenario.currency
             and all(fnmatchcase(value, glob) for value, glob in zip(row.keys, estimate.match.values(), strict=True))]
    if not costs:
        place = f"{scenario.file}:{estimate.place.line}: {estimate.place.key}.actual"
        raise FinOpsError(f"{place}: the ledger in {config.state_dir} "
                          f"has no cost in {scenario.currency} for this from {estimate.ledger_from} to {estimate.ledger_to}; "
                          "choose a time that it covers, or give the amount")
    return Fraction(sum(costs), NANO)


def _tariff(job: Job, scenario: Scenario, config: Config | None) -> RuledTariff:
    tariffs = config.tariffs if config is not None else {}
    tariff = tariffs.get(job.tariff)
    if tariff is None:
        there = nearest(job.tariff, tariffs) if tariffs else "the configuration has no tariffs; name one with --config.file"
        raise _fault(scenario, job, "tariff", f"is {job.tariff!r}, which is not in the configuration; {there}")
    if tariff.currency != scenario.currency:
        raise _fault(scenario, job, "tariff", f"is in {tariff.currency} and the scenario in {scenario.currency}; there are no "
                                              "exchange rates, write a scenario for each currency")
    return tariff


def _cheapest(job: Job, tariff: RuledTariff, scenario: Scenario) -> Run:
    from_ns, to_ns = _span(scenario, job, "", (job.start, job.end), ZoneInfo(tariff.timezone))
    duration_ns = max(1, round(job.kwh / job.kw * NS_PER_HOUR))
    found = cheapest_run(price_pieces(tariff, from_ns, to_ns), duration_ns, job.kw, job.interruptible)
    if found is None:
        whole = "" if job.interruptible else " in one piece"
        raise _fault(scenario, job, "to", f"leaves too little time with a known price: the job takes "
                                          f"{float(job.kwh / job.kw):g} h{whole}; give it more, or more kw")
    return Run(found.pieces, found.cost * job.kwh * NS_PER_HOUR / (job.kw * found.duration_ns))
