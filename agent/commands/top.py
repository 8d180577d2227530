"""``gpu-finops top``: a running daemon's costs, live in the terminal."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

from agent.calendar.durations import parse_duration_ns
from agent.client.connection import url_of
from agent.client.snapshot import SnapshotClient
from agent.config.config import load
from agent.errors import FinOpsError, UsageError
from agent.top_screen import fit, screen
from agent.units import NS_PER_MS
from agent.wake import WakePipe

_ENTER: Final = "\x1b[?1049h\x1b[?25l"           # the alternate screen, without a cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE = "\x1b[H", "\x1b[K"
_ONCE_SIZE: Final = (200, 10_000)                # for a pipe or a file: whole


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("top", help="live view in the terminal; ends with Ctrl-C")
    parser.add_argument("--url", metavar="URL", help="the daemon's address; default $GPU_FINOPS_URL, else the configuration's")
    parser.add_argument("--ca.file", dest="ca_file", type=Path, metavar="F", help="who signed its certificate, PEM")
    parser.add_argument("--interval", default="2s", metavar="D", help="between two looks; default 2s")
    parser.add_argument("--once", action="store_true", help="one look, as plain text")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        interval_ns = parse_duration_ns(options.interval)
    except ValueError as error:
        raise UsageError(f"--interval {error}; write a duration such as 2s") from error
    if interval_ns < 100 * NS_PER_MS:
        raise UsageError(f"--interval {options.interval} is too short; write 100ms or more")
    url = options.url or os.environ.get("GPU_FINOPS_URL") or url_of(load(options.config_file).web)
    client = SnapshotClient(url, options.ca_file)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")     # a screen for people: a terminal without the sign for a degree shows it
    if options.once:
        sys.stdout.write("\n".join(screen(client.ask(), *_ONCE_SIZE)) + "\n")
        return 0
    if not sys.stdout.isatty():
        raise UsageError("standard output is no terminal; add --once for one look as plain text")
    return _live(client, interval_ns)


def _live(client: SnapshotClient, interval_ns: int) -> int:
    """Until Ctrl-C or SIGTERM. The terminal is left as it was found."""
    resized = WakePipe()

    def redraw(signum: int, frame: FrameType | None) -> None:
        resized.wake()

    def end(signum: int, frame: FrameType | None) -> None:
        ending.append(signum)                        # Python drops what is raised while an object is freed
        raise KeyboardInterrupt

    ending: list[int] = []
    signal.signal(signal.SIGWINCH, redraw)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    sys.stdout.write(_ENTER)
    try:
        while not ending:
            _draw(client)
            resized.wait(interval_ns)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        resized.close()
    return 0


def _draw(client: SnapshotClient) -> None:
    columns, lines = shutil.get_terminal_size()
    try:
        shown = screen(client.ask(), columns, lines)
    except FinOpsError as error:
        shown = [fit(f"gpu-finops: {error}", columns)]
    # Cleared before it is written: a terminal whose last column is taken would clear that one.
    rows = [*shown, *[""] * (lines - len(shown))][:lines]
    sys.stdout.write(_HOME + "\n".join(_CLEAR_LINE + row for row in rows) + _HOME)
    sys.stdout.flush()
