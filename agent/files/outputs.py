"""Writes files whole or not at all: what stood there before stays until all of the new is written."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path


def replaceable(file: Path) -> Path:
    """Where a file of that name really is, links followed, so that they stay. Raises OSError, whose ``strerror`` says why,
    where something else than a file is there: renaming over a device would put a file in its place."""
    target = Path(os.path.realpath(file))
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if target.name and target.parent.is_dir():
            return target
        raise
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(file))
    return target


def write_whole(contents: Mapping[Path, str]) -> None:
    """Write files: all of them, or, where one cannot be written, none. Raises OSError, its ``filename`` the file's."""
    parts: dict[Path, Path] = {}
    try:
        for file, text in contents.items():
            try:
                target = replaceable(file)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(file)) from error
            part = target.with_name(f".{target.name[:200]}.part-{os.getpid()}")
            parts[part] = target
            try:
                part.write_text(text, encoding="utf-8", newline="")
                _keep_owner(target, part)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(file)) from error
        for part, target in parts.items():
            part.replace(target)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _keep_owner(target: Path, part: Path) -> None:
    """Who might read and write a file may do so after it was replaced."""
    try:
        there = target.stat()
    except FileNotFoundError:
        return
    with contextlib.suppress(PermissionError):       # only root gives files away
        os.chown(part, there.st_uid, there.st_gid)
    part.chmod(stat.S_IMODE(there.st_mode))


def write_output(file: Path, text: str) -> None:
    """Write one file, whole; or what is no file (/dev/stdout, a pipe that a shell made), as it comes. Raises OSError."""
    try:
        write_whole({file: text})
    except OSError as error:
        # A file that may be written in a directory that may not cannot be replaced.
        if error.errno != errno.EINVAL and not (isinstance(error, PermissionError) and os.access(file, os.W_OK)):
            raise
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK        # nobody may read a pipe
        descriptor = os.open(file, flags)
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            out.write(text)
