"""The only thing that touches the disk: an SQLite file of committed ticks, and the lifetime totals over them.

WAL with ``synchronous=FULL``: a commit that returned survives ``kill -9`` and a power cut. A tick is keyed by
(session, sequence): writing it again adds nothing. Only one daemon may hold a ledger; others read it beside.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.batch import Batch, CostKey
from agent.energy import MeterState
from agent.errors import LedgerError
from agent.ledger_schema import migrate
from agent.model import Totals, Workload

_K = TypeVar("_K")

FILE_NAME = "ledger.sqlite3"
QUICK_CHECK_MAX_BYTES = 64 * 2**20     # a larger file would hold up the start; its pages are checked as they are read


class Ledger:
    """The writing side. Used by one thread. ``totals`` and ``set_aside`` are what others may look at."""

    def __init__(self, state_dir: Path, utc_ns: int) -> None:
        """Open or create the ledger in a directory. Raises LedgerError with a sentence for the operator.

        A file that SQLite finds damaged is renamed to ``ledger.sqlite3.corrupt-TIME`` and a new one begun;
        ``set_aside`` then has the new name.
        """
        self.path = state_dir / FILE_NAME
        self.set_aside: Path | None = None
        self._lock = _lock(state_dir)
        self._workload_ids: dict[Workload, int] = {}
        self._connection: sqlite3.Connection | None = None
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                self.close()
                raise LedgerError(f"{self.path}: {error}; see that the disk has room and is writable") from error
            self.set_aside = self._move_aside(utc_ns)
            try:
                self._open()
            except sqlite3.DatabaseError as again:
                self.close()
                raise LedgerError(f"{self.path}: {again}; see that the disk has room and is writable") from again
        except LedgerError:
            self.close()
            raise

    @property
    def totals(self) -> Totals:
        """The committed lifetime totals. A new record after each commit; never changed."""
        return self._totals

    def meters(self) -> dict[str, MeterState]:
        """Where each device's meter stood at the last commit."""
        rows = self._db().execute("SELECT uuid, meter FROM device WHERE meter IS NOT NULL")
        return {uuid: msgspec.json.decode(meter, type=MeterState) for uuid, meter in rows}

    def carries(self) -> dict[CostKey, int]:
        """What pricing's divisions had left over at the last commit."""
        names = {i: w for w, i in self._workload_ids.items()}
        rows = self._db().execute("SELECT uuid, workload, component, currency, carry FROM cost_total WHERE carry <> 0")
        return {(uuid, names[workload], component, currency): carry for uuid, workload, component, currency, carry in rows}

    def workloads(self) -> list[Workload]:
        """Every workload that has a place in the ledger, oldest first."""
        return list(self._workload_ids)

    def site_energy_mj(self, since_utc_ns: int) -> int:
        """Device energy booked in rows that began at an instant or later."""
        row = self._db().execute("SELECT COALESCE(SUM(energy_mj), 0) FROM usage WHERE start_ns >= ?", (since_utc_ns,))
        return int(row.fetchone()[0])

    def spend_since(self, since_utc_ns: int) -> list[tuple[int, Workload, str, int]]:
        """(start, workload, currency, cost) of every row that began at an instant or later: what budgets start from."""
        names = {i: w for w, i in self._workload_ids.items()}
        rows = self._db().execute(
            "SELECT start_ns, workload, currency, SUM(cost_nano) FROM usage WHERE start_ns >= ? AND currency <> '' "
            "GROUP BY start_ns, workload, currency", (since_utc_ns,))
        return [(start_ns, names[workload], currency, cost) for start_ns, workload, currency, cost in rows]

    def commit(self, batch: Batch, utc_ns: int) -> None:
        """Write a batch in one transaction; ``totals`` has it when this returns. A batch that is already there adds
        nothing. Raises LedgerError when the disk refuses; the batch may then be tried again as it is."""
        try:
            db = self._db()
            db.execute("BEGIN IMMEDIATE")
            try:
                known = self._already(db, batch)
                if not known:
                    self._write(db, batch, utc_ns)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            if known:
                self._totals = self._load_totals()
            else:
                self._totals = _added(self._totals, batch)
        except sqlite3.Error as error:
            self._disconnect()
            raise LedgerError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Release the file and the directory's lock."""
        self._disconnect()
        os.close(self._lock)

    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            self._open()
        if self._connection is None:
            raise LedgerError(f"{self.path}: not open")
        return self._connection

    def _disconnect(self) -> None:
        # What was interned in a transaction that failed is not in the file.
        self._workload_ids.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=2.0, cached_statements=32)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -1024")
            if self.path.stat().st_size <= QUICK_CHECK_MAX_BYTES:
                _check(connection)
            migrate(connection, self.path)
            self._connection = connection
            self._workload_ids = {
                tuple(msgspec.json.decode(tags)): i
                for i, tags in connection.execute("SELECT id, tags FROM workload ORDER BY id")}
            self._totals = self._load_totals()
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            self._connection = None
            connection.close()
            raise sqlite3.DatabaseError(f"malformed: {error}") from error
        except BaseException:
            self._connection = None
            connection.close()
            raise

    def _move_aside(self, utc_ns: int) -> Path:
        stamp = datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = self.path.with_name(f"{FILE_NAME}.corrupt-{stamp}")
        count = 1
        while aside.exists():
            count += 1
            aside = self.path.with_name(f"{FILE_NAME}.corrupt-{stamp}-{count}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(FILE_NAME + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        return aside

    @staticmethod
    def _already(db: sqlite3.Connection, batch: Batch) -> bool:
        already = False
        for session, last in batch.sequences.items():
            row = db.execute("SELECT sequence FROM session WHERE session = ?", (session,)).fetchone()
            if row is not None and row[0] >= batch.first_sequences[session]:
                if row[0] < last:
                    raise LedgerError(f"tick {row[0]} of {session} is committed, and a batch repeats it in part")
                already = True
        return already

    def _workload_id(self, db: sqlite3.Connection, workload: Workload) -> int:
        known = self._workload_ids.get(workload)
        if known is None:
            cursor = db.execute("INSERT INTO workload (tags) VALUES (?)", (msgspec.json.encode(workload).decode(),))
            known = self._workload_ids[workload] = int(cursor.lastrowid or 0)
        return known

    def _write(self, db: sqlite3.Connection, batch: Batch, utc_ns: int) -> None:
        ids = {workload: self._workload_id(db, workload) for _, workload in batch.workloads}
        db.executemany(
            "INSERT INTO session VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence, "
            "committed_ns = excluded.committed_ns",
            [(session, sequence, utc_ns) for session, sequence in batch.sequences.items()])
        db.execute("DELETE FROM session WHERE committed_ns < (SELECT MAX(committed_ns) FROM session) - 86400000000000 * 30")
        db.executemany(
            "INSERT INTO device (uuid, name, meter) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name, "
            "meter = COALESCE(excluded.meter, meter)",
            [(uuid, name, _encoded(batch.meters.get(uuid))) for uuid, name in batch.names.items()])
        db.executemany(
            "UPDATE device SET energy_mj = energy_mj + ?, gap_ns = gap_ns + ?, unpriced_mj = unpriced_mj + ? WHERE uuid = ?",
            [(*sums, uuid) for uuid, sums in batch.devices.items()])
        db.executemany(
            "INSERT INTO device_state VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET duration_ns = duration_ns + excluded.duration_ns",
            [(*key, duration_ns) for key, duration_ns in batch.states.items()])
        db.executemany(
            "INSERT INTO workload_total VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "energy_mj = energy_mj + excluded.energy_mj, gpu_ns = gpu_ns + excluded.gpu_ns, "
            "emissions_ug = emissions_ug + excluded.emissions_ug",
            [(uuid, ids[workload], *sums) for (uuid, workload), sums in batch.workloads.items()])
        db.executemany(
            "INSERT INTO cost_total VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "cost_nano = cost_nano + excluded.cost_nano, credit_nano = credit_nano + excluded.credit_nano, "
            "carry = excluded.carry",
            [(uuid, ids[workload], component, currency, *sums)
             for (uuid, workload, component, currency), sums in batch.costs.items()])
        db.executemany(
            "INSERT INTO waste_total VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET cost_nano = cost_nano + excluded.cost_nano",
            [(uuid, ids[workload], reason, currency, cost_nano)
             for (uuid, workload, reason, currency), cost_nano in batch.waste.items()])
        db.executemany(
            "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "energy_mj = energy_mj + excluded.energy_mj, gpu_ns = gpu_ns + excluded.gpu_ns, "
            "cost_nano = cost_nano + excluded.cost_nano, emissions_ug = emissions_ug + excluded.emissions_ug",
            [(start_ns, uuid, ids[workload], component, currency, tariff, rate, str(price), *sums)
             for (start_ns, uuid, workload, component, currency, tariff, rate, price), sums in batch.usage.items()])

    def _load_totals(self) -> Totals:
        db = self._db()
        names = {i: w for w, i in self._workload_ids.items()}
        devices = db.execute("SELECT uuid, energy_mj, gap_ns, unpriced_mj FROM device").fetchall()
        works = db.execute("SELECT uuid, workload, energy_mj, gpu_ns, emissions_ug FROM workload_total").fetchall()
        costs = db.execute("SELECT uuid, workload, component, currency, cost_nano, credit_nano FROM cost_total").fetchall()
        return Totals(
            device_energy_mj={d[0]: d[1] for d in devices},
            device_gap_ns={d[0]: d[2] for d in devices},
            device_unpriced_mj={d[0]: d[3] for d in devices},
            device_state_ns={(u, s): ns for u, s, ns in db.execute("SELECT uuid, state, duration_ns FROM device_state")},
            energy_mj={(w[0], names[w[1]]): w[2] for w in works},
            gpu_ns={(w[0], names[w[1]]): w[3] for w in works},
            emissions_ug={(w[0], names[w[1]]): w[4] for w in works},
            cost_nano={(c[0], names[c[1]], c[2], c[3]): c[4] for c in costs},
            credit_nano={(c[0], names[c[1]], c[2], c[3]): c[5] for c in costs if c[5]},
            waste_nano={
                (u, names[w], r, c): nano
                for u, w, r, c, nano in db.execute("SELECT uuid, workload, reason, currency, cost_nano FROM waste_total")},
        )


def _check(connection: sqlite3.Connection) -> None:
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise sqlite3.DatabaseError(f"malformed: {fault}")


def _encoded(state: MeterState | None) -> bytes | None:
    return msgspec.json.encode(state) if state is not None else None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that the file itself is bad, rather than that the disk or the permissions are."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return str(error).startswith("malformed")
    return (code & 0xFF) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def _lock(state_dir: Path) -> int:
    """Take the directory for this process alone. The lock goes with the process, however it ends."""
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LedgerError(
            f"{state_dir}: cannot keep the ledger here ({error.strerror}); "
            "set state_dir to a directory that this user may write") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
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


def _added(totals: Totals, batch: Batch) -> Totals:
    """The totals after a batch: the same sums that the transaction just made."""
    return Totals(
        device_energy_mj=_sum(totals.device_energy_mj, {u: s[0] for u, s in batch.devices.items()}, batch.names),
        device_gap_ns=_sum(totals.device_gap_ns, {u: s[1] for u, s in batch.devices.items()}, batch.names),
        device_unpriced_mj=_sum(totals.device_unpriced_mj, {u: s[2] for u, s in batch.devices.items()}, batch.names),
        device_state_ns=_sum(totals.device_state_ns, batch.states),
        energy_mj=_sum(totals.energy_mj, {k: s[0] for k, s in batch.workloads.items()}),
        gpu_ns=_sum(totals.gpu_ns, {k: s[1] for k, s in batch.workloads.items()}),
        emissions_ug=_sum(totals.emissions_ug, {k: s[2] for k, s in batch.workloads.items()}),
        cost_nano=_sum(totals.cost_nano, {k: s[0] for k, s in batch.costs.items()}),
        credit_nano=_sum(totals.credit_nano, {k: s[1] for k, s in batch.costs.items() if s[1]}),
        waste_nano=_sum(totals.waste_nano, batch.waste),
    )


def _sum(total: Mapping[_K, int], part: Mapping[_K, int], present: Mapping[_K, str] | None = None) -> dict[_K, int]:
    summed = dict(total)
    for key, value in part.items():
        summed[key] = summed.get(key, 0) + value
    for key in present or ():
        summed.setdefault(key, 0)
    return summed
