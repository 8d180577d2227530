"""The ledger's lifetime totals: read from the file, and carried on in memory by what each commit adds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from agent.errors import LedgerError
from agent.ledger.batch import WASTE_STATES, Batch
from agent.model import Totals, Workload

_LARGEST: Final = 2**63              # what a column of the ledger holds


def load_workloads(db: sqlite3.Connection) -> dict[Workload, int]:
    """Every workload and its number, oldest first. Raises ValueError for a file with wrong content."""
    decoder = msgspec.json.Decoder(tuple[str, ...])
    rows = db.execute("SELECT id, tags FROM workload ORDER BY id")
    return {decoder.decode(tags): number for number, tags in rows}


def load_totals(db: sqlite3.Connection, workloads: Mapping[Workload, int]) -> Totals:
    """The committed totals. Raises KeyError, TypeError or ValueError for a file with wrong content."""
    names = {number: workload for workload, number in workloads.items()}

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return db.execute(sql).fetchall()

    devices = rows("SELECT uuid, energy_mj, gap_ns, unpriced_mj FROM device")
    works = rows("SELECT uuid, workload, energy_mj, gpu_ns, emissions_ug FROM workload_total")
    costs = rows("SELECT uuid, workload, component, currency, cost_nano, credit_nano, carry FROM cost_total")
    states = rows("SELECT uuid, workload, state, gpu_ns, energy_mj FROM state_total")
    state_costs = rows("SELECT uuid, workload, state, currency, cost_nano FROM state_cost")
    durations = rows("SELECT uuid, state, duration_ns FROM device_state")
    _require(devices, 1)
    _require(works, 2)
    _require(costs, 4)
    _require(states, 3)
    _require(state_costs, 4)
    _require(durations, 2)
    state_cost_nano = {(u, names[w], s, c): nano for u, w, s, c, nano in state_costs}
    return Totals(
        device_energy_mj={d[0]: d[1] for d in devices},
        device_gap_ns={d[0]: d[2] for d in devices},
        device_unpriced_mj={d[0]: d[3] for d in devices},
        device_state_ns={(u, s): ns for u, s, ns in durations},
        energy_mj={(w[0], names[w[1]]): w[2] for w in works},
        gpu_ns={(w[0], names[w[1]]): w[3] for w in works},
        emissions_ug={(w[0], names[w[1]]): w[4] for w in works},
        cost_nano={(c[0], names[c[1]], c[2], c[3]): c[4] for c in costs},
        credit_nano={(c[0], names[c[1]], c[2], c[3]): c[5] for c in costs if c[5]},
        waste_nano=_waste(state_cost_nano),
        state_gpu_ns={(s[0], names[s[1]], s[2]): s[3] for s in states},
        state_energy_mj={(s[0], names[s[1]], s[2]): s[4] for s in states},
        state_cost_nano=state_cost_nano,
    )


def added(totals: Totals, batch: Batch) -> Totals:
    """The totals after a batch: the same sums that its transaction just made."""
    sums = {field: _sum(getattr(totals, field), part) for field, part in _parts(batch).items()}
    for uuid in batch.names:
        for field in ("device_energy_mj", "device_gap_ns", "device_unpriced_mj"):
            sums[field].setdefault(uuid, 0)
    return Totals(**sums, waste_nano=_waste(sums["state_cost_nano"]))


def require_room(totals: Totals, batch: Batch) -> None:
    """Raise LedgerError where a batch would take a total past what a column holds: SQLite would make a floating point number
    of it, and say nothing."""
    for field, part in _parts(batch).items():
        total = getattr(totals, field)
        for key, amount in part.items():
            if total.get(key, 0) + amount >= _LARGEST:
                of = key if isinstance(key, tuple) else (key,)
                place = " ".join("/".join(filter(None, name)) if isinstance(name, tuple) else name for name in of)
                raise LedgerError(
                    f"{field} of {place} would be {total.get(key, 0) + amount}, and {_LARGEST - 1} is the most that a ledger "
                    "holds; stop the agent and move the ledger away: the counters begin anew without it")


def _parts(batch: Batch) -> dict[str, dict[Any, int]]:
    """What a batch adds, by the totals' field."""
    return {
        "device_energy_mj": {u: s[0] for u, s in batch.devices.items()},
        "device_gap_ns": {u: s[1] for u, s in batch.devices.items()},
        "device_unpriced_mj": {u: s[2] for u, s in batch.devices.items()},
        "device_state_ns": batch.states,
        "energy_mj": {k: s[0] for k, s in batch.workloads.items()},
        "gpu_ns": {k: s[1] for k, s in batch.workloads.items()},
        "emissions_ug": {k: s[2] for k, s in batch.workloads.items()},
        "cost_nano": {k: s[0] for k, s in batch.costs.items()},
        "credit_nano": {k: s[1] for k, s in batch.costs.items() if s[1]},
        "state_gpu_ns": {k: s[0] for k, s in batch.state_use.items()},
        "state_energy_mj": {k: s[1] for k, s in batch.state_use.items()},
        "state_cost_nano": batch.state_costs,
    }


def _waste(state_cost_nano: Mapping[tuple[str, Workload, str, str], int]) -> dict[tuple[str, Workload, str, str], int]:
    return {key: nano for key, nano in state_cost_nano.items() if key[2] in WASTE_STATES}


def _sum(total: Mapping[Any, int], part: Mapping[Any, int]) -> dict[Any, int]:
    summed = dict(total)
    for key, value in part.items():
        summed[key] = summed.get(key, 0) + value
    return summed


def _require(rows: Iterable[tuple[Any, ...]], first: int) -> None:
    """The first column names a device, those from ``first`` on are amounts: SQLite itself would keep anything there."""
    for row in rows:
        if type(row[0]) is not str:
            raise ValueError(f"{row[0]!r} where a device is named")
        for value in row[first:]:
            if type(value) is not int or not 0 <= value < _LARGEST:
                raise ValueError(f"{value!r} where an amount stands")
