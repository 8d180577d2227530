"""The ledger as a FOCUS dataset: for ``gpu-finops report --format focus`` from the file, and for ``/api/v1/focus``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import chain, islice
from typing import Any, cast
from zoneinfo import ZoneInfo

from agent.clock import Clock, SystemClock
from agent.config.config import Config
from agent.errors import UsageError
from agent.ledger.focus import ChargeRow, charge_rows
from agent.ledger.query import parse_instant
from agent.pricing.pricebook import SPOT
from agent.tariffs.series import SeriesRate
from exporters.focus import Account, focus_rows
from exporters.focus_files import csv_pieces


class FocusApi:
    """Answers one question at a time, on a thread of the server's. Raises FinOpsError with a sentence for the asker."""

    def __init__(self, config: Callable[[], Config], clock: Clock | None = None) -> None:
        """``config`` gives the configuration as it is now."""
        self._config = config
        self._clock = clock or SystemClock()

    def __call__(self, query: Mapping[str, str]) -> Generator[bytes, None, None]:
        """The CSV in pieces. ``from``, ``to``: dates in the site's timezone or instants. One state of the ledger, read while it
        is asked for; memory is bounded by an hour's rows."""
        config = self._config()
        zone = ZoneInfo(config.timezone)
        from_ns = parse_instant(query["from"], zone) if query.get("from") else None
        to_ns = parse_instant(query["to"], zone) if query.get("to") else None
        if from_ns is not None and to_ns is not None and from_ns >= to_ns:
            raise UsageError(f"from {query['from']} is not before to {query['to']}; the second is not included")
        with ledger_rows(config, from_ns, to_ns, self._clock.utc_ns()) as rows:
            for piece in csv_pieces(rows):
                yield piece.encode()


@contextlib.contextmanager
def ledger_rows(config: Config, from_ns: int | None, to_ns: int | None, now_ns: int) -> Iterator[Iterator[dict[str, Any]]]:
    """The rows of the configured ledger. Raises LedgerError at once where it cannot be read."""
    charges = charge_rows(config.state_dir, from_ns, to_ns, ZoneInfo(config.timezone))
    with contextlib.closing(cast("Generator[ChargeRow, None, None]", charges)):
        rows = focus_rows(charges, account_of(config, now_ns))
        yield chain(list(islice(rows, 1)), rows)


def account_of(config: Config, now_ns: int) -> Account:
    """Who charges, as the configuration says."""
    tariff = config.tariff
    currency = tariff.currency if tariff is not None else next((h.currency for h in config.hardware if h.currency), "")
    dynamic = {(t.name, name) for t in config.tariffs.values() for version in t.versions
               for name, rate in version.rates.items() if isinstance(rate, SeriesRate)}
    dynamic.add(("", SPOT))
    return Account(site=config.site.name, tag_keys=config.tags.keys, currency=currency, now_ns=now_ns, dynamic=dynamic)
