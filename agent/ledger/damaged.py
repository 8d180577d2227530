"""Reads a damaged ledger, also one whose header or description of its own tables is damaged.

Both are known (schema_page.py). So where they are not as they should be, a good first page is laid over the file: in a log,
which SQLite reads before the file. The file is opened under another name, a hard link, beside which that log lies; it is
neither written to nor copied. Both names are gone again as soon as SQLite has the files open.

Whether what is then read is right is not decided here: only what its seals prove counts (rescue.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.ledger.file import is_damage
from agent.ledger.log_file import MOST_BYTES, committed, has_good_header, laid_over, page_bytes
from agent.ledger.schema import check_schema
from agent.ledger.schema_page import file_header, first_page, known_tables
from agent.ledger.seal import BY_TIME, SEALED, broken_slices, install

_LOOKED_AT: Final = 64                                       # slices of a table over time
_FIRST_PAGES: Final = range(2, 25)
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class Damaged:
    """Lets pass that a file cannot be read because it is damaged, or the disk does not give a part of it, and nothing else;
    ``why`` then says so. Which of the two it is, and whether it lasts, is for ``BadPages`` to tell (unreadable.py)."""

    def __init__(self, old: Path) -> None:
        self._old = old
        self.why = ""

    def __enter__(self) -> Damaged:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, UnicodeDecodeError):        # SQLite quotes what it does not understand
            self.why = "it holds a text that is none"
            return True
        if isinstance(error, sqlite3.Error) and (
                is_damage(error, self._old) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_CORRUPTFS):
            self.why = str(error)
            return True
        return False


class MendingError(sqlite3.DatabaseError):
    """A good first page cannot be laid over a file, nor can it later."""


def reading(old: Path) -> sqlite3.Connection:
    """A connection to a file as it is. Raises sqlite3.Error."""
    source = sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    install(source)
    return source


def is_described(source: sqlite3.Connection, old: Path, tables: Collection[str]) -> bool:
    """Whether a file's description of its tables is good, and each of some tables is where it says. Raises sqlite3.Error
    for a fault that may pass."""
    with Damaged(old):
        check_schema(source)
        return not _mute(source, old, tables)
    return False


@contextlib.contextmanager
def readable(old: Path, tables: Collection[str]) -> Iterator[tuple[sqlite3.Connection, str]]:
    """A connection to a file, mended where it does not lead to some tables as it is; and where no seals can be read either
    way, why. Raises sqlite3.Error and OSError for a fault that may pass."""
    with contextlib.ExitStack() as stack:
        source, mending = stack.enter_context(contextlib.closing(reading(old))), Damaged(old)
        if not is_described(source, old, tables):
            with mending:
                source = stack.enter_context(mended(old, tables))
        sealed = False
        with Damaged(old) as looking:
            sealed = _has_seals(source)
        yield source, "" if sealed else mending.why or looking.why or "it has none"


@contextlib.contextmanager
def mended(old: Path, tables: Collection[str]) -> Iterator[sqlite3.Connection]:
    """A connection to a file under a good first page, on which some tables are where their seals prove something of them.
    Raises MendingError, and sqlite3.Error and OSError for a fault that may pass."""
    cover = _Cover(old)
    roots = cover.own_roots()
    for sought in (["seal"], tables):                    # without seals nothing can be told of any other
        roots = _found(cover, roots, sought)
    with contextlib.closing(cover.over(roots)) as source:
        yield source


def _found(cover: _Cover, roots: Mapping[str, int], tables: Collection[str]) -> dict[str, int]:
    """Root pages under which no table is mute, as far as they can be guessed: in a ledger that began with this version, or
    that somebody vacuumed, they are among the first."""
    found = {**roots}
    mute = {*tables}
    for guess in (None, *_FIRST_PAGES):
        tried = found if guess is None else found | dict.fromkeys(mute, guess)
        with contextlib.closing(cover.over(tried)) as source:
            still = _mute(source, cover.file, mute)
        found |= {table: tried[table] for table in mute - still}
        mute = still
        if not mute:
            break
    return found


class _Cover:
    """A first page to lay over a file."""

    def __init__(self, old: Path) -> None:
        """Raises MendingError and OSError."""
        self.file = old
        self._page_bytes, self.tables = known_tables()
        self._log = self._read_log()
        self._committed = committed(self._log)
        self._pages = self._committed[-1].size if self._committed else max(1, old.stat().st_size // self._page_bytes)

    def own_roots(self) -> dict[str, int]:
        """Where the tables are by the file's own description, which has each name twice; else where they are in a new one."""
        roots = {name: table.root for name, table in self.tables.items()}
        for name in ("tbl_name", "name"):
            for order in ("ASC", "DESC"):                # what is before a part that cannot be read, and what is behind it
                asked = (f"SELECT {name}, rootpage FROM sqlite_master "  # noqa: S608 - names from above
                         f"WHERE substr(CAST(sql AS BLOB), 1, 12) = CAST('CREATE TABLE' AS BLOB) ORDER BY rowid {order}")
                with Damaged(self.file), contextlib.closing(self._under(self._own_first_page())) as source:
                    source.text_factory = bytes
                    source.execute("PRAGMA writable_schema = ON")  # else a text that is nonsense ends it
                    for told, root in source.execute(asked):
                        table = told.decode("ascii", "replace") if isinstance(told, bytes) else ""
                        if table in roots and isinstance(root, int) and 1 < root <= self._pages:
                            roots[table] = root
        return roots

    def over(self, roots: Mapping[str, int]) -> sqlite3.Connection:
        """The file, with its tables where they are said to be. Raises MendingError, sqlite3.Error and OSError."""
        try:
            return self._under(first_page(self._page_bytes, self.tables, roots))
        except ValueError as error:
            raise MendingError(str(error)) from error

    def _own_first_page(self) -> bytes:
        """As the file has it, under a good header; nothing but that where it cannot be read."""
        page = b""
        try:
            with self.file.open("rb") as file:
                page = file.read(self._page_bytes)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        page = page.ljust(self._page_bytes, b"\0")
        header = file_header(self._page_bytes)
        return header + page[len(header):]

    def _read_log(self) -> bytes:
        """The log beside the file, where it is of such pages."""
        log = self.file.with_name(f"{self.file.name}-wal")
        try:
            if log.stat().st_size > MOST_BYTES:
                raise MendingError(f"the log beside it is larger than {MOST_BYTES // 2**20} MiB")
            data = log.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO:
                raise MendingError(f"the log beside it cannot be read ({error.strerror})") from error
            raise
        return data if has_good_header(data) and page_bytes(data) == self._page_bytes else b""

    def _under(self, page: bytes) -> sqlite3.Connection:
        link = self.file.with_name(f".{self.file.name}.mended")
        log = link.with_name(f"{link.name}-wal")
        try:
            _unlink(link, log)                           # of a process that was killed
            _link(self.file, link)
            log.write_bytes(laid_over(self._log, self._committed, 1, page, self._pages))
            return _connected(link)
        finally:
            _unlink(link, log)           # what is open stays open; and SQLite moves no log into a file whose name is gone


def _connected(link: Path) -> sqlite3.Connection:
    """Without locks, and without an index of the log in memory that SQLite would share with who has the file open by its own
    name."""
    source = sqlite3.connect(f"{link.absolute().as_uri()}?mode=ro&vfs=unix-none", uri=True, isolation_level=None)
    try:
        source.execute("PRAGMA locking_mode = EXCLUSIVE")
        source.execute("PRAGMA user_version").fetchone()           # opens the log, for as long as the connection lives
        install(source)
    except BaseException:
        source.close()
        raise
    return source


def _link(old: Path, link: Path) -> None:
    try:
        os.link(old.resolve(), link)
    except OSError as error:
        if error.errno in _NO_LINKS:
            why = "refused: they are only made to a file of one's own" if error.errno == errno.EPERM and not _is_own(
                old) else "which this file system does not have"
            raise MendingError(f"a hard link to it is needed, {why} ({error.strerror})") from error
        raise


def _is_own(old: Path) -> bool:
    return old.stat().st_uid == os.geteuid()


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _has_seals(source: sqlite3.Connection) -> bool:
    asked = f"SELECT EXISTS (SELECT 1 FROM seal WHERE name IN ({', '.join('?' * len(SEALED))}))"  # noqa: S608 - question marks
    return bool(source.execute(asked, SEALED).fetchone()[0])


def _mute(source: sqlite3.Connection, old: Path, tables: Collection[str]) -> set[str]:
    """Of some tables, those of which nothing is as it was sealed, be it empty; all of them where there are no seals."""
    with Damaged(old):
        if _has_seals(source):
            return {table for table in tables if table != "seal" and not _says_something(source, old, table)}
    return {*tables}


def _says_something(source: sqlite3.Connection, old: Path, table: str) -> bool:
    with Damaged(old):
        sealed = source.execute("SELECT slice FROM seal WHERE name = ? ORDER BY slice LIMIT ?",
                                (table, _LOOKED_AT if table in BY_TIME else -1)).fetchall()
        span_ns = (sealed[0][0], sealed[-1][0] + 1) if table in BY_TIME and sealed else None
        broken = len(broken_slices(source, table, span_ns))
        return broken < len(sealed) or broken == len(sealed) == 0
    return False
