"""Standard input, output and error as a command may find them: closed, full, a pipe whose reader has gone, not UTF-8."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Final

_MODES: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed_streams() -> None:
    """Put something in the place of a stream that the caller closed: else the next file that is opened, the ledger say,
    takes its number, and what is printed would go there. Writing to what stands for standard output fails, as it should."""
    for number, (name, mode) in enumerate(_MODES):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")     # a file's name may hold bytes that are no text


def flush_output() -> None:
    """Hand over what was printed. Raises OSError where nobody takes it; nothing is tried again at the end then."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()
        raise


def drop_output() -> None:
    """Let what cannot be printed go, so that the interpreter's end does not stumble over it."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
