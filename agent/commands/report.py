"""``gpu-finops report``: costs from the ledger, through its daemon while one runs."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent.client.usage import ask_usage
from agent.commands.ledger_reading import add_daemon_arguments, read_ledger
from agent.config.config import load
from agent.errors import FinOpsError, UsageError
from agent.files.outputs import write_output
from agent.idle_policy import POLICIES, usage_with_idle
from agent.ledger.query import LedgerReader, UsageRow, parse_instant
from agent.report import FORMATS


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="costs from the ledger")
    parser.add_argument("--from", dest="start", metavar="A", help="a date in the site's timezone, or an instant with offset")
    parser.add_argument("--to", dest="end", metavar="B", help="the same; not included")
    parser.add_argument("--by", metavar="KEYS",
                        help="tag keys, gpu, component, rate, tariff, correction, day, month; joined by commas")
    parser.add_argument("--idle-policy", choices=POLICIES, help="who bears idle cost in cost_with_idle; default: idle.policy")
    parser.add_argument("--format", choices=sorted([*FORMATS, "focus"]), default="table",
                        help="focus: FOCUS 1.2, CSV, or Parquet where -o ends in .parquet")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    parser.add_argument("--state.dir", dest="state_dir", type=Path, metavar="D")
    add_daemon_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    config = load(options.config_file, {} if options.state_dir is None else {"state_dir": options.state_dir})
    zone = ZoneInfo(config.timezone)
    from_ns = parse_instant(options.start, zone) if options.start is not None else None
    to_ns = parse_instant(options.end, zone) if options.end is not None else None
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise UsageError(f"--from {options.start} is not before --to {options.end}; the second is not included")
    if options.format == "focus":
        if options.by or options.idle_policy:
            raise UsageError("--format focus has its own rows and no shared idle cost; leave --by and --idle-policy out")
        from agent.commands.focus_export import export  # noqa: PLC0415 - it brings the exporters, which no other format needs
        export(config, options, from_ns, to_ns)
        return 0

    def read() -> tuple[list[str], list[UsageRow]]:
        by = [key for key in (options.by or config.tags.keys[0]).split(",") if key]
        with contextlib.closing(LedgerReader(config.state_dir)) as reader:
            policy = options.idle_policy or config.idle.policy
            return by, usage_with_idle(reader, from_ns, to_ns, by, config.tags.keys, zone, policy)

    query = {"from": options.start, "to": options.end, "by": options.by, "idle_policy": options.idle_policy}
    by, rows = read_ledger(config, options, lambda client: ask_usage(client, query), read)
    text = FORMATS[options.format](rows, by)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    try:
        write_output(options.output, text)
    except OSError as error:
        raise FinOpsError(f"{options.output}: cannot be written ({error.strerror}); choose another file with -o") from error
    return 0
