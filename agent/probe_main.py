"""The probe process: holds a source, answers the daemon line by line, and ends when the daemon does.

``python -m agent.probe_main SOURCE OPTIONS-AS-JSON``. The first line it writes is ``Opened`` or ``Trouble``; then each line
it reads is a sequence number, and each line it writes the Reading of that number, or ``Trouble``, after which it ends.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from typing import BinaryIO

import msgspec
from msgspec import Struct

from agent.errors import ConfigError, FinOpsError, SourceEnded, UsageError
from agent.sources import open_source

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Opened(Struct, frozen=True):
    """The source is open."""

    opened: bool = True


class Trouble(Struct, frozen=True):
    """Instead of a reading: the sentence for the operator. ``kind`` is source (a failure), ended (a finite source) or
    config (the source was told what cannot be)."""

    error: str
    kind: str = "source"


def serve(source_name: str, options: dict[str, object], requests: BinaryIO, replies: BinaryIO) -> int:
    """Answer until the daemon closes the pipe. The status to exit with: 0, or 1 after a failure of the source."""
    encoder = msgspec.json.Encoder()

    def reply(record: object) -> None:
        replies.write(encoder.encode(record) + b"\n")
        replies.flush()

    try:
        source = open_source(source_name, options)
    except FinOpsError as error:
        reply(Trouble(str(error), kind="config" if isinstance(error, ConfigError | UsageError) else "source"))
        return 1
    try:
        _settle()
        reply(Opened())
        for line in requests:
            reply(source.read(int(line)))
    except SourceEnded as ended:
        reply(Trouble(str(ended), kind="ended"))
    except FinOpsError as error:
        reply(Trouble(str(error)))
        return 1
    finally:
        source.close()
    return 0


def _settle() -> None:
    """Give back the memory that importing took, which is twice what stays where no bytecode was cached."""
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):                       # glibc
        libc.malloc_trim(0)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the daemon on descriptors of their own: what a driver library prints goes to stderr, not into a reply."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def main(arguments: list[str]) -> int:
    # The daemon says when to end, by closing the pipe: a signal to the whole control group or terminal is meant for it,
    # and its last tick still wants a reading. When it dies the kernel ends this process, unless the driver holds it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"finops-probe", 0, 0, 0)     # what ps and top show
    requests, replies = _private_pipes()
    try:
        return serve(arguments[0], msgspec.json.decode(arguments[1]), requests, replies)
    except BrokenPipeError:
        return 0                                           # the daemon has gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
