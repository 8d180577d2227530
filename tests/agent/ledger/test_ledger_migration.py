"""A ledger of an earlier version is taken up whole, and a copy of it kept."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import LedgerError
from agent.ledger.at_rest import forget_at_rest
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.tables import MIGRATIONS
from tests.agent.ledger.test_ledger import KRONOS, batch
from tests.agent.records import NOON_NS, UUID

SECOND = UUID[:-1] + "6"
IDLE = ("__idle__", "", "", "")


@pytest.fixture
def version_1(tmp_path: Path, repository: Path) -> Path:
    """Eight quarters of an hour, written by the program that knew version 1 only."""
    packed = repository / "tests" / "agent" / "ledgers" / "ledger-v1.sqlite3.gz"
    (tmp_path / FILE_NAME).write_bytes(gzip.decompress(packed.read_bytes()))
    return tmp_path


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def test_version_1_keeps_every_total_and_row(version_1: Path) -> None:
    before = tables(version_1 / FILE_NAME)
    ledger = Ledger(version_1, NOON_NS)
    assert ledger.set_aside is None
    totals = ledger.totals
    ledger.close()
    assert totals.device_energy_mj == {UUID: 5_600, SECOND: 11_900}
    assert totals.device_unpriced_mj == {UUID: 0, SECOND: 700}
    assert totals.cost_nano == {(UUID, KRONOS, "energy", "CNY"): 88, (UUID, KRONOS, "hardware", "CNY"): 56,
                                (SECOND, IDLE, "energy", "CNY"): 32, (SECOND, KRONOS, "energy", "CNY"): 0}
    assert totals.credit_nano == {(SECOND, KRONOS, "energy", "CNY"): 16}
    assert totals.waste_nano == {(SECOND, IDLE, "unallocated", "CNY"): 32}
    after = tables(version_1 / FILE_NAME)
    assert [row[:-1] for row in after["usage"]] == before["usage"]
    assert {row[-1] for row in after["usage"]} == {900 * 10**9}


def test_what_version_1_did_not_tell_apart_is_unknown_and_sums_to_the_totals(version_1: Path) -> None:
    ledger = Ledger(version_1, NOON_NS)
    totals = ledger.totals
    ledger.close()
    assert totals.state_cost_nano == {
        (UUID, KRONOS, "unknown", "CNY"): 144, (SECOND, KRONOS, "unknown", "CNY"): 0,
        (SECOND, IDLE, "unallocated", "CNY"): 32, (SECOND, IDLE, "unknown", "CNY"): 0}
    assert {key[:2]: ns for key, ns in totals.state_gpu_ns.items()} == totals.gpu_ns
    assert {key[:2]: mj for key, mj in totals.state_energy_mj.items()} == totals.energy_mj
    assert {key[2] for key in totals.state_gpu_ns} == {"unknown"}


def test_a_copy_of_the_old_file_is_kept_and_can_be_read(version_1: Path) -> None:
    before = tables(version_1 / FILE_NAME)
    Ledger(version_1, NOON_NS).close()
    assert tables(version_1 / f"{FILE_NAME}.v1") == before
    assert sorted(path.name for path in version_1.iterdir()) == [
        "ledger.sqlite3", "ledger.sqlite3.closed", "ledger.sqlite3.v1", "lock"]


def test_a_migrated_ledger_goes_on(version_1: Path) -> None:
    ledger = Ledger(version_1, NOON_NS)
    ledger.commit(batch(0, session="new"), NOON_NS)
    live = ledger.totals
    ledger.close()
    again = Ledger(version_1, NOON_NS)
    assert again.totals == live
    assert again.totals.cost_nano[UUID, KRONOS, "energy", "CNY"] == 88 + 11
    assert again.totals.state_cost_nano[UUID, KRONOS, "active", "CNY"] == 11
    assert again.site_energy_mj(0) == 17_500 + 700
    again.close()


def test_what_attribution_learned_is_kept_whole(tmp_path: Path) -> None:
    made = batch(0)
    made.calibrations[UUID] = b"\x00learned\xff"
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(made, NOON_NS)
    ledger.commit(batch(1), NOON_NS)             # a tick that brings none leaves it
    assert ledger.calibrations() == {UUID: b"\x00learned\xff"}
    ledger.close()
    again = Ledger(tmp_path, NOON_NS)
    assert again.calibrations() == {UUID: b"\x00learned\xff"}
    again.close()


def test_a_newer_version_is_told_from_a_damaged_number(tmp_path: Path) -> None:
    Ledger(tmp_path, NOON_NS).close()
    forget_at_rest(tmp_path / FILE_NAME)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1024}")
    ledger = Ledger(tmp_path, NOON_NS)
    assert ledger.set_aside is not None
    ledger.close()
    forget_at_rest(tmp_path / FILE_NAME)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db, db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        db.execute(f"UPDATE mark SET value = {len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerError, match="newer agent"):
        Ledger(tmp_path, NOON_NS)
