"""Opens files that are read whole: a file of a sane size, never something that has no end or keeps its reader waiting."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

MOST_BYTES: Final = 64 * 2**20       # of a configuration, a price series, a tariff to import: all of them far smaller
_NULL_DEVICE: Final = os.makedev(1, 3)           # /dev/null, wherever it is: an empty file


def open_input(file: Path, most_bytes: int | None = MOST_BYTES) -> BinaryIO:
    """A file opened for reading. Raises OSError, whose ``strerror`` says what it is instead: a directory, a device, a named
    pipe, more than ``most_bytes``. Good too: what a shell hands over (``<(command)``, /dev/stdin), and /dev/null."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)     # nobody may write to a pipe
    try:
        _check(descriptor, file, most_bytes)
        os.set_blocking(descriptor, True)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_input(file: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """What is in such a file. Raises OSError."""
    with open_input(file, most_bytes) as opened:
        data = opened.read(most_bytes + 1)           # what a shell hands over does not say how much it is
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, _too_large(most_bytes), str(file))
    return data


def is_file(file: Path) -> bool:
    """Whether there is a file of that name, where it can be looked for at all."""
    try:
        return file.is_file()
    except (OSError, ValueError):                    # a directory that may not be entered, a name that is too long
        return False


def _check(descriptor: int, file: Path, most_bytes: int | None) -> None:
    status = os.fstat(descriptor)
    mode = status.st_mode
    if stat.S_ISREG(mode):
        if most_bytes is not None and status.st_size > most_bytes:
            raise OSError(errno.EFBIG, _too_large(most_bytes), str(file))
    elif stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    elif stat.S_ISFIFO(mode):
        if not str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:"):
            raise OSError(errno.EINVAL, "it is a named pipe, not a file", str(file))
    elif not (os.isatty(descriptor) or status.st_rdev == _NULL_DEVICE):
        raise OSError(errno.EINVAL, "it is a device, not a file", str(file))


def _too_large(most_bytes: int) -> str:
    return f"it is larger than {most_bytes >> 20} MiB"
