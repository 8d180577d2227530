"""``gpu-finops report --format focus``: the ledger as a FOCUS dataset."""

from __future__ import annotations

import datetime as dt
import sys
from itertools import chain, islice
from pathlib import Path
from zoneinfo import ZoneInfo

from agent import __version__
from agent.clock import Clock, SystemClock
from agent.config.config import Config
from agent.ledger.focus import charge_rows
from agent.pricing.pricebook import SPOT
from agent.tariffs.series import SeriesRate
from agent.units import NS_PER_S
from exporters.focus import Account, focus_rows
from exporters.focus_files import write_csv, write_files


def export_focus(config: Config, from_ns: int | None, to_ns: int | None, output: Path | None,
                 clock: Clock | None = None) -> None:
    """To a file with its metadata, or as CSV to stdout. Raises FinOpsError."""
    now_ns = (clock or SystemClock()).utc_ns()
    rows = focus_rows(charge_rows(config.state_dir, from_ns, to_ns, ZoneInfo(config.timezone)), account_of(config, now_ns))
    rows = chain(list(islice(rows, 1)), rows)    # a ledger that cannot be read is told before a header is written
    if output is None:
        write_csv(sys.stdout, rows)
    else:
        write_files(output, rows, dt.datetime.fromtimestamp(now_ns // NS_PER_S, dt.UTC), __version__)


def account_of(config: Config, now_ns: int) -> Account:
    """Who charges, as the configuration says."""
    tariff = config.tariff
    currency = tariff.currency if tariff is not None else next((h.currency for h in config.hardware if h.currency), "")
    dynamic = {(t.name, name) for t in config.tariffs.values() for version in t.versions
               for name, rate in version.rates.items() if isinstance(rate, SeriesRate)}
    dynamic.add(("", SPOT))
    return Account(site=config.site.name, tag_keys=config.tags.keys, currency=currency, now_ns=now_ns, dynamic=dynamic)
