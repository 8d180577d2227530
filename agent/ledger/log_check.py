"""Whether a write-ahead log was damaged after it was written.

SQLite ends its reading of a log at the first frame whose checksum is wrong, as it must after a power cut in the middle of a
commit, and says nothing. A frame that turned bad later hides every commit after it. But a commit begins only when the one
before it is on the disk (``synchronous=FULL``): two commits of the same log behind a bad frame tell that it had been good.

Source of the format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">8I")            # magic, version, page size, sequence, two salts, two checksums
_FRAME: Final = struct.Struct(">6I")             # page, size after a commit, two salts, two checksums
_LITTLE, _BIG = 0x377F0682, 0x377F0683           # the magic number says in which order bytes are summed
_MOST_BYTES: Final = 64 * 2**20                  # half a second for the 4 MiB that are usual
_COMMITS_BEHIND: Final = 2


def is_log_damaged(ledger: Path) -> bool:
    """Whether the log beside a ledger, which nobody has open, hides what had been committed. The last two commits cannot be
    told from unfinished ones. Raises OSError."""
    log = ledger.with_name(f"{ledger.name}-wal")
    try:
        if not _HEADER.size < log.stat().st_size <= _MOST_BYTES:
            return False
        data = log.read_bytes()
    except FileNotFoundError:
        return False
    magic, _, page_bytes, _, salt_1, salt_2, *checksum = _HEADER.unpack_from(data)
    page_bytes = page_bytes if page_bytes in {2**n for n in range(9, 17)} else 4096
    step = _FRAME.size + page_bytes
    frames = [_FRAME.unpack_from(data, at) for at in range(_HEADER.size, len(data) - step + 1, step)]
    if not frames:
        return False
    order = "<" if magic == _LITTLE else ">"
    good, sums = 0, (0, 0)
    salts = (salt_1, salt_2)
    if magic in {_LITTLE, _BIG} and (sums := _summed(data[:24], order, sums)) == tuple(checksum):
        for number, (page, size, one, two, *told) in enumerate(frames):
            at = _HEADER.size + number * step
            sums = _summed(data[at:at + 8] + data[at + _FRAME.size:at + step], order, sums)
            if (one, two) != salts or sums != tuple(told) or not page or size < 0:
                break
            good = number + 1
    else:
        salts = Counter((one, two) for _, _, one, two, _, _ in frames).most_common(1)[0][0]
    behind = [frame for frame in frames[good:] if (frame[2], frame[3]) == salts and frame[1]]
    return len(behind) >= _COMMITS_BEHIND


def _summed(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite's checksum, carried on over more bytes (a multiple of 8)."""
    one, two = sums
    for first, second in struct.iter_unpack(f"{order}II", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
