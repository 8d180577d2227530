"""Which way a command reads the ledger: through the daemon that holds it, or from its file. Both give the same."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.client.connection import DaemonClient, DaemonError, url_of
from agent.client.running_daemon import NoDaemonError, RunningDaemon
from agent.config.config import Config
from agent.errors import FinOpsError, LedgerError, UsageError

Found = TypeVar("Found")


def add_daemon_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name a daemon to ask."""
    parser.add_argument("--url", metavar="URL", help="ask the daemon at this address, as http://HOST:PORT; default "
                                                     "$GPU_FINOPS_URL, else the one that holds the ledger")
    parser.add_argument("--ca.file", dest="ca_file", type=Path, metavar="F", help="who signed its certificate, PEM")


def read_ledger(config: Config, options: argparse.Namespace, ask: Callable[[DaemonClient], Found],
                read: Callable[[], Found]) -> Found:
    """What ``ask`` gets from the daemon, or ``read`` from the file.

    A daemon that was named is asked and no other place. Else the one that holds the directory; where it cannot be asked, the
    file is read, and stderr told why, unless it is only that a password or a certificate is wanted. Where nobody holds the
    directory the file is read; and only where it is not there and nobody said where the ledger is, the configured address is
    asked, and stderr told so: a daemon that answers there may keep another one.
    """
    if options.url and options.state_dir is not None:
        raise UsageError("--url asks a daemon and --state.dir names a ledger; give one of them")
    if options.url:
        return ask(DaemonClient(options.url, options.ca_file))
    environ = os.environ.get("GPU_FINOPS_URL", "")
    if environ and options.state_dir is None:
        try:
            return ask(DaemonClient(environ, options.ca_file))
        except DaemonError as error:
            raise DaemonError(error.reason, f"{error.advice}, or unset $GPU_FINOPS_URL to read the ledger in "
                                            f"{config.state_dir}") from error
    try:
        url = RunningDaemon(config.state_dir).url
    except NoDaemonError:
        return _file_first(config, options, ask, read)
    except FinOpsError:                          # another user's, who may be running a daemon
        url = ""
    try:
        return ask(_client(url, config, options))
    except DaemonError as unasked:
        try:
            found = read()
        except LedgerError as unreadable:
            raise LedgerError(f"{unasked}; nor can its ledger be read without it ({unreadable})") from unreadable
        if not unasked.closed:
            print(f"gpu-finops: {unasked.reason}; the figures are from the ledger's file", file=sys.stderr)
        return found


def _file_first(config: Config, options: argparse.Namespace, ask: Callable[[DaemonClient], Found],
                read: Callable[[], Found]) -> Found:
    try:
        return read()
    except LedgerError as unreadable:
        if config.state_dir_given:
            raise
        try:
            client = _client("", config, options)
            found = ask(client)
        except DaemonError as unasked:
            raise LedgerError(f"{unreadable} (and {unasked.reason})") from unreadable
        print(f"gpu-finops: no ledger in {config.state_dir}; the figures are those of the daemon at {client.place}",
              file=sys.stderr)
        return found


def _client(url: str, config: Config, options: argparse.Namespace) -> DaemonClient:
    """Of the address that a daemon has left, else of the configured one."""
    if not url and config.web.config_file is not None:
        raise DaemonError(f"{config.web.config_file} protects the daemon", "give its address as --url https://HOST:PORT, or "
                          "with a name and a password in $GPU_FINOPS_URL as https://NAME:PASSWORD@HOST:PORT", closed=True)
    return DaemonClient(url or url_of(config.web), options.ca_file)
