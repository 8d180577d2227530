"""``gpu-finops rerate``: prices a past period again with the tariffs now configured, as corrections beside what was booked.

Energy, and the host where it was priced by its power. Host rows at a price of 0 tell no energy: they stay as they are."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent.calendar.instants import format_instant
from agent.client.running_daemon import NoDaemonError, RunningDaemon
from agent.clock import SystemClock
from agent.config.config import Config, load
from agent.errors import FinOpsError, LedgerError, UsageError
from agent.files.printable import printable
from agent.ledger.file import Beside, SetAsideError, is_damage, ledger_path
from agent.ledger.query import open_for_reading, parse_instant
from agent.ledger.rerate import Difference, Rerating, used_before
from agent.model import FOREVER_NS
from agent.pricing.pricebook import price_device
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.units import NANO


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "rerate", help="price a past period again with the tariffs now configured",
        description="Prices energy, and a host by power, again with the tariffs now configured. What has a price of its own "
                    "stays (hardware, maintenance, rent, a host by price_per_hour), and so do host rows at a price of 0, which "
                    "tell no energy.")
    parser.add_argument("--from", dest="start", required=True, metavar="A",
                        help="a date in the site's timezone, or an instant with offset")
    parser.add_argument("--to", dest="end", required=True, metavar="B", help="the same; not included")
    parser.add_argument("--dry-run", dest="dry_run", action="store_true", help="print the difference, write nothing")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    parser.add_argument("--state.dir", dest="state_dir", type=Path, metavar="D")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    config = load(options.config_file, {} if options.state_dir is None else {"state_dir": options.state_dir})
    if config.tariff is None:
        raise UsageError("no site.tariff is configured, so there is no price to rate with; set it in [site]")
    zone = ZoneInfo(config.timezone)
    from_ns, to_ns = parse_instant(options.start, zone), parse_instant(options.end, zone)
    if from_ns >= to_ns:
        raise UsageError(f"--from {options.start} is not before --to {options.end}; the second date is not included")
    now_ns = SystemClock().utc_ns()
    written_ns = _written_until(config.state_dir, now_ns)
    path = ledger_path(config.state_dir)

    def rented(name: str) -> bool:
        return price_device(name, config.hardware, "").rented

    try:
        with contextlib.closing(open_for_reading(config.state_dir)) as db:
            differences = Rerating(db, _pricing(config, db, from_ns), rented).look(from_ns, min(to_ns, written_ns))
        sys.stdout.write(table(differences, config.tags.keys))
        if written_ns < min(to_ns, now_ns):
            sys.stdout.write(f"Left out: from {format_instant(written_ns, zone)} on, which the daemon is still writing.\n")
        if options.dry_run or all(d.booked_nano == d.rerated_nano for d in differences):
            sys.stdout.write("Nothing written.\n")
            return 0
        sys.stdout.flush()
        with contextlib.closing(Beside(path, timeout_s=30.0)) as beside:
            Rerating(beside.db, _pricing(config, beside.db, from_ns), rented).write(
                from_ns, min(to_ns, written_ns), now_ns, beside.transaction)
    except SetAsideError as error:
        raise LedgerError(f"{error}; do it again: the new one goes on with what was in it") from error
    except (sqlite3.Error, OSError) as error:
        instead = "run this as the user that runs the daemon, or as root,"
        if isinstance(error, sqlite3.Error) and is_damage(error, path):
            instead = "have the daemon set it aside, which it does within the hour and at its start,"
        raise LedgerError(
            f"{path}: {error}; {instead} and do it again: what is written already is not written twice") from error
    sys.stdout.write("Written as corrections.\n")
    return 0


def _written_until(state_dir: Path, now_ns: int) -> int:
    """Up to where rows are whole: the present quarter of an hour and the one before are still added to while a daemon runs."""
    try:
        RunningDaemon(state_dir)
    except NoDaemonError:
        return FOREVER_NS
    except FinOpsError:                          # may not be told
        pass
    return now_ns - now_ns % BUCKET_NS - BUCKET_NS


def _pricing(config: Config, db: sqlite3.Connection, from_ns: int) -> Pricing:
    return Pricing(config.tariff, config.site.tariff or "", config.site.pue, (), None, {},
                   config.used_mj(used_before(db, from_ns)))


def table(differences: Sequence[Difference], tag_keys: Sequence[str]) -> str:
    """Booked, rated again and the difference, by project (or the first tag key) and currency."""
    at = tag_keys.index("project") if "project" in tag_keys else 0
    sums: dict[tuple[str, str], list[int]] = {}
    for difference in differences:
        key = (difference.workload[at] if at < len(difference.workload) else "", difference.currency)
        amounts = sums.setdefault(key, [0, 0])
        amounts[0] += difference.booked_nano
        amounts[1] += difference.rerated_nano
    rows = [[printable(project), *(f"{nano / NANO:,.4f}" for nano in (booked, rerated)), f"{(rerated - booked) / NANO:+,.4f}",
             currency or "(no price)"] for (project, currency), (booked, rerated) in sorted(sums.items())]
    header = [tag_keys[at], "booked", "rated again", "difference", ""]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) if i in {0, 4} else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in [header, *rows]]
    return "\n".join(lines) + "\n"
