"""What one transaction writes: a batch of ticks."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from agent.energy.metering import MeterState
from agent.errors import LedgerError
from agent.ledger.batch import Batch
from agent.ledger.seal import Touched
from agent.model import Workload
from agent.pricing.host_cost import HostState
from agent.units import NS_PER_HOUR

SESSION_KEPT_NS: Final = 30 * 24 * NS_PER_HOUR

ADD_USAGE: Final = (
    "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "energy_mj = energy_mj + excluded.energy_mj, gpu_ns = gpu_ns + excluded.gpu_ns, "
    "cost_nano = cost_nano + excluded.cost_nano, emissions_ug = emissions_ug + excluded.emissions_ug, "
    "span_ns = MAX(span_ns, excluded.span_ns)")          # a reload may have moved the end of what begins then
ADD_CORRECTION: Final = ADD_USAGE.replace("usage", "correction", 1)
ADD_SUMMARY: Final = (
    "INSERT INTO summary VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "energy_mj = energy_mj + excluded.energy_mj, gpu_ns = gpu_ns + excluded.gpu_ns, "
    "cost_nano = cost_nano + excluded.cost_nano, emissions_ug = emissions_ug + excluded.emissions_ug, "
    "span_ns = MAX(span_ns, excluded.span_ns)")
ADD_COST: Final = (
    "INSERT INTO cost_total (uuid, workload, component, currency, cost_nano, credit_nano, carry) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET cost_nano = cost_nano + excluded.cost_nano, credit_nano = credit_nano + excluded.credit_nano")
ADD_STATE_COST: Final = (
    "INSERT INTO state_cost VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET cost_nano = cost_nano + excluded.cost_nano")


class Interned:
    """The workloads that have a number in the file."""

    def __init__(self, db: sqlite3.Connection, numbers: Mapping[Workload, int]) -> None:
        self.numbers = dict(numbers)
        self.new: set[int] = set()               # numbers that were given since somebody emptied this
        self._db = db

    def number(self, workload: Workload) -> int:
        """The workload's number; it is given one, in the present transaction, where it has none."""
        known = self.numbers.get(workload)
        if known is None:
            tags = msgspec.json.encode(workload).decode()
            cursor = self._db.execute("INSERT INTO workload (tags) VALUES (?)", (tags,))
            known = self.numbers[workload] = int(cursor.lastrowid or 0)
            self.new.add(known)
        return known


def is_committed(db: sqlite3.Connection, batch: Batch) -> bool:
    """Whether the batch is in the file already. Raises LedgerError where a part of it is: that one cannot be told apart."""
    committed = False
    for session, last in batch.sequences.items():
        row = db.execute("SELECT sequence FROM session WHERE session = ?", (session,)).fetchone()
        if row is not None and row[0] >= batch.first_sequences[session]:
            if row[0] < last:
                raise LedgerError(f"tick {row[0]} of {session} is committed, and a batch repeats it in part")
            committed = True
    return committed


def write_batch(db: sqlite3.Connection, interned: Interned, batch: Batch, utc_ns: int) -> None:
    """Add a batch to rows and totals alike. The caller's transaction holds them together."""
    number = interned.number
    touched = _touched(interned, batch)
    touched.require_good(db)
    db.executemany(
        "INSERT INTO session VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence, "
        "committed_ns = excluded.committed_ns",
        [(session, sequence, utc_ns) for session, sequence in batch.sequences.items()])
    # Never one of this batch, whatever a clock that was wrong has written: it may be repeated.
    db.execute(f"DELETE FROM session WHERE committed_ns < ? AND session NOT IN ({', '.join('?' * len(batch.sequences))})",  # noqa: S608 - question marks
               (utc_ns - SESSION_KEPT_NS, *batch.sequences))
    db.executemany(
        "INSERT INTO device (uuid, name, meter, calibration) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "name = excluded.name, meter = COALESCE(excluded.meter, meter), "
        "calibration = COALESCE(excluded.calibration, calibration)",
        [(uuid, name, encoded(batch.meters.get(uuid)), batch.calibrations.get(uuid)) for uuid, name in batch.names.items()])
    if batch.host is not None:
        write_host(db, batch.host)
    db.executemany(
        "UPDATE device SET energy_mj = energy_mj + ?, gap_ns = gap_ns + ?, unpriced_mj = unpriced_mj + ? WHERE uuid = ?",
        [(*sums, uuid) for uuid, sums in batch.devices.items()])
    db.executemany(
        "INSERT INTO device_state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET duration_ns = duration_ns + excluded.duration_ns",
        [(*key, duration_ns) for key, duration_ns in batch.states.items()])
    db.executemany(
        "INSERT INTO workload_total (uuid, workload, energy_mj, gpu_ns, emissions_ug) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET energy_mj = energy_mj + excluded.energy_mj, gpu_ns = gpu_ns + excluded.gpu_ns, "
        "emissions_ug = emissions_ug + excluded.emissions_ug",
        [(uuid, number(workload), *sums) for (uuid, workload), sums in batch.workloads.items()])
    db.executemany(
        ADD_COST + ", carry = excluded.carry",
        [(uuid, number(workload), component, currency, *sums)
         for (uuid, workload, component, currency), sums in batch.costs.items()])
    db.executemany(
        "INSERT INTO state_total VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET gpu_ns = gpu_ns + excluded.gpu_ns, energy_mj = energy_mj + excluded.energy_mj",
        [(uuid, number(workload), state, *sums) for (uuid, workload, state), sums in batch.state_use.items()])
    db.executemany(
        ADD_STATE_COST,
        [(uuid, number(workload), state, currency, cost_nano)
         for (uuid, workload, state, currency), cost_nano in batch.state_costs.items()])
    summary: dict[tuple[int, int, str], list[int]] = {}     # amounts, and the longest span of the rows in it
    rows: list[tuple[int | str, ...]] = []
    for ((start_ns, end_ns), uuid, workload, component, currency, tariff, rate, price), sums in batch.usage.items():
        rows.append((start_ns, uuid, number(workload), component, currency, tariff, rate, str(price), *sums, end_ns - start_ns))
        amounts = summary.setdefault((start_ns, number(workload), currency), [0, 0, 0, 0, 0])
        for i, amount in enumerate(sums):
            amounts[i] += amount
        amounts[4] = max(amounts[4], end_ns - start_ns)
    db.executemany(ADD_USAGE, rows)
    db.executemany(ADD_SUMMARY, [(*key, *amounts) for key, amounts in summary.items()])
    touched.add("workload", [(new,) for new in interned.new])
    interned.new.clear()
    touched.seal(db)


def _touched(interned: Interned, batch: Batch) -> Touched:
    number = interned.number
    touched = Touched()
    touched.add("session", [()])
    touched.add("host", [()])
    touched.add("device", [(uuid,) for uuid in batch.names.keys() | batch.devices.keys()])
    touched.add("device_state", [(uuid,) for uuid, _ in batch.states])
    for table, keys in (("workload_total", batch.workloads), ("cost_total", batch.costs), ("state_total", batch.state_use),
                        ("state_cost", batch.state_costs)):
        touched.add_totals(table, {(key[0], number(key[1])) for key in keys})
    for table in ("usage", "summary"):
        touched.add(table, {(key[0][0],) for key in batch.usage})
    return touched


def write_host(db: sqlite3.Connection, state: HostState) -> None:
    db.execute("INSERT INTO host VALUES (1, ?) ON CONFLICT DO UPDATE SET meter = excluded.meter", (msgspec.json.encode(state),))


def encoded(state: MeterState | None) -> bytes | None:
    return msgspec.json.encode(state) if state is not None else None
