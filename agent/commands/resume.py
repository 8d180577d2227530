"""``gpu-finops resume``: the daemon takes the driver up again after a release."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from agent.client.running_daemon import RESUME
from agent.commands.release import add_daemon_options, daemon_of


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("resume", help="take the driver up again after a release")
    add_daemon_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    daemon_of(options).tell(RESUME)
    sys.stdout.write("resumed: finops_agent_probe_up is 1 once the driver answers\n")
    return 0
