"""What a ledger was when it was closed: a digest of its bytes, and its names and totals once more.

While nobody has it open, not a bit of the file may change. So a close leaves ``ledger.sqlite3.closed`` beside it, and the next
open compares: a bit that flips in between is found wherever it lies, and the totals are still told by two files. It is gone as
soon as the ledger is open, and there is none after a crash: then the seals in the file itself (seal.py) have to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent.ledger.seal import BY_NAME

_DIGEST_BYTES: Final = 32
MAX_BYTES: Final = 64 * 2**20                    # a larger ledger takes too long to read at a start
MAX_NOTE_BYTES: Final = 256 * 2**20

Tables = dict[str, list[tuple[Any, ...]]]


class AtRest(Struct, frozen=True):
    """``digest`` is that of all bytes of the file, empty for a large one; ``tables`` has the rows of seal.BY_NAME."""

    digest: bytes
    tables: Tables


def _place(path: Path) -> Path:
    return path.with_name(f"{path.name}.closed")


def tables_of(db: sqlite3.Connection) -> Tables:
    """The rows of every table of names and totals."""
    return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in BY_NAME}  # noqa: S608 - names from seal.py


def write_at_rest(path: Path, tables: Tables, most_bytes: int = MAX_BYTES) -> None:
    """Note a ledger that has just been closed, and what its tables were. One that is not in its file alone (a log lies beside
    it) is not noted. Raises OSError."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        return
    noted = msgspec.msgpack.encode(AtRest(_digest(path) if path.stat().st_size <= most_bytes else b"", tables))
    part = path.with_name(f"{path.name}.closed.part")
    with part.open("wb") as file:
        file.write(hashlib.blake2b(noted, digest_size=_DIGEST_BYTES).digest() + noted)
        file.flush()
        os.fsync(file.fileno())
    part.replace(_place(path))


def read_at_rest(path: Path) -> AtRest | None:
    """What was noted at the last close; None where nothing was, where the note itself is damaged, or where the ledger has been
    removed since: then the note goes too, and a new one begins."""
    if not path.exists():
        forget_at_rest(path)
    try:
        if _place(path).stat().st_size > MAX_NOTE_BYTES:
            return None
        read = _place(path).read_bytes()
        noted = read[_DIGEST_BYTES:]
        if read[:_DIGEST_BYTES] != hashlib.blake2b(noted, digest_size=_DIGEST_BYTES).digest():
            return None
        return msgspec.msgpack.decode(noted, type=AtRest)
    except (OSError, msgspec.MsgspecError):
        return None


def unchanged(path: Path, at_rest: AtRest) -> bool:
    """Whether every byte of a ledger whose digest was noted is as it was closed. Raises OSError."""
    return _digest(path) == at_rest.digest


def forget_at_rest(path: Path) -> None:
    """Remove the note, before a ledger is written to: so that no power cut brings it back. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        _place(path).unlink()
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).digest()
