"""Run with the failing disk preloaded: the first flush after the note of a close is removed fails. Prints one JSON object: what
came of it.

    python -m tests.faultfs.notes FOLDER
"""

from __future__ import annotations

import ctypes
import errno
import json
import sys
from pathlib import Path

from agent.errors import LedgerError
from agent.ledger.at_rest import forget_at_rest
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from tests.faultfs.flushes import DISK


def arm(folder: Path) -> None:
    """The disk that holds a folder does not flush; the folder's own entry is below its parent."""
    DISK.faultfs_arm(str(folder.parent).encode(), ord("s"), ctypes.c_long(1), errno.EIO, 0)


def forgotten(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / f"{FILE_NAME}.closed").write_bytes(b"noted")
    arm(folder)
    try:
        forget_at_rest(folder / FILE_NAME)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        DISK.faultfs_disarm()
    return "not flushed"


def started(folder: Path) -> str:
    Ledger(folder, 0).close()
    arm(folder)
    try:
        Ledger(folder, 0).close()
    except LedgerError:
        return "refused"
    finally:
        DISK.faultfs_disarm()
    return "started"


if __name__ == "__main__":
    disk = Path(sys.argv[1])
    print(json.dumps({"forget_at_rest": forgotten(disk / "noted"), "start": started(disk / "state")}))
