"""The first page of a ledger of the newest version, made anew: the file's header and the description of its tables.

Both are known to the letter, but for where each table begins: its root page. All of it fits on one page, as what only matters
to who writes (NOT NULL, REFERENCES, UNIQUE and its index) is left out.

Source of the format: https://www.sqlite.org/fileformat2.html#the_database_header
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import struct
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from agent.ledger.tables import MIGRATIONS, model

_HEADER: Final = struct.Struct(">16sH6B12I20x2I")
_LEAF: Final = struct.Struct(">BHHHB")           # kind, first free block, cells, where they begin, fragments
_LEAF_OF_TABLE: Final = 13
_FOUR_BYTES: Final = 4                           # a record's code for an integer of 4 bytes
_ONLY_FOR_WRITING: Final = re.compile(r" (NOT NULL|REFERENCES workload|UNIQUE)\b")


class KnownTable(Struct, frozen=True):
    """``row``: its row in the description. ``root``: its first page in a ledger that began with this version."""

    row: int
    root: int
    sql: str


def known_tables() -> tuple[int, dict[str, KnownTable]]:
    """The size of a page in bytes, and the tables by name."""
    with contextlib.closing(model()) as db:
        rows = db.execute("SELECT name, rowid, rootpage, sql FROM sqlite_master WHERE type = 'table'")
        tables = {name: KnownTable(row, root, _short(sql)) for name, row, root, sql in rows}
        return int(db.execute("PRAGMA page_size").fetchone()[0]), tables


def _short(sql: str) -> str:
    return _ONLY_FOR_WRITING.sub("", re.sub(r"\s+", " ", sql))


def file_header(page_bytes: int) -> bytes:
    """The 100 bytes that every ledger begins with. What they say of sizes does not count where a log is laid over the file."""
    return _HEADER.pack(
        b"SQLite format 3\0", 1 if page_bytes == 2**16 else page_bytes, 2, 2, 0, 64, 32, 32,      # 2, 2: with a log
        1, 0, 0, 0, 1, 4, 0, 0, 1, len(MIGRATIONS), 0, 0,            # 4: the schema's format; 1: UTF-8; then the version
        0, sqlite3.sqlite_version_info[0] * 1_000_000)


def first_page(page_bytes: int, tables: Mapping[str, KnownTable], roots: Mapping[str, int]) -> bytes:
    """Raises ValueError where they do not fit on one page."""
    cells = [_cell(table.row, name.encode(), roots[name], table.sql.encode()) for name, table in tables.items()]
    head = file_header(page_bytes)
    starts, at = [], page_bytes
    for cell in cells:
        at -= len(cell)
        starts.append(at)
    head += _LEAF.pack(_LEAF_OF_TABLE, 0, len(cells), at, 0) + struct.pack(f">{len(cells)}H", *starts)
    if len(head) > at:
        raise ValueError(f"the tables do not fit on a page of {page_bytes} bytes")
    return head + bytes(at - len(head)) + b"".join(reversed(cells))


def _cell(row: int, name: bytes, root: int, sql: bytes) -> bytes:
    """A row of the description: type, name, table, root page, text."""
    texts = (b"table", name, name)
    codes = b"".join(_varint(13 + 2 * len(text)) for text in texts) + bytes([_FOUR_BYTES]) + _varint(13 + 2 * len(sql))
    record = bytes([len(codes) + 1]) + codes + b"".join(texts) + root.to_bytes(4) + sql
    return _varint(len(record)) + _varint(row) + record


def _varint(number: int) -> bytes:
    """SQLite's integer of variable length, for one below 2^14."""
    return bytes([number]) if number < 0x80 else bytes([0x80 | number >> 7, number & 0x7F])
