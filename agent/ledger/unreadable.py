"""Tells a disk that does not give a part of the ledger from a ledger that is damaged.

Of a page that the disk refuses (EIO) SQLite says what it says of one whose content is bad: malformed. So before a file counts
as damaged, all of it is read here, and what found the damage is done again (ledger.py, rescue.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LASTING_S: Final = 30.0                          # so long, that systemd's limit of ten starts in five minutes is not met
_FORMAT_AT: Final = 18
_PAGE_BYTES: Final = 4096
_CHUNK_PAGES: Final = 256
_MOST_PAGES: Final = 16                          # more: not a bad spot, but a disk that is gone

Pages = dict[tuple[str, int], int]               # by name and offset: the error


class UnreadableError(OSError):
    """A disk does not give a part of a ledger, and may in a while."""


def wait_a_while(seconds: float) -> None:
    """As a start does before it looks again; a daemon waits so that a signal can end it."""
    threading.Event().wait(seconds)


def not_without(fault: str) -> str:
    """Why a start is refused, and what to do."""
    return (f"{fault}, and without it the totals are not proven: copy the ledger to a good disk, "
            "or move it away to begin anew at zero")


class BadPages:
    """The pages of one ledger that its disk does not give, and whether that lasts."""

    def __init__(self, path: Path, patience_s: float = LASTING_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._pages: Pages = {}
        self._since_s = 0.0

    def look(self) -> str:
        """Read all of it, and of the log beside it: empty where that goes; in words, what the disk has refused since
        ``patience_s`` ago. Raises UnreadableError where it refuses something that it may give in a while, and OSError."""
        pages = unreadable(self._path)
        now_s = time.monotonic()
        if pages != self._pages:
            self._pages, self._since_s = pages, now_s
        if not pages:
            return ""
        (name, offset), error = next(iter(pages.items()))
        fault = f"the disk does not give byte {offset} of {name} ({os.strerror(error)})"
        if len(pages) > _MOST_PAGES or {*pages.values()} != {errno.EIO} or now_s - self._since_s < self._patience_s:
            raise UnreadableError(f"{fault}; it may be there again in a while: see what the kernel's log says of the disk")
        return fault


def unreadable(path: Path) -> Pages:
    """The pages of a ledger and its log that cannot be read; of more than a few, the first ones. Raises OSError where a file
    cannot be opened."""
    pages: Pages = {}
    with contextlib.suppress(FileNotFoundError):
        _read_through(_held(path), path.name, pages)
    with contextlib.suppress(FileNotFoundError), _opened(path.with_name(f"{path.name}-wal")) as log:
        _read_through(log, f"{path.name}-wal", pages)
    return pages


def has_format(path: Path) -> bool:
    """Whether the header's two format numbers are some that SQLite reads and writes. Raises OSError."""
    return {*os.pread(_held(path), 2, _FORMAT_AT)} <= {1, 2}


_descriptors: Final[dict[Path, tuple[tuple[int, int], int]]] = {}
_lock: Final = threading.Lock()


def _held(path: Path) -> int:
    """A descriptor of a ledger, held until ``let_go``: to close one is to drop every lock that SQLite has on the file for this
    process, whoever opened it."""
    with _lock:
        found = path.stat()
        identity = found.st_dev, found.st_ino
        known, descriptor = _descriptors.get(path, (None, -1))
        if known != identity:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if known is not None:                # set aside, or gone
                os.close(descriptor)
            descriptor = opened
            _descriptors[path] = identity, descriptor
        return descriptor


def let_go(path: Path) -> None:
    """A ledger is read here no more, and nothing of this process writes to it."""
    with _lock:
        _, descriptor = _descriptors.pop(path, (None, -1))
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_through(descriptor: int, name: str, pages: Pages) -> None:
    size = os.fstat(descriptor).st_size
    for chunk in range(0, size, _CHUNK_PAGES * _PAGE_BYTES):
        if _error_at(descriptor, chunk, _CHUNK_PAGES * _PAGE_BYTES) is None:
            continue
        for page in range(chunk, min(size, chunk + _CHUNK_PAGES * _PAGE_BYTES), _PAGE_BYTES):
            error = _error_at(descriptor, page, _PAGE_BYTES)
            if error is not None:
                pages[name, page] = error
            if len(pages) > _MOST_PAGES:
                return


def _error_at(descriptor: int, offset: int, size: int) -> int | None:
    try:
        os.pread(descriptor, size, offset)
    except OSError as error:
        return error.errno or errno.EIO
    return None
