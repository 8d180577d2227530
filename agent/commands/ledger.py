"""``gpu-finops ledger backup FILE`` and ``gpu-finops ledger verify``: beside a running daemon or without one."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import Any

from agent.config.config import load
from agent.errors import UsageError
from agent.files.inputs import is_file
from agent.ledger.backup import back_up
from agent.ledger.file import ledger_path
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ledger", help="back the ledger up; verify its sums")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    backup = actions.add_parser("backup", help="copy the ledger as it stands now to a file; the daemon may run")
    backup.add_argument("file", type=Path, metavar="FILE", help="replaced where it exists")
    backup.set_defaults(run=run, act=_backup)
    check = actions.add_parser("verify", help="recompute every total from its rows; 1 and what differs, where it does")
    check.set_defaults(run=run, act=_verify)
    for action in (backup, check):
        action.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
        action.add_argument("--state.dir", dest="state_dir", type=Path, metavar="D")


def run(options: argparse.Namespace) -> int:
    config = load(options.config_file, {} if options.state_dir is None else {"state_dir": options.state_dir})
    with contextlib.closing(open_for_reading(config.state_dir)) as db:
        status: int = options.act(db, ledger_path(config.state_dir), options)
    return status


def _backup(db: sqlite3.Connection, path: Path, options: argparse.Namespace) -> int:
    if is_file(options.file) and options.file.samefile(path):
        raise UsageError(f"{options.file} is the ledger itself; copy it to another file")
    back_up(db, options.file)
    print(f"{path} copied to {options.file}")
    return 0


def _verify(db: sqlite3.Connection, path: Path, options: argparse.Namespace) -> int:
    faults = verify(db)
    for fault in faults:
        print(f"{path}: {fault}", file=sys.stderr)
    if faults:
        print(f"{path}: not good; keep this file, and restore a backup or go on with a new ledger", file=sys.stderr)
        return 1
    print(f"{path}: good: every total is the sum of its rows")
    return 0
