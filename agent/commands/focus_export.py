"""``gpu-finops report --format focus``: the ledger as a FOCUS dataset."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import __version__
from agent.api.focus import ledger_rows
from agent.client.connection import DaemonClient, DaemonError
from agent.client.usage import OTHER_VERSION, ask_focus
from agent.clock import Clock, SystemClock
from agent.commands.ledger_reading import read_ledger
from agent.config.config import Config
from agent.errors import FinOpsError
from agent.units import NS_PER_S
from exporters.focus_files import FocusTextError, header_line, rows_of_csv, write_csv, write_files


def export(config: Config, options: argparse.Namespace, from_ns: int | None, to_ns: int | None) -> None:
    """Through the daemon or from the file, as ``options`` say. Raises FinOpsError."""
    query = {"from": options.start, "to": options.end}
    read_ledger(config, options, lambda client: ask_for_focus(client, query, options.output),
                lambda: export_focus(config, from_ns, to_ns, options.output))


def export_focus(config: Config, from_ns: int | None, to_ns: int | None, output: Path | None,
                 clock: Clock | None = None) -> None:
    """From the file: to another with its metadata, or as CSV to stdout. Raises FinOpsError."""
    now_ns = (clock or SystemClock()).utc_ns()
    with ledger_rows(config, from_ns, to_ns, now_ns) as rows:
        if output is None:
            write_csv(sys.stdout, rows)
        else:
            _write(output, rows, now_ns)


def ask_for_focus(client: DaemonClient, query: dict[str, str | None], output: Path | None) -> None:
    """From a daemon, byte for byte the same. Raises DaemonError as long as nothing is written, and FinOpsError."""
    with ask_focus(client, query) as lines:
        if output is not None:
            _write(output, _rows(lines, client.place), SystemClock().utc_ns())
            return
        header = next(lines, "")
        if header != header_line():
            raise _other(client.place)
        sys.stdout.write(header)
        try:
            sys.stdout.writelines(lines)
        except DaemonError as error:
            raise FinOpsError(f"the daemon at {client.place} broke off, so what is written is not whole; do it again, with "
                              "-o FILE to have it whole or not at all") from error


def _write(output: Path, rows: Iterator[dict[str, Any]], now_ns: int) -> None:
    write_files(output, rows, dt.datetime.fromtimestamp(now_ns // NS_PER_S, dt.UTC), __version__)


def _rows(lines: Iterator[str], place: str) -> Iterator[dict[str, Any]]:
    try:
        yield from rows_of_csv(lines)
    except (FocusTextError, csv.Error) as error:
        raise _other(place) from error


def _other(place: str) -> DaemonError:
    return DaemonError(f"what answers at {place} is no gpu-finops of this version", OTHER_VERSION)
