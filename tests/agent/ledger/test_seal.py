"""Every slice of every table is sealed by whoever writes it, and a row that changed is named by its slice alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.seal import SEALED, WORKLOADS, broken, install, seal_all
from tests.agent.priced import book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")
DEVICES = ("GPU-a", "GPU-b")
NAMED = tuple((f"project-{n}", "", "", "") for n in range(WORKLOADS + 8))        # two slices of totals on each device


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    ledger = Ledger(tmp_path / "state", START_NS)
    for uuid in DEVICES:
        book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 3, workloads=NAMED, session=uuid, uuid=uuid)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)) as connection:
        install(connection)
        yield connection


def test_commits_seal_all_that_they_write(db: sqlite3.Connection) -> None:
    assert list(broken(db)) == []
    sealed = db.execute("SELECT * FROM seal").fetchall()
    db.execute("BEGIN")
    seal_all(db)
    assert db.execute("SELECT * FROM seal").fetchall() == sealed         # nothing is sealed that is not there
    assert {name for name, _, _ in sealed} == set(SEALED) - {"correction", "correction_run", "host"}     # those are empty


@pytest.mark.parametrize(("change", "place"), [
    ("UPDATE workload_total SET gpu_ns = gpu_ns + 1 WHERE uuid = 'GPU-b' AND workload = 1", "workload_total of GPU-b/0"),
    ("UPDATE cost_total SET carry = carry + 1 WHERE uuid = 'GPU-a' AND workload = 33", "cost_total of GPU-a/1"),
    ("UPDATE state_total SET energy_mj = 0 WHERE uuid = 'GPU-b' AND workload = 32", "state_total of GPU-b/1"),
    ("DELETE FROM state_cost WHERE uuid = 'GPU-a' AND workload = 31", "state_cost of GPU-a/0"),
    ("UPDATE workload SET tags = '[]' WHERE id = 7", "workload of 7"),
    ("UPDATE device SET meter = NULL WHERE uuid = 'GPU-b'", "device of GPU-b"),
    ("UPDATE device_state SET duration_ns = duration_ns - 1 WHERE uuid = 'GPU-a'", "device_state of GPU-a"),
    ("UPDATE session SET sequence = sequence + 1 WHERE session = 'GPU-a'", "session"),
    ("UPDATE mark SET value = 9 WHERE name = 'schema'", "mark"),
    ("UPDATE usage SET rate = 'fla' WHERE uuid = 'GPU-b' AND workload = 3 AND start_ns % 7200000000000 = 900000000000",
     "usage of 2026-03-01T00:15:00+00:00"),
    ("DELETE FROM summary WHERE workload = 3 AND start_ns % 7200000000000 = 1800000000000",
     "summary of 2026-03-01T00:30:00+00:00"),
    ("UPDATE usage SET span_ns = span_ns + 1 WHERE workload = 3 AND start_ns % 7200000000000 = 0",
     "usage of 2026-03-01T00:00:00+00:00"),
    ("UPDATE seal SET name = 'sqmmary' WHERE name = 'summary' AND slice % 7200000000000 = 0",
     "summary of 2026-03-01T00:00:00+00:00"),
    ("INSERT INTO correction SELECT start_ns, uuid, workload, component, currency, tariff, rate, price, 0, 0, 0, 0, span_ns "
     "FROM usage WHERE start_ns % 7200000000000 = 0 LIMIT 1", "correction of 2026-03-01T00:00:00+00:00"),
])
def test_a_change_that_nobody_sealed_is_named_by_its_place(db: sqlite3.Connection, change: str, place: str) -> None:
    assert db.execute(change).rowcount > 0
    faults = [fault for fault in broken(db) if "which is no table" not in fault]
    assert faults == [f"{place} is not what was written"]
