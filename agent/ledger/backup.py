"""A copy of a ledger as it stands at one moment, made beside a running daemon."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from agent.errors import LedgerError
from agent.files.outputs import replaceable
from agent.ledger.file import quick_check


def back_up(source: sqlite3.Connection, target: Path) -> None:
    """Copy the ledger to a file of its own: checked, on the disk, readable by its owner only, and there whole or not at all.

    A file of that name is replaced. The daemon goes on committing meanwhile: all pages are of one moment. Raises LedgerError.
    """
    try:
        target = replaceable(target)
    except OSError as error:
        raise LedgerError(f"{target}: cannot be written ({error.strerror}); choose another place for the backup") from error
    part = target.with_name(f".{target.name[:200]}.part-{os.getpid()}")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")     # one file, without a log beside it
            quick_check(copy)
        _flush(part, os.O_RDONLY)
        part.rename(target)
        _flush(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LedgerError(f"{target}: cannot be written ({error.strerror}); choose another place for the backup") from error
    except sqlite3.Error as error:
        raise LedgerError(f"{target}: the backup failed ({error}); nothing was replaced") from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
