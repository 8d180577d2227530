"""The ledger's tables, and how an older file becomes a newer one. Forward only, by ``user_version``."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Final

from agent.errors import LedgerError

# Version 1. Money is integer nano-units, energy integer mJ, time integer ns; instants are ns of UTC.
# ``usage`` has one row per device x workload x component x price within a quarter of an hour at most; energy and time stand on
# the ``energy`` component's rows only, so that a sum over components does not repeat them.
_VERSION_1: Final = """
CREATE TABLE session (session TEXT PRIMARY KEY, sequence INTEGER NOT NULL, committed_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE workload (id INTEGER PRIMARY KEY, tags TEXT NOT NULL UNIQUE);
CREATE TABLE device (
    uuid TEXT PRIMARY KEY, name TEXT NOT NULL, meter BLOB,
    energy_mj INTEGER NOT NULL DEFAULT 0, gap_ns INTEGER NOT NULL DEFAULT 0, unpriced_mj INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE device_state (
    uuid TEXT NOT NULL, state TEXT NOT NULL, duration_ns INTEGER NOT NULL, PRIMARY KEY (uuid, state)
) WITHOUT ROWID;
CREATE TABLE workload_total (
    uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload,
    energy_mj INTEGER NOT NULL, gpu_ns INTEGER NOT NULL, emissions_ug INTEGER NOT NULL,
    PRIMARY KEY (uuid, workload)
) WITHOUT ROWID;
CREATE TABLE cost_total (
    uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload, component TEXT NOT NULL, currency TEXT NOT NULL,
    cost_nano INTEGER NOT NULL, credit_nano INTEGER NOT NULL, carry INTEGER NOT NULL,
    PRIMARY KEY (uuid, workload, component, currency)
) WITHOUT ROWID;
CREATE TABLE waste_total (
    uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload, reason TEXT NOT NULL, currency TEXT NOT NULL,
    cost_nano INTEGER NOT NULL, PRIMARY KEY (uuid, workload, reason, currency)
) WITHOUT ROWID;
CREATE TABLE usage (
    start_ns INTEGER NOT NULL, uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload,
    component TEXT NOT NULL, currency TEXT NOT NULL, tariff TEXT NOT NULL, rate TEXT NOT NULL, price TEXT NOT NULL,
    energy_mj INTEGER NOT NULL, gpu_ns INTEGER NOT NULL, cost_nano INTEGER NOT NULL, emissions_ug INTEGER NOT NULL,
    PRIMARY KEY (start_ns, uuid, workload, component, currency, tariff, rate, price)
) WITHOUT ROWID;
"""

MIGRATIONS: Final = (_VERSION_1,)                # MIGRATIONS[n] leads from version n to n + 1


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an open ledger to the newest version, one transaction a step; a copy is kept before the first.

    Raises LedgerError for a ledger that a newer agent has written.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{path}: written by a newer agent (schema {version}, this one knows {len(MIGRATIONS)}); "
            "install that version again, or point state_dir elsewhere")
    if 0 < version < len(MIGRATIONS):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(path, path.with_name(f"{path.name}.v{version}"))
    for step in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[step]} PRAGMA user_version = {step + 1}; COMMIT;")
