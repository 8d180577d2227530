"""Whether a file has changed since it was read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Stamp = tuple[int, int, int] | None              # modification time, size, inode; None: it could not be looked at


def file_stamp(file: Path) -> Stamp:
    """Taken before reading, so that a change while reading is seen later."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def any_changed(stamps: Mapping[Path, Stamp]) -> bool:
    return any(file_stamp(file) != stamp for file, stamp in stamps.items())
