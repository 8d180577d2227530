"""``gpu-finops record FILE``: writes down what the probe reads, to be played back with ``run --source replay``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from agent.calendar.durations import parse_duration_ns
from agent.clock import SystemClock
from agent.commands.run import add_source_options, source_of
from agent.config.config import load
from agent.errors import SourceEnded, UsageError
from agent.files.printable import printable
from agent.probe import Probe
from agent.sources.recording import Recorder
from agent.wake import WakePipe


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("record", help="record what the probe reads")
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file; compressed where the name ends in .gz")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    parser.add_argument("--duration", metavar="D", help="stop after this long, as 10m; default: at Ctrl-C")
    add_source_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    config = load(options.config_file, {})
    clock = SystemClock()
    wake = WakePipe()
    stopping: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    duration_ns = _duration_ns(options.duration) if options.duration else None
    probe = Probe(*source_of(options, config.tags.keys), clock)
    recorder = Recorder(options.file)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.set_wakeup_fd(wake.writer, warn_on_full_buffer=False)
    due_ns = clock.monotonic_ns()
    until_ns = due_ns + duration_ns if duration_ns is not None else None
    readings = 0
    try:
        probe.start()
        while not stopping and (until_ns is None or due_ns <= until_ns):
            try:
                reading = probe.read()
            except SourceEnded:
                break
            if reading is not None:
                recorder.write(reading)
                readings += 1
            due_ns += config.interval_ns
            while not stopping and (left_ns := due_ns - clock.monotonic_ns()) > 0:
                wake.wait(left_ns)
    finally:
        recorder.close()
        if not readings:
            options.file.unlink(missing_ok=True)         # empty, and made by us
        probe.close()
        signal.set_wakeup_fd(-1)
        wake.close()
    sys.stderr.write(f"{readings} readings in {printable(str(options.file))}\n" if readings else
                     "no reading was taken; nothing is recorded\n")
    return 0


def _duration_ns(text: str) -> int:
    try:
        return parse_duration_ns(text)
    except ValueError as error:
        raise UsageError(f"--duration: {error}; write it as 10m or 90s") from error
