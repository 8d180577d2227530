"""Whether a write-ahead log was damaged after it was written.

SQLite ends its reading of a log at the first frame whose checksum is wrong, as it must after a power cut in the middle of a
commit, and says nothing. A frame that turned bad later hides every commit after it. But a commit begins only when the one
before it is on the disk (``synchronous=FULL``): two commits of the same log behind a bad frame tell that it had been good. They
count where each frame's checksum carries on that of the one before: of a commit that failed, a later and shorter one may leave
the end, which carries on nothing.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from agent.ledger.log_file import HEADER, MOST_BYTES, chains, frames, good_frames, has_good_header

_COMMITS_BEHIND: Final = 2


def is_log_damaged(ledger: Path) -> bool:
    """Whether the log beside a ledger, which nobody has open, hides what had been committed. The last two commits cannot be
    told from unfinished ones. Raises OSError."""
    log = ledger.with_name(f"{ledger.name}-wal")
    try:
        if not HEADER.size < log.stat().st_size <= MOST_BYTES:
            return False
        data = log.read_bytes()
    except FileNotFoundError:
        return False
    written = list(frames(data))
    if not written:
        return False
    good = sum(1 for _ in good_frames(data))
    if has_good_header(data):
        _, _, _, _, *salts, _, _ = HEADER.unpack_from(data)
    else:
        salts = list(Counter(frame.salts for frame in written).most_common(1)[0][0])
    behind = [frame for frame in written[good:] if [*frame.salts] == salts]
    return any(sum(frame.size > 0 for frame in chain) >= _COMMITS_BEHIND for chain in chains(data, behind))
