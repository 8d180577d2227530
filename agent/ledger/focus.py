"""The ledger's rows as charges over time: what a cost and usage export is made of.

A row of ``usage`` is a quarter of an hour at most, at one price. Those that follow each other at the same price are joined,
within one hour of UTC and one billing month; rows that a roll-up has made longer stay as long as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from agent.calendar.periods import Period, period_at
from agent.errors import LedgerError
from agent.ledger.query import open_for_reading
from agent.model import FOREVER_NS, Workload
from agent.units import NS_PER_HOUR

_COLUMNS = ("start_ns, span_ns, uuid, workload, component, currency, tariff, rate, price, "
            "energy_mj, gpu_ns, cost_nano, emissions_ug")


class ChargeRow(Struct, frozen=True, gc=False):
    """What one workload owes for one component on one device, at one price, in [start_ns, end_ns)."""

    start_ns: int
    end_ns: int
    month: Period                    # the billing month around it, in the zone asked for
    uuid: str
    device_name: str
    workload: Workload
    component: str
    currency: str                    # "": nobody knows a price
    tariff: str
    rate: str
    price: int                       # as Charge.price
    energy_mj: int                   # on the energy component only, as gpu_ns and emissions_ug
    gpu_ns: int
    cost_nano: int
    emissions_ug: int
    correction: bool                 # booked later, by a re-rating


def charge_rows(state_dir: Path, from_ns: int | None, to_ns: int | None, zone: ZoneInfo) -> Iterator[ChargeRow]:
    """The charges whose rows began in [from, to), by hour, then those of corrections. Their sums are the ledger's.

    One state of the ledger, read as it goes: memory is bounded by an hour's rows. Raises LedgerError.
    """
    db = open_for_reading(state_dir)
    try:
        db.execute("BEGIN")
        workloads = {i: tuple(msgspec.json.decode(tags)) for i, tags in db.execute("SELECT id, tags FROM workload")}
        names = dict(db.execute("SELECT uuid, name FROM device"))
        span = (from_ns or 0, FOREVER_NS if to_ns is None else to_ns)
        for table in ("usage", "correction"):
            sql = f"SELECT {_COLUMNS} FROM {table} WHERE start_ns >= ? AND start_ns < ? ORDER BY start_ns"  # noqa: S608 - names from here
            yield from _joined(db.execute(sql, span), names, workloads, zone, table == "correction")
    except sqlite3.Error as error:
        raise LedgerError(f"{state_dir}: the ledger cannot be read ({error})") from error
    finally:
        db.close()


def _joined(rows: Iterator[tuple[Any, ...]], names: dict[str, str], workloads: dict[int, Workload], zone: ZoneInfo,
            correction: bool) -> Iterator[ChargeRow]:
    hour, month = -1, Period("", 0, 0)
    open_runs: dict[tuple[Any, ...], list[int]] = {}         # key -> start, end, energy, time, cost, emissions: the last run
    done: list[tuple[list[int], tuple[Any, ...], Period]] = []

    def close() -> list[ChargeRow]:
        done.extend((run, key, month) for key, run in open_runs.items())
        open_runs.clear()
        found = [_charge(run, key, period, names, workloads, correction) for run, key, period in done]
        done.clear()
        return sorted(found, key=lambda row: (row.start_ns, row.uuid, row.workload, row.component, row.rate, row.end_ns))

    for start_ns, span_ns, *key, energy_mj, gpu_ns, cost_nano, emissions_ug in rows:
        if start_ns // NS_PER_HOUR != hour or not month.start_utc_ns <= start_ns < month.end_utc_ns:
            yield from close()
            hour, month = start_ns // NS_PER_HOUR, period_at("month", start_ns, zone)
        amounts = [start_ns, start_ns + span_ns, energy_mj, gpu_ns, cost_nano, emissions_ug]
        run = open_runs.get(tuple(key))
        if run is not None and run[1] == start_ns and amounts[1] - run[0] <= NS_PER_HOUR:
            run[1] = amounts[1]
            for i in range(2, 6):
                run[i] += amounts[i]
            continue
        if run is not None:
            done.append((run, tuple(key), month))
        open_runs[tuple(key)] = amounts
    yield from close()


def _charge(run: list[int], key: tuple[Any, ...], month: Period, names: dict[str, str], workloads: dict[int, Workload],
            correction: bool) -> ChargeRow:
    start_ns, end_ns, energy_mj, gpu_ns, cost_nano, emissions_ug = run
    uuid, workload, component, currency, tariff, rate, price = key
    return ChargeRow(start_ns, end_ns, month, uuid, names.get(uuid, ""), workloads[workload], component, currency, tariff, rate,
                     int(price), energy_mj, gpu_ns, cost_nano, emissions_ug, correction)
