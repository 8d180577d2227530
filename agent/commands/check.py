"""``gpu-finops check``: validates a configuration and everything it names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from agent.clock import Clock, SystemClock
from agent.config.config import load
from exporters.webconfig import load_webconfig


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("check", help="validate a configuration and everything it names")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE",
                        help="by default the file that run would read")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F", help="the same")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, clock: Clock | None = None) -> int:
    """0: good, said on stdout. Raises ConfigError with every fault, which ``main`` tells, a line each."""
    config = load(options.file or options.config_file, now_ns=(clock or SystemClock()).utc_ns())
    if config.web.config_file is not None:
        load_webconfig(config.web.config_file)
    read = [*config.files, *config.data_files, *([config.web.config_file] if config.web.config_file else [])]
    sys.stdout.write(f"good: {', '.join(map(str, read))}\n" if read else "good: no file, built-in defaults\n")
    return 0
