"""The only thing that touches the disk: an SQLite file of committed ticks, and the lifetime totals over them.

WAL with ``synchronous=FULL``: a commit that returned survives ``kill -9`` and a power cut. A tick is keyed by
(session, sequence): writing it again adds nothing. Only one daemon may hold a ledger; others read it beside.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.energy.metering import MeterState
from agent.errors import LedgerError
from agent.ledger.at_rest import AtRest, Tables, forget_at_rest, read_at_rest, tables_of, unchanged, write_at_rest
from agent.ledger.batch import Batch, CostKey
from agent.ledger.file import (
    SEAL_CHECK_MAX_BYTES,
    InUseError,
    aside_of,
    check_content,
    connect,
    count_aside,
    identity,
    is_damage,
    is_read_error,
    leave_address,
    ledger_path,
    locked,
    move_aside,
    one_state,
    refuse_empty,
    take_directory,
)
from agent.ledger.log_check import is_log_damaged
from agent.ledger.replacement import finish_replacement, write_replacement
from agent.ledger.rescue import Backfill, corrections_of, is_enough, proven_tables, rerated_since
from agent.ledger.schema import migrate
from agent.ledger.seal import require_good_names
from agent.ledger.standing import WRONG_CONTENT, Standing, count_corrections, read_standing
from agent.ledger.totals import require_room
from agent.ledger.unreadable import LASTING_S, BadPages, UnreadableError, let_go, not_without, wait_a_while
from agent.ledger.write import Interned, is_committed, write_batch
from agent.model import FOREVER_NS, Totals, Workload
from agent.pricing.host_cost import HostState
from agent.units import NANO

_WAIT_S, _START_WAIT_S = 2.0, 30.0               # for a transaction beside, before a damaged file is set aside

log = logging.getLogger(__name__)


class Ledger:
    """The writing side. Used by one thread. ``totals`` and ``set_aside`` are what others may look at."""

    def __init__(self, state_dir: Path, utc_ns: int, patience_s: float = LASTING_S,
                 pause: Callable[[float], object] = wait_a_while) -> None:
        """Open or create the ledger in a directory. Raises LedgerError with a sentence for the operator.

        A file that is found damaged is renamed to ``ledger.sqlite3.corrupt-TIME`` and a new one begun, with what the old one
        proves; ``set_aside`` then has the new name, and the log says what went over. So is one of which the disk does not give
        some part, now and after a ``pause`` of ``patience_s``, where the rest proves the totals.
        """
        self.path = ledger_path(state_dir)
        self._state_dir = state_dir
        self.set_aside: Path | None = None
        self.kept_aside = 0                      # damaged ledgers in the directory
        self._connection: sqlite3.Connection | None = None
        self._read: Standing | None = None       # None: nothing has been read yet
        self._interned: Interned
        self._identity = (0, 0)
        self._address = ""
        self._disk = BadPages(self.path, patience_s)
        self._lock = take_directory(state_dir)
        try:
            finish_replacement(self.path)
            self.look_around()
            at_rest = read_at_rest(self.path)
            try:
                self._open(at_rest)
            except (sqlite3.Error, OSError) as error:
                self._begin_again(error, utc_ns, at_rest, lambda: pause(patience_s))
        except UnreadableError as error:
            self.close()
            raise LedgerError(f"{self.path}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            self.close()
            advice = "see that the disk has room and is writable"
            if isinstance(error, InUseError):
                advice = "start again when that (a gpu-finops rerate?) has ended"
            raise LedgerError(f"{self.path}: {error}; {advice}") from error
        except LedgerError:
            self.close()
            raise

    def _begin_again(self, error: Exception, utc_ns: int, at_rest: AtRest | None, pause: Callable[[], object]) -> None:
        """Open a file at the start that could not be opened, or go on with another one where it is damaged."""
        try:
            fault = self._damage(error, lambda: self._open(at_rest))
        except UnreadableError:
            pause()
            fault = self._damage(error, lambda: self._open(at_rest))
        if not fault:
            return
        try:
            aside = self._replace(fault, utc_ns, at_rest)
        except sqlite3.Error as found:
            if is_read_error(found) and self._disk.look():       # SQLite opens no file without its first bytes
                raise UnreadableError(not_without(fault)) from found
            raise
        if aside.stat().st_size <= SEAL_CHECK_MAX_BYTES:
            # Budgets and tiers start from its rows. Those of a large file, and what fails now, come beside the ticks.
            with contextlib.suppress(sqlite3.Error, OSError):
                Backfill(self.path)()
        self._open()

    def _damage(self, error: Exception, again: Callable[[], object]) -> str:
        """What is wrong with the file; empty where it was the disk, and what failed has been done again. Raises the error that
        tells no damage, and UnreadableError where it may be the disk."""
        damage = isinstance(error, sqlite3.Error) and is_damage(error, self.path)
        if damage or isinstance(error, OSError) or (isinstance(error, sqlite3.Error) and is_read_error(error)):
            fault = self._disk.look()
            if fault:
                return fault
        if not damage:
            raise error
        try:
            again()
        except sqlite3.Error as second:
            self._disconnect()
            if not is_damage(second, self.path):
                raise
            self._disk.look()
            return str(second)
        return ""

    @property
    def corrections(self) -> int:
        """How many rows of re-ratings the totals have in them: a new number means that past costs have changed."""
        return self._standing.corrections

    @property
    def totals(self) -> Totals:
        """The committed lifetime totals. A new record after each commit; never changed."""
        return self._standing.totals

    def meters(self) -> dict[str, MeterState]:
        """Where each device's meter stood at the last commit."""
        return dict(self._standing.meters)

    def calibrations(self) -> dict[str, bytes]:
        """What attribution had learned of each device at the last commit, in its own encoding."""
        return dict(self._standing.calibrations)

    def carries(self) -> dict[CostKey, int]:
        """What pricing's divisions had left over at the last commit."""
        return dict(self._standing.carries)

    def host(self) -> HostState | None:
        """Up to where the host has been charged at the last commit."""
        return self._standing.host

    def workloads(self) -> list[Workload]:
        """Every workload that has a place in the ledger, oldest first."""
        self._db()
        return list(self._interned.numbers)

    def workloads_since(self, since_utc_ns: int) -> list[Workload]:
        """The workloads with a row that began at an instant or later, oldest first."""
        rows = self._ask("SELECT DISTINCT workload FROM summary WHERE start_ns >= ?", since_utc_ns)
        used = {number for (number,) in rows}
        return [workload for workload, number in self._interned.numbers.items() if number in used]

    def site_energy_mj(self, since_utc_ns: int) -> int:
        """Device energy booked in rows that began at an instant or later."""
        return int(self._ask("SELECT COALESCE(SUM(energy_mj), 0) FROM summary WHERE start_ns >= ?", since_utc_ns)[0][0])

    def spend(self, instants_ns: Sequence[int], recent_ns: int) -> list[tuple[int, Workload, str, int]]:
        """What budgets start from: (start, workload, currency, cost). Up to ``recent_ns`` one row a workload between each
        instant and the next, with its first start; from then on one a quarter of an hour."""
        names = {number: workload for workload, number in self._interned.numbers.items()}
        select = ("SELECT MIN(start_ns), workload, currency, SUM(cost_nano / 1000000000), SUM(cost_nano % 1000000000) "
                  "FROM summary WHERE start_ns >= ? AND start_ns < ? AND currency <> '' GROUP BY workload, currency")
        edges_ns = [*sorted({instant_ns for instant_ns in instants_ns if instant_ns < recent_ns}), recent_ns]
        rows = [row for span_ns in itertools.pairwise(edges_ns) for row in self._ask(select, *span_ns)]
        rows += self._ask(select + ", start_ns", recent_ns, FOREVER_NS)
        return [(start_ns, names[workload], currency, whole * NANO + rest)
                for start_ns, workload, currency, whole, rest in rows]

    def _ask(self, select: str, *parameters: int) -> list[tuple[Any, ...]]:
        """Rows of the file. Raises LedgerError, also where it must be opened again and the disk refuses."""
        try:
            return self._db().execute(select, parameters).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self.path}: {error}") from error

    def commit(self, batch: Batch, utc_ns: int) -> None:
        """Write a batch in one transaction; ``totals`` has it when this returns. A batch that is already there adds
        nothing. A file that is found damaged now is set aside, and a new one goes on from the totals as they stand.
        Raises LedgerError when the disk refuses; the batch may then be tried again as it is."""
        try:
            try:
                self._commit(batch, utc_ns)
            except sqlite3.Error as error:
                self._disconnect()
                fault = self._damage(error, lambda: self._commit(batch, utc_ns))
                if fault:
                    self._replace(fault, utc_ns)
                    self._commit(batch, utc_ns)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise LedgerError(f"{self.path}: {error}") from error

    def give_up(self, fault: str, utc_ns: int, of: tuple[int, int] | None = None) -> None:
        """Set the file aside, because of a fault that was found beside, and go on with a new one from the totals as they
        stand; not where it is another file by now than the one (``of``) that was looked at. Raises LedgerError when the disk
        refuses."""
        try:
            if of is not None and identity(self.path) != of:
                return
            self._disconnect()
            self._replace(fault, utc_ns)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self.path}: {error}") from error

    def answers_at(self, url: str) -> None:
        """Leave word, beside the lock, where the daemon that holds this ledger answers."""
        self._address = url
        leave_address(self._lock, url)

    def close(self) -> None:
        """Release the file and the directory's lock. What the file is now is noted, for the next open to compare."""
        try:
            self._note_at_rest()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            log.warning("%s: closed without a note of its bytes (%s); the next start relies on its seals", self.path, error)
        finally:
            self._disconnect()
            let_go(self.path)
            os.close(self._lock)

    def _note_at_rest(self) -> None:
        if self._connection is None or identity(self.path) != self._identity:
            return
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        tables = tables_of(self._connection)
        self._disconnect()
        write_at_rest(self.path, tables)

    def _commit(self, batch: Batch, utc_ns: int) -> None:
        self._see_that_the_file_is_there()
        db = self._db()
        db.execute("BEGIN IMMEDIATE")
        try:
            known = is_committed(db, batch)
            corrected = count_corrections(db) != self._standing.corrections
            if corrected:                        # by a re-rating beside: what it wrote to is taken up only where it is good
                require_good_names(db)
                self._load(db)
            if not known:
                require_room(self._standing.totals, batch)
                write_batch(db, self._interned, batch, utc_ns)
            db.execute("COMMIT")
        except BaseException as error:
            # What was interned in a transaction that failed is not in the file.
            self._disconnect()
            if isinstance(error, WRONG_CONTENT):             # sqlite3 could not read a text of the file, or it holds nonsense
                raise sqlite3.DatabaseError(f"malformed: {error!r}") from error
            raise
        if known:
            self._load(db)
        else:
            self._standing.add(batch)
            self._standing.numbers = self._interned.numbers

    @property
    def _standing(self) -> Standing:
        if self._read is None:
            raise LedgerError(f"{self.path}: not read yet")
        return self._read

    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            self._open()
        if self._connection is None:
            raise LedgerError(f"{self.path}: not open")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, at_rest: AtRest | None = None) -> None:
        proven = self._compare(at_rest) if at_rest is not None else False
        if self._read is not None:
            self._see_that_the_file_is_there()
        elif not proven:
            refuse_empty(self.path)
            if is_log_damaged(self.path):
                raise sqlite3.DatabaseError("malformed: its log has a bad frame with commits behind it, which are lost")
        forget_at_rest(self.path)                    # from here on it may be written to
        connection = connect(self.path)
        try:
            migrate(connection, self.path)
            if not proven:
                check_content(connection, self.path)
            self._load(connection)
            self._connection = connection
            self._identity = identity(self.path)
        except BaseException as error:
            connection.close()
            if isinstance(error, WRONG_CONTENT):
                raise sqlite3.DatabaseError(f"malformed: {error!r}") from error
            raise

    def _compare(self, at_rest: AtRest) -> bool:
        """Whether the file is proven to be as it was closed, to the last bit: what a log beside it says is then not ours."""
        if not at_rest.digest:
            return False
        if not unchanged(self.path, at_rest):
            raise sqlite3.DatabaseError("its bytes have changed since it was closed: by a bad disk, or by another program")
        log_file = self.path.with_name(f"{self.path.name}-wal")
        if log_file.exists() and log_file.stat().st_size:
            stray = log_file.with_name(f"{log_file.name}.corrupt")
            log_file.replace(stray)
            self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)
            log.warning("%s: not of the ledger as it was closed; moved to %s, the ledger goes on without it", log_file, stray)
        return True

    def _load(self, db: sqlite3.Connection) -> None:
        with one_state(db):
            self._read = read_standing(db)
        self._interned = Interned(db, self._read.numbers)

    def _see_that_the_file_is_there(self) -> None:
        """A file that was removed under the open connection would take commits and keep none: begin it, and the lock,
        anew. Raises LedgerError where another file stands in its place."""
        try:
            if identity(self.path) == self._identity:
                return
        except FileNotFoundError:
            self._disconnect()
            self._see_that_the_lock_is_there()
            write_replacement(self.path, self._standing, {})
            finish_replacement(self.path)
            self._identity = identity(self.path)
            log.error("%s was removed: begun anew, counters go on from the totals in memory, reports begin anew", self.path)
            return
        raise LedgerError(f"{self.path}: another file stands here than the one that was opened; restart to go on with it")

    def _see_that_the_lock_is_there(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._lock), (self._state_dir / "lock").stat()):
                return
        lock = take_directory(self._state_dir)
        os.close(self._lock)
        self._lock = lock
        leave_address(lock, self._address)

    def look_around(self) -> None:
        """Count the damaged ledgers again: somebody may have taken one away."""
        with contextlib.suppress(OSError):
            self.kept_aside = count_aside(self.path)

    def _replace(self, fault: str, utc_ns: int, at_rest: AtRest | None = None) -> Path:
        """Set the file aside and put one in its place that goes on from it; where the old one lies. The new one is whole
        before the old one goes, so that a crash in between finds one of them; and it has all that was committed beside."""
        aside = aside_of(self.path, utc_ns)
        in_memory = self._read is not None
        with locked(self.path, _WAIT_S if in_memory else _START_WAIT_S, known=in_memory or at_rest is not None):
            tables, why = self._tables(at_rest)
            if self._read is None and not is_enough(tables) and self._disk.look():
                raise UnreadableError(not_without(fault))
            began = write_replacement(self.path, self._read, tables, aside.name)
            if why and not is_enough(tables):
                began += f" ({why})"
            move_aside(self.path, aside)
        finish_replacement(self.path)
        self._identity = identity(self.path)
        self.set_aside = aside
        self.look_around()
        log.error("%s is damaged (%s): set aside as %s, nothing deleted; %s. Keep that file for recovery",
                  self.path, fault, aside, began)
        return aside

    def _tables(self, at_rest: AtRest | None) -> tuple[Tables, str]:
        """Those that a damaged file proves, and why not more; but the note of the last close is newer than whatever the file
        says (an older state, or another ledger's), except for what a re-rating has written since."""
        if at_rest is None:
            return proven_tables(self.path, self._disk)
        since: Tables = {}
        with contextlib.suppress(sqlite3.Error, OSError):        # the note will do
            since = rerated_since(proven_tables(self.path, self._disk)[0], corrections_of(at_rest.tables))
        return at_rest.tables | since, ""
