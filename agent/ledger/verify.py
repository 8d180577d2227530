"""Recomputes every total of a ledger from its rows, and checks that the sums that must agree do."""

from __future__ import annotations

import sqlite3
from typing import Final

from agent.ledger.schema import check_schema
from agent.ledger.seal import SEALED, broken, install

# Each: what is compared, and a query whose rows are what differs. The last two columns are the figure as it stands and as
# the rows give it; the columns before say where.
_ALL_ROWS: Final = """(
    SELECT start_ns, uuid, workload, component, currency, energy_mj, gpu_ns, cost_nano, emissions_ug FROM usage UNION ALL
    SELECT start_ns, uuid, workload, component, currency, energy_mj, gpu_ns, cost_nano, emissions_ug FROM correction)"""


def _compared(key: str, stands: str, rows: str) -> str:
    """The keys at which two (key, amount) queries differ, with both amounts; a missing one is 0."""
    return (f"SELECT {key}, SUM(a), SUM(b) FROM (SELECT {key}, amount AS a, 0 AS b FROM ({stands}) "  # noqa: S608 - constants below
            f"UNION ALL SELECT {key}, 0, amount FROM ({rows})) GROUP BY {key} HAVING SUM(a) <> SUM(b)")


def _workload(total: str, opening: str, column: str) -> str:
    return _compared(
        "uuid, workload", f"SELECT uuid, workload, {total} - {opening} AS amount FROM workload_total",  # noqa: S608 - names from above
        f"SELECT uuid, workload, SUM({column}) AS amount FROM {_ALL_ROWS} GROUP BY uuid, workload")  # noqa: S608 - names from above


def _summary(column: str) -> str:
    return _compared(
        "start_ns, workload, currency", f"SELECT start_ns, workload, currency, {column} AS amount FROM summary",  # noqa: S608 - names from above
        f"SELECT start_ns, workload, currency, SUM({column}) AS amount FROM {_ALL_ROWS} "  # noqa: S608 - names from above
        "GROUP BY start_ns, workload, currency")


_CHECKS: Final = {
    "the devices' energy in mJ and the workloads'": (
        "SELECT (SELECT COALESCE(SUM(energy_mj), 0) FROM device) AS a, "
        "(SELECT COALESCE(SUM(energy_mj), 0) FROM workload_total) AS b WHERE a <> b"),
    "a workload's energy in mJ and its rows'": _workload("energy_mj", "opening_mj", "energy_mj"),
    "a workload's GPU time in ns and its rows'": _workload("gpu_ns", "opening_ns", "gpu_ns"),
    "a workload's emissions in ug and its rows'": _workload("emissions_ug", "opening_ug", "emissions_ug"),
    "cost less credit in nano-units and the rows'": _compared(
        "uuid, workload, component, currency",
        "SELECT uuid, workload, component, currency, cost_nano - credit_nano - opening_nano AS amount FROM cost_total",
        f"SELECT uuid, workload, component, currency, SUM(cost_nano) AS amount FROM {_ALL_ROWS} "  # noqa: S608 - names from above
        "GROUP BY uuid, workload, component, currency"),
    # Cost may be negative: a credit, or a correction whose span was lost. The others are not.
    "what a total began with and what it can have begun with": (
        "SELECT uuid, workload, opening, MAX(0, MIN(opening, total)) FROM ("
        "SELECT uuid, workload, opening_mj AS opening, energy_mj AS total FROM workload_total "
        "UNION ALL SELECT uuid, workload, opening_ns, gpu_ns FROM workload_total "
        "UNION ALL SELECT uuid, workload, opening_ug, emissions_ug FROM workload_total "
        "UNION ALL SELECT uuid, '-', opening_mj, energy_mj FROM device "
        "UNION ALL SELECT uuid, '-', opening_unpriced_mj, unpriced_mj FROM device) WHERE opening NOT BETWEEN 0 AND total"),
    "a device's unpriced energy in mJ and its rows'": _compared(
        "uuid", "SELECT uuid, unpriced_mj - opening_unpriced_mj AS amount FROM device",
        "SELECT uuid, SUM(energy_mj) AS amount FROM usage WHERE component = 'energy' AND rate = '' GROUP BY uuid"),
    "a workload's GPU time in ns and its states'": _compared(
        "uuid, workload", "SELECT uuid, workload, gpu_ns AS amount FROM workload_total",
        "SELECT uuid, workload, SUM(gpu_ns) AS amount FROM state_total GROUP BY uuid, workload"),
    "a workload's energy in mJ and its states'": _compared(
        "uuid, workload", "SELECT uuid, workload, energy_mj AS amount FROM workload_total",
        "SELECT uuid, workload, SUM(energy_mj) AS amount FROM state_total GROUP BY uuid, workload"),
    "a workload's cost in nano-units and its states'": _compared(
        "uuid, workload, currency",
        "SELECT uuid, workload, currency, SUM(cost_nano) AS amount FROM cost_total GROUP BY uuid, workload, currency",
        "SELECT uuid, workload, currency, SUM(cost_nano) AS amount FROM state_cost GROUP BY uuid, workload, currency"),
    "energy that corrections move, in mJ, and none": (
        "SELECT uuid, workload, SUM(energy_mj), 0 FROM correction GROUP BY uuid, workload HAVING SUM(energy_mj) <> 0"),
    "the summary's energy in mJ and the rows'": _summary("energy_mj"),
    "the summary's GPU time in ns and the rows'": _summary("gpu_ns"),
    "the summary's cost in nano-units and the rows'": _summary("cost_nano"),
    "the summary's emissions in ug and the rows'": _summary("emissions_ug"),
}

MOST_NAMED: Final = 5                            # differences of one kind that are named


def verify(db: sqlite3.Connection) -> list[str]:
    """A sentence for each thing that is wrong; none for a good ledger. One state of the file, beside a daemon too."""
    faults = []
    try:
        faults += [f"SQLite: {row[0]}" for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
        db.execute("BEGIN")
        install(db)
        check_schema(db)
        for table in SEALED:
            places = list(broken(db, [table]))
            faults += places[:MOST_NAMED]
            if len(places) > MOST_NAMED:
                faults.append(f"{table} is not what was written at {len(places) - MOST_NAMED} more places")
        for what, differing in _CHECKS.items():
            rows = db.execute(differing).fetchall()
            for *where, stands, counted in rows[:MOST_NAMED]:
                place = f" ({', '.join(str(part) for part in where)})" if where else ""
                faults.append(f"{what} differ{place}: {stands} and {counted}")
            if len(rows) > MOST_NAMED:
                faults.append(f"{what} differ at {len(rows) - MOST_NAMED} more places")
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        faults.append(f"SQLite: {error}")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return faults
