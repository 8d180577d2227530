"""SQLite's write-ahead log as bytes: which of its frames are good, and how a page is added that counts before the file's own.

Source of the format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

HEADER: Final = struct.Struct(">8I")             # magic, version, page size, sequence, two salts, two checksums
FRAME: Final = struct.Struct(">6I")              # page, size after a commit, two salts, two checksums
MOST_BYTES: Final = 64 * 2**20                   # half a second for the 4 MiB that are usual
_SUMS: Final = struct.Struct(">2I")
_LITTLE, _BIG = 0x377F0682, 0x377F0683           # the magic number says in which order bytes are summed
_VERSION: Final = 3_007_000
_SUMMED: Final = 24                              # bytes of the header under its checksum
_FRAME_SUMMED: Final = 8                         # and of a frame's

Sums = tuple[int, int]


class Frame(NamedTuple):
    """``page``: its number, from 1. ``size``: pages of the file after the commit that this frame ends; 0 for any other."""

    page: int
    size: int
    salts: Sums
    sums: Sums
    content: bytes


def page_bytes(log: bytes) -> int:
    """How large the pages of a log are, in bytes; the usual 4096 where its header says nonsense."""
    told = int(HEADER.unpack_from(log)[2])
    return told if told in {2**n for n in range(9, 17)} else 4096


def frames(log: bytes) -> Iterator[Frame]:
    """Every whole frame, good or not. ``log`` has a header at least."""
    size = page_bytes(log)
    for at in range(HEADER.size, len(log) - FRAME.size - size + 1, FRAME.size + size):
        page, pages, salt_1, salt_2, sum_1, sum_2 = FRAME.unpack_from(log, at)
        yield Frame(page, pages, (salt_1, salt_2), (sum_1, sum_2), log[at + FRAME.size:at + FRAME.size + size])


def has_good_header(log: bytes) -> bool:
    """Whether SQLite would read the log at all."""
    if len(log) < HEADER.size:
        return False
    magic, *_, sum_1, sum_2 = HEADER.unpack_from(log)
    return magic in {_LITTLE, _BIG} and _summed(log[:_SUMMED], _order(log), (0, 0)) == (sum_1, sum_2)


def good_frames(log: bytes) -> Iterator[Frame]:
    """The frames that SQLite would read: up to the first whose checksum or salt is wrong."""
    if not has_good_header(log):
        return
    *_, salt_1, salt_2, sum_1, sum_2 = HEADER.unpack_from(log)
    order, sums = _order(log), (sum_1, sum_2)
    for frame in frames(log):
        sums = _summed(FRAME.pack(frame.page, frame.size, 0, 0, 0, 0)[:_FRAME_SUMMED] + frame.content, order, sums)
        if frame.salts != (salt_1, salt_2) or frame.sums != sums or not frame.page or frame.size >= 2**31:
            return
        yield frame


def chains(log: bytes, some: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Frames in runs, of which each carries on the checksum of the one before."""
    orders = [_order(log)] if has_good_header(log) else ["<", ">"]
    run = list(some[:1])
    for before, frame in pairwise(some):
        head = FRAME.pack(frame.page, frame.size, 0, 0, 0, 0)[:_FRAME_SUMMED]
        if all(_summed(head + frame.content, order, before.sums) != frame.sums for order in orders):
            yield run
            run = []
        run.append(frame)
    yield run


def committed(log: bytes) -> list[Frame]:
    """The good frames up to the last commit."""
    good = list(good_frames(log))
    while good and not good[-1].size:
        good.pop()
    return good


def laid_over(log: bytes, before: Sequence[Frame], page: int, content: bytes, file_pages: int) -> bytes:
    """A log in which one commit more writes a page. ``before`` is what is committed in ``log``: where that is nothing, it is a
    new log. ``file_pages``: how many the file has, for a new log to say."""
    if before:
        last = before[-1]
        made = bytearray(log[:HEADER.size + len(before) * (FRAME.size + len(last.content))])
        salts, sums, size = last.salts, last.sums, last.size
    else:
        salts, size = (0, 0), file_pages
        head = HEADER.pack(_LITTLE, _VERSION, len(content), 0, *salts, 0, 0)[:_SUMMED]
        sums = _summed(head, "<", (0, 0))
        made = bytearray(head + _SUMS.pack(*sums))
    head = FRAME.pack(page, size, *salts, 0, 0)
    sums = _summed(head[:_FRAME_SUMMED] + content, _order(made), sums)
    return bytes(made + head[:-_SUMS.size] + _SUMS.pack(*sums) + content)


def _order(log: bytes | bytearray) -> str:
    return "<" if HEADER.unpack_from(log)[0] == _LITTLE else ">"


def _summed(data: bytes, order: str, sums: Sums) -> Sums:
    """SQLite's checksum, carried on over more bytes (a multiple of 8)."""
    one, two = sums
    for first, second in struct.iter_unpack(f"{order}II", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
