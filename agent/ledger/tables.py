"""The ledger's tables, version by version, as SQL."""

from __future__ import annotations

import sqlite3
from typing import Final

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

# Version 2. What a workload used in each state of the device takes the place of the waste alone; what version 1 did not
# tell apart is "unknown". ``summary`` is ``usage`` and ``correction`` by workload: reports, budgets and tiers read it, and it
# is a fraction as long. ``span_ns`` is how much time a row stands for: a roll-up makes it longer. ``correction`` holds what
# re-rating adds, in rows like those of usage. The ``opening`` columns are what the totals were when this file began (not 0
# where it took the place of a damaged one): total - opening = sum of rows.
_VERSION_2: Final = """
ALTER TABLE device ADD COLUMN calibration BLOB;
ALTER TABLE device ADD COLUMN opening_mj INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN opening_unpriced_mj INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workload_total ADD COLUMN opening_mj INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workload_total ADD COLUMN opening_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workload_total ADD COLUMN opening_ug INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cost_total ADD COLUMN opening_nano INTEGER NOT NULL DEFAULT 0;
CREATE TABLE state_total (
    uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload, state TEXT NOT NULL,
    gpu_ns INTEGER NOT NULL, energy_mj INTEGER NOT NULL, PRIMARY KEY (uuid, workload, state)
) WITHOUT ROWID;
CREATE TABLE state_cost (
    uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload, state TEXT NOT NULL, currency TEXT NOT NULL,
    cost_nano INTEGER NOT NULL, PRIMARY KEY (uuid, workload, state, currency)
) WITHOUT ROWID;
INSERT INTO state_total SELECT uuid, workload, 'unknown', gpu_ns, energy_mj FROM workload_total;
INSERT INTO state_cost SELECT uuid, workload, reason, currency, cost_nano FROM waste_total;
INSERT INTO state_cost
    SELECT uuid, workload, 'unknown', currency, SUM(cost_nano) - (
        SELECT COALESCE(SUM(w.cost_nano), 0) FROM waste_total w
        WHERE w.uuid = c.uuid AND w.workload = c.workload AND w.currency = c.currency)
    FROM cost_total c GROUP BY uuid, workload, currency;
DROP TABLE waste_total;
ALTER TABLE usage ADD COLUMN span_ns INTEGER NOT NULL DEFAULT 900000000000;
CREATE TABLE correction (
    start_ns INTEGER NOT NULL, uuid TEXT NOT NULL, workload INTEGER NOT NULL REFERENCES workload,
    component TEXT NOT NULL, currency TEXT NOT NULL, tariff TEXT NOT NULL, rate TEXT NOT NULL, price TEXT NOT NULL,
    energy_mj INTEGER NOT NULL, gpu_ns INTEGER NOT NULL, cost_nano INTEGER NOT NULL, emissions_ug INTEGER NOT NULL,
    span_ns INTEGER NOT NULL,
    PRIMARY KEY (start_ns, uuid, workload, component, currency, tariff, rate, price)
) WITHOUT ROWID;
CREATE TABLE correction_run (
    id INTEGER PRIMARY KEY, utc_ns INTEGER NOT NULL, from_ns INTEGER NOT NULL, to_ns INTEGER NOT NULL, rows INTEGER NOT NULL
);
CREATE TABLE summary (
    start_ns INTEGER NOT NULL, workload INTEGER NOT NULL REFERENCES workload, currency TEXT NOT NULL,
    energy_mj INTEGER NOT NULL, gpu_ns INTEGER NOT NULL, cost_nano INTEGER NOT NULL, emissions_ug INTEGER NOT NULL,
    span_ns INTEGER NOT NULL, PRIMARY KEY (start_ns, workload, currency)
) WITHOUT ROWID;
INSERT INTO summary
    SELECT start_ns, workload, currency, SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano), SUM(emissions_ug), MAX(span_ns)
    FROM usage GROUP BY start_ns, workload, currency;
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO mark VALUES ('schema', 2);
"""

# Version 3. ``seal`` has a digest of what each slice of each table says (seal.py). ``host``: up to where it has been charged.
_VERSION_3: Final = """
CREATE TABLE seal (name TEXT NOT NULL, slice NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (name, slice)) WITHOUT ROWID;
CREATE TABLE host (id INTEGER PRIMARY KEY CHECK (id = 1), meter BLOB NOT NULL);
UPDATE mark SET value = 3 WHERE name = 'schema';
"""

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, _VERSION_3)     # MIGRATIONS[n] leads from version n to n + 1


def model() -> sqlite3.Connection:
    """An empty ledger of the newest version, in memory: what the tables of one are, to the letter."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for step in MIGRATIONS:
        db.executescript(step)
    return db
