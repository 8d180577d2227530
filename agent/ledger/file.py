"""The ledger as a file: one holder a directory, opened so that a commit survives a power cut, set aside when damaged."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.errors import LedgerError
from agent.ledger.schema import check_schema
from agent.ledger.seal import BY_NAME, SEALED, broken, install
from agent.ledger.unreadable import has_format, unreadable

FILE_NAME: Final = "ledger.sqlite3"
SIDE_FILES: Final = ("", "-wal", "-shm", ".closed")
_LOOKS, _LOOK_SECONDS = 25, 0.02        # half a second
QUICK_CHECK_MAX_BYTES: Final = 64 * 2**20    # a larger file would hold up the start; it is checked beside the ticks
SMALLEST_BYTES: Final = 512                  # SQLite's smallest page
SEAL_CHECK_MAX_BYTES: Final = 16 * 2**20     # half a second

log = logging.getLogger(__name__)

_DAMAGE: Final = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT})
_DAMAGE_BELOW: Final = frozenset({sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_DATA})
_READS: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})
_OURS: Final = "user-defined function raised exception"      # a signal that came in it


def ledger_path(state_dir: Path) -> Path:
    """Where the ledger of a directory is. Where its name is a link, that is where this leads: SQLite keeps the log there."""
    path = state_dir / FILE_NAME
    return Path(os.path.realpath(path)) if os.path.islink(path) else path    # noqa: PTH114 - False where we may not look


def take_directory(state_dir: Path) -> int:
    """Take the directory for this process alone; a descriptor that holds it. It goes with the process, however that ends."""
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LedgerError(
            f"{state_dir}: cannot keep the ledger here ({error.strerror}); "
            "set state_dir to a directory that this user may write") from error
    try:
        _lock_alone(descriptor)
    except OSError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").partition("\n")[0].strip() or "unknown"
        os.close(descriptor)
        raise LedgerError(
            f"{state_dir}: another gpu-finops (process {holder}) keeps its ledger here; "
            "stop it, or give this one a state_dir of its own") from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        raise LedgerError(f"{state_dir}: cannot write here ({error.strerror}); free some space first") from error
    return descriptor


def _lock_alone(descriptor: int) -> None:
    """Raises BlockingIOError where somebody holds the lock, and goes on doing so: a command that looks whether a daemon runs
    has it for an instant."""
    for _ in range(_LOOKS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        threading.Event().wait(_LOOK_SECONDS)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def leave_address(descriptor: int, url: str) -> None:
    """Write behind the process number where the holder of a directory answers. It counts while the lock is held, and goes
    when the next one takes it. Where the disk refuses, commands ask where the configuration says."""
    try:
        os.pwrite(descriptor, f"{os.getpid()}\n{url}\n".encode(), 0)
    except OSError as error:
        log.warning("commands are not told that the API is at %s (%s)", url, error.strerror)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that writes: WAL with ``synchronous=FULL``, so that a commit that returned is on the disk. A file that is
    not too large for it is checked first. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=2.0, cached_statements=128)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -1024")
        install(connection)
        if path.stat().st_size <= QUICK_CHECK_MAX_BYTES:
            quick_check(connection)
    except UnicodeDecodeError as error:          # SQLite quotes what it does not understand, and Python cannot read that
        connection.close()
        raise sqlite3.DatabaseError("malformed: an unreadable schema") from error
    except BaseException:
        connection.close()
        raise
    return connection


class SetAsideError(sqlite3.OperationalError):
    """The ledger that a connection writes to has been set aside: what it would write belongs into the new one."""


class InUseError(sqlite3.OperationalError):
    """A ledger cannot be set aside yet: another connection is writing to it."""

    sqlite_errorcode = sqlite3.SQLITE_BUSY


class Beside:
    """A connection that writes beside the daemon's own, and only as long as its file is the ledger."""

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        """Raises sqlite3.Error, and OSError where there is no file."""
        self._path = path
        self._identity = identity(path)
        self.db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=timeout_s)
        self.db.execute("PRAGMA synchronous = FULL")
        install(self.db)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Raises SetAsideError, with nothing written."""
        with transaction(self.db):
            self._require_the_ledger()
            yield
            self._require_the_ledger()           # one that is too damaged to be locked is set aside without a lock

    def _require_the_ledger(self) -> None:
        with contextlib.suppress(FileNotFoundError):     # as while it is set aside
            if identity(self._path) == self._identity:
                return
        raise SetAsideError(f"{self._path} was set aside meanwhile")

    def close(self) -> None:
        self.db.close()


def identity(path: Path) -> tuple[int, int]:
    """Which file has a name. Raises OSError."""
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """What is written within is in the file whole when this ends, or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def one_state(db: sqlite3.Connection) -> Iterator[None]:
    """What is read within is of one state of the file, whoever commits beside; also within a transaction."""
    within = db.in_transaction
    if not within:
        db.execute("BEGIN")
    try:
        yield
    finally:
        if not within and db.in_transaction:
            db.execute("ROLLBACK")


@contextlib.contextmanager
def locked(path: Path, timeout_s: float, *, known: bool) -> Iterator[None]:
    """Nobody writes to a damaged ledger within: whose transaction is under way is waited for, and who comes later waits, and
    then sees that the file has been set aside. Raises InUseError where that takes too long. A file that is too damaged for a
    lock, or empty, has none; nor one whose first bytes the disk does not give, where its totals are ``known`` without it."""
    with contextlib.ExitStack() as stack:
        try:
            if path.stat().st_size >= SMALLEST_BYTES:    # else SQLite would drop the log
                # A second one, that may not write: else the first, closed as the last, would move the log into the file.
                for mode, first in (("ro", "PRAGMA user_version"), ("rw", "BEGIN IMMEDIATE")):
                    address = f"{path.absolute().as_uri()}?mode={mode}"
                    db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=timeout_s)
                    stack.enter_context(contextlib.closing(db)).execute(first).fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise InUseError("damaged, and not set aside yet: another program is writing to it") from error
            if not is_damage(error, path) and not (known and is_read_error(error)):
                raise
        yield


def refuse_empty(path: Path) -> None:
    """Raise DatabaseError for a ledger that has been emptied: SQLite would take it for a new one, and drop its log."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    log_file = path.with_name(f"{path.name}-wal")
    if size < SMALLEST_BYTES and (size or (log_file.exists() and log_file.stat().st_size)):
        raise sqlite3.DatabaseError(f"malformed: {size} bytes are left of it")
    if size == 0:
        log.warning("%s: is empty, and begun anew", path)


def quick_check(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError where SQLite finds a fault in the file's structure; OperationalError where it cannot read it, which
    it says in the same place."""
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault == "ok":
        return
    code = re.search(r"error code=(\d+)", fault)
    if code is None:
        raise sqlite3.DatabaseError(f"malformed: {fault}")
    error = sqlite3.OperationalError(fault.splitlines()[-1])
    error.sqlite_errorcode = int(code[1])
    raise error


def check_content(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseError where a ledger of the newest version says something else than was written to it. The rows over
    time are looked at in a small file only: in a large one they would hold up the start, and are checked beside the ticks."""
    small = path.stat().st_size <= SEAL_CHECK_MAX_BYTES
    check_schema(connection)
    _raise_first(broken(connection, SEALED if small else BY_NAME))


def _raise_first(faults: Iterator[str]) -> None:
    fault = next(faults, None)
    if fault is not None:
        raise sqlite3.DatabaseError(f"malformed: {fault}")


def fault_of(path: Path) -> str | None:
    """What is wrong with a ledger, read beside its daemon, whole, and twice where something is; None for a good one, or where
    it cannot be told."""
    try:
        if _fault_of(path) is None or unreadable(path):
            return None
        return _fault_of(path)
    except OSError:
        return None


def _fault_of(path: Path) -> str | None:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            install(connection)
            quick_check(connection)
            check_schema(connection)
            _raise_first(broken(connection))
    except UnicodeDecodeError:
        return "an unreadable schema"
    except sqlite3.Error as error:
        return str(error) if is_damage(error, path) else None
    return None


def is_damage(error: sqlite3.Error, path: Path) -> bool:
    """Whether SQLite says that the file itself is bad, rather than that the disk or the permissions are. It also says so of a
    page that the disk does not give (unreadable.py)."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:                             # what Python or we found in what SQLite read: text that is none, a wrong type
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError)
    if code == sqlite3.SQLITE_READONLY:          # said of a file that could not be opened to write, or with a bad format number
        try:
            return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) and not has_format(path)
        except OSError:
            return False
    if code == sqlite3.SQLITE_ERROR and str(error).startswith(_OURS):
        return False
    return (code & 0xFF) in _DAMAGE or code in _DAMAGE_BELOW


def is_read_error(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the disk did not give something."""
    return getattr(error, "sqlite_errorcode", None) in _READS


def count_aside(path: Path) -> int:
    """How many damaged ledgers lie set aside beside one."""
    return sum(not found.name.endswith(SIDE_FILES[1:]) for found in path.parent.glob(f"{path.name}.corrupt-*"))


def aside_of(path: Path, utc_ns: int) -> Path:
    """A name for a damaged ledger that nothing has yet: ``ledger.sqlite3.corrupt-TIME``, beside it."""
    stamp = datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{count}")
    return aside


def move_aside(path: Path, aside: Path) -> None:
    """Rename a damaged ledger, with its side files."""
    for suffix in SIDE_FILES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
