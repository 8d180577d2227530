"""All that a ledger's file says of where things stand: the totals, the numbers of workloads, and what goes on from a commit."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec
from msgspec import Struct

from agent.energy.metering import MeterState
from agent.ledger.batch import Batch, CostKey
from agent.ledger.totals import added, load_totals, load_workloads
from agent.ledger.write import ADD_STATE_COST, Interned, encoded, write_host
from agent.model import Totals, Workload
from agent.pricing.host_cost import HostState

WRONG_CONTENT: Final = (KeyError, TypeError, ValueError, msgspec.MsgspecError)   # what reading a damaged file may come to


class Standing(Struct):
    """As of the last commit. ``corrections`` counts the rows of re-ratings that the totals have in them."""

    totals: Totals
    numbers: dict[Workload, int]
    names: dict[str, str]                            # uuid -> NVML name
    meters: dict[str, MeterState]
    calibrations: dict[str, bytes]
    carries: dict[CostKey, int]
    host: HostState | None
    corrections: int

    def add(self, batch: Batch) -> None:
        """Go on by what a commit added."""
        self.totals = added(self.totals, batch)
        self.carries.update((key, sums[2]) for key, sums in batch.costs.items())
        self.names.update(batch.names)
        self.meters.update((uuid, meter) for uuid, meter in batch.meters.items() if uuid in batch.names)
        self.calibrations.update(batch.calibrations)
        self.host = batch.host or self.host

    def covers(self, other: Standing) -> bool:
        """Whether no total of another one is higher."""
        return all(
            getattr(self.totals, name).get(key, -1) >= value
            for name in Totals.__struct_fields__ for key, value in getattr(other.totals, name).items())


def read_standing(db: sqlite3.Connection) -> Standing:
    """Raises one of WRONG_CONTENT for a file that holds nonsense."""
    numbers = load_workloads(db)
    names = {number: workload for workload, number in numbers.items()}
    devices = db.execute("SELECT uuid, name, meter, calibration FROM device").fetchall()
    decoder = msgspec.json.Decoder(MeterState)
    host = db.execute("SELECT meter FROM host").fetchone()
    return Standing(
        totals=load_totals(db, numbers), numbers=numbers, names={uuid: name for uuid, name, _, _ in devices},
        meters={uuid: decoder.decode(meter) for uuid, _, meter, _ in devices if meter is not None},
        calibrations={uuid: blob for uuid, _, _, blob in devices if isinstance(blob, bytes)},
        carries={(uuid, names[workload], component, currency): carry for uuid, workload, component, currency, carry
                 in db.execute("SELECT uuid, workload, component, currency, carry FROM cost_total WHERE carry <> 0")},
        host=msgspec.json.decode(host[0], type=HostState) if host is not None else None, corrections=count_corrections(db))


def count_corrections(db: sqlite3.Connection) -> int:
    """How many rows re-ratings have written: where that has changed, another process has added to the totals."""
    return int(db.execute("SELECT COALESCE(SUM(rows), 0) FROM correction_run").fetchone()[0])


def write_opening(db: sqlite3.Connection, standing: Standing) -> None:
    """Begin an empty file where another one stood, so that no counter steps back, with its numbers for workloads, so that its
    rows can follow."""
    totals = standing.totals
    if standing.host is not None:
        write_host(db, standing.host)
    db.executemany("INSERT INTO workload VALUES (?, ?)",
                   [(number, msgspec.json.encode(workload).decode()) for workload, number in standing.numbers.items()])
    number = Interned(db, standing.numbers).number
    db.executemany(
        "INSERT INTO device (uuid, name, meter, calibration, energy_mj, gap_ns, unpriced_mj, opening_mj, opening_unpriced_mj) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5, ?7)",
        [(uuid, standing.names.get(uuid, ""), encoded(standing.meters.get(uuid)), standing.calibrations.get(uuid), energy_mj,
          totals.device_gap_ns.get(uuid, 0), totals.device_unpriced_mj.get(uuid, 0))
         for uuid, energy_mj in totals.device_energy_mj.items()])
    db.executemany("INSERT INTO device_state VALUES (?, ?, ?)", [(*key, ns) for key, ns in totals.device_state_ns.items()])
    db.executemany(
        "INSERT INTO workload_total VALUES (?1, ?2, ?3, ?4, ?5, ?3, ?4, ?5)",
        [(uuid, number(workload), energy_mj, totals.gpu_ns[uuid, workload], totals.emissions_ug[uuid, workload])
         for (uuid, workload), energy_mj in totals.energy_mj.items()])
    db.executemany(
        "INSERT INTO cost_total VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5 - ?6)",
        [(key[0], number(key[1]), *key[2:], cost_nano, totals.credit_nano.get(key, 0), standing.carries.get(key, 0))
         for key, cost_nano in totals.cost_nano.items()])
    db.executemany(
        "INSERT INTO state_total VALUES (?, ?, ?, ?, ?)",
        [(uuid, number(workload), state, gpu_ns, totals.state_energy_mj[uuid, workload, state])
         for (uuid, workload, state), gpu_ns in totals.state_gpu_ns.items()])
    db.executemany(
        ADD_STATE_COST,
        [(uuid, number(workload), state, currency, cost_nano)
         for (uuid, workload, state, currency), cost_nano in totals.state_cost_nano.items()])
