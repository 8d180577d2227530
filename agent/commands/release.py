"""``gpu-finops release``: the daemon lets go of the driver, so that it can be upgraded, and goes on serving."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from agent.client.running_daemon import RELEASE, RunningDaemon
from agent.clock import SystemClock
from agent.config.config import load
from agent.errors import FinOpsError
from agent.units import NS_PER_MS, NS_PER_S
from agent.wake import WakePipe

PATIENCE_NS = 5 * NS_PER_S
LOOK_NS = 50 * NS_PER_MS


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("release", help="let go of the driver, so that it can be upgraded")
    add_daemon_options(parser)
    parser.set_defaults(run=run)


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which daemon is meant."""
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    parser.add_argument("--state.dir", dest="state_dir", type=Path, metavar="D")


def daemon_of(options: argparse.Namespace) -> RunningDaemon:
    """The daemon that keeps its ledger where the options or the configuration say."""
    config = load(options.config_file, {} if options.state_dir is None else {"state_dir": options.state_dir})
    return RunningDaemon(config.state_dir)


def run(options: argparse.Namespace) -> int:
    daemon = daemon_of(options)
    daemon.tell(RELEASE)
    clock, pause = SystemClock(), WakePipe()
    until_ns = clock.monotonic_ns() + PATIENCE_NS
    while daemon.children():
        if clock.monotonic_ns() > until_ns:
            held = ", ".join(map(str, daemon.children()))
            raise FinOpsError(
                f"the driver is still held by process {held}, stuck in the kernel; look at dmesg, a reboot frees it")
        pause.wait(LOOK_NS)
    pause.close()
    sys.stdout.write("released: the agent holds no GPU and serves on; after the upgrade, gpu-finops resume\n")
    return 0
