"""Damage of odder kinds: in the log, the schema and the header, in mid-run, twice, and while others write."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.ledger.at_rest import forget_at_rest, tables_of, write_at_rest
from agent.ledger.file import FILE_NAME, Beside, SetAsideError, fault_of, identity
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.rerate import Rerating
from agent.ledger.rescue import Backfill
from agent.ledger.rollup import roll_up
from agent.ledger.seal import install
from agent.ledger.verify import verify
from agent.pricing.pricing import BUCKET_NS
from agent.units import NS_PER_HOUR
from tests.agent.ledger.half_a_day import QUARTERS, START_NS, closed_ledger
from tests.agent.ledger.test_ledger_damage import fall
from tests.agent.priced import book, pricing, tariff

ROWS = 2 * 2 * QUARTERS                          # two workloads, energy and hardware


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return closed_ledger(tmp_path)


def more(ledger: Ledger, tmp_path: Path, quarters: int, session: str) -> None:
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS + QUARTERS * BUCKET_NS, quarters, session=session)


def flip(path: Path, byte: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def good(state: Path) -> bool:
    with closing(open_for_reading(state)) as db:
        return verify(db) == []


def test_a_bit_that_flips_in_the_log_of_a_killed_daemon_is_said(state: Path, tmp_path: Path) -> None:
    """Every commit of the log counts, or the ledger is set aside; only the last two may look unfinished."""
    ledger = Ledger(state, START_NS)
    more(ledger, tmp_path, 20, "killed")
    killed = tmp_path / "killed"
    shutil.copytree(state, killed)               # as kill -9 leaves it
    totals = ledger.totals
    ledger.close()
    log = killed / f"{FILE_NAME}-wal"
    size, chosen, said = log.stat().st_size, random.Random(1), 0
    for n in range(40):
        tried = tmp_path / f"tried-{n}"
        shutil.copytree(killed, tried)
        flip(tried / log.name, chosen.randrange(size * 3 // 4), chosen.randrange(8))
        again = Ledger(tried, START_NS)
        said += again.set_aside is not None
        assert again.set_aside is not None or again.totals == totals, n
        again.close()
    assert said > 30
    whole = Ledger(killed, START_NS)
    assert (whole.set_aside, whole.totals) == (None, totals)
    whole.close()


@pytest.mark.parametrize("noted", [True, False], ids=["closed", "killed"])
def test_a_letter_of_the_schema_that_is_no_text_any_more_keeps_nobody_from_starting(state: Path, noted: bool) -> None:
    if not noted:
        forget_at_rest(state / FILE_NAME)
    at = (state / FILE_NAME).read_bytes().index(b"CREATE TABLE usage") + 7
    flip(state / FILE_NAME, at, 7)
    for _ in range(2):
        ledger = Ledger(state, START_NS)
        assert Backfill(ledger.path)() == 0      # what the rows are is not known any more
        ledger.close()
    assert good(state)


@pytest.mark.parametrize(("byte", "bit"), [(60, 7), (63, 0), (63, 1)], ids=["negative", "two", "one"])
def test_a_version_that_only_the_header_has_is_damage(state: Path, byte: int, bit: int) -> None:
    forget_at_rest(state / FILE_NAME)
    kept = state / f"{FILE_NAME}.v2"
    kept.write_bytes(b"a copy that a migration kept")
    flip(state / FILE_NAME, byte, bit)
    ledger = Ledger(state, START_NS)
    assert ledger.set_aside is not None
    ledger.close()
    assert kept.read_bytes() == b"a copy that a migration kept"


@pytest.mark.parametrize("left", [0, 1])
def test_a_ledger_that_was_emptied_is_not_taken_for_a_new_one(state: Path, tmp_path: Path, left: int) -> None:
    ledger = Ledger(state, START_NS)
    more(ledger, tmp_path, 2, "killed")
    killed = tmp_path / "killed"
    shutil.copytree(state, killed)
    ledger.close()
    (killed / FILE_NAME).write_bytes(b"S" * left)
    log = (killed / f"{FILE_NAME}-wal").read_bytes()
    again = Ledger(killed, START_NS)
    assert again.set_aside is not None
    assert again.set_aside.with_name(f"{again.set_aside.name}-wal").read_bytes() == log
    again.close()


def test_a_large_ledger_is_told_from_its_totals_of_the_last_close(state: Path) -> None:
    """One that is too large to be read at a start: its note has no digest, and its totals all the same."""
    ledger = Ledger(state, START_NS)
    before = ledger.totals
    ledger.close()
    with closing(open_for_reading(state)) as db:
        write_at_rest(state / FILE_NAME, tables_of(db), most_bytes=0)
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE workload_total SET energy_mj = energy_mj + 1")
    again = Ledger(state, START_NS)
    assert again.set_aside is not None
    assert again.totals == before
    again.close()
    assert good(state)


def test_a_log_that_somebody_left_beside_a_closed_ledger_is_moved_away(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(state, START_NS)
    before = ledger.totals
    ledger.close()
    (state / f"{FILE_NAME}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(8_000))
    again = Ledger(state, START_NS)
    assert (again.set_aside, again.totals) == (None, before)
    assert "goes on without it" in caplog.text
    again.close()


def test_a_note_that_is_newer_than_the_file_counts(state: Path, tmp_path: Path) -> None:
    older = (state / FILE_NAME).read_bytes()
    ledger = Ledger(state, START_NS)
    more(ledger, tmp_path, 4, "more")
    before = ledger.totals
    ledger.close()
    (state / FILE_NAME).write_bytes(older)
    again = Ledger(state, START_NS)
    assert fall(before, again.totals) == []
    again.close()
    assert good(state)


def test_a_commit_does_not_seal_what_was_damaged_before_it(state: Path, tmp_path: Path) -> None:
    """A total changes on the disk, behind the daemon's back; the next commit would add to it."""
    ledger = Ledger(state, START_NS)
    more(ledger, tmp_path, 1, "before")
    before = ledger.totals
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE workload_total SET energy_mj = energy_mj - 1000")
    more(ledger, tmp_path, 1, "after")
    assert ledger.set_aside is not None
    assert fall(before, ledger.totals) == []
    assert sum(ledger.totals.energy_mj.values()) == sum(ledger.totals.device_energy_mj.values())
    Backfill(ledger.path)()
    ledger.close()
    assert good(state)
    assert fault_of(state / FILE_NAME) is None


def test_who_writes_beside_does_not_write_to_a_file_that_was_set_aside(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    with closing(Beside(ledger.path)) as beside:
        with beside.transaction():
            pass
        ledger.give_up("damaged", START_NS)
        with pytest.raises(SetAsideError), beside.transaction():
            beside.db.execute("DELETE FROM usage")
    assert Backfill(ledger.path)() == ROWS
    ledger.close()
    assert good(state)


def test_damage_in_a_total_while_rows_are_still_to_come_loses_none_of_them(state: Path, tmp_path: Path) -> None:
    ledger = Ledger(state, START_NS)
    more(ledger, tmp_path, 100, "more")
    before = ledger.totals
    ledger.give_up("damaged", START_NS)
    assert Backfill(ledger.path, lambda: True)() == 4 * 64
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        install(db)
        db.execute("UPDATE workload_total SET energy_mj = energy_mj + 1")
    ledger.give_up("again", START_NS)
    assert ledger.totals == before
    Backfill(ledger.path)()
    ledger.close()
    assert good(state)
    with closing(open_for_reading(state)) as db:
        assert db.execute("SELECT COUNT(*) FROM usage").fetchone() == (4 * (QUARTERS + 100),)


def test_a_fault_of_a_file_that_is_gone_by_now_is_no_fault_of_the_new_one(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    looked_at = identity(ledger.path)
    ledger.give_up("damaged", START_NS)
    first = ledger.set_aside
    ledger.give_up("damaged", START_NS, looked_at)
    assert ledger.set_aside == first
    ledger.close()


def raise_a_total(state: Path) -> None:
    """A bit of a total that nobody sealed again: a credit of 2^40 nano-units on the energy of each workload."""
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE cost_total SET credit_nano = credit_nano | (1 << 40) WHERE component = 'energy'")


def test_a_damaged_total_is_not_sealed_as_good_by_a_re_rating(state: Path, tmp_path: Path) -> None:
    raise_a_total(state)
    fault = fault_of(state / FILE_NAME)
    assert fault is not None
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db, pytest.raises(
            sqlite3.DatabaseError, match=r"cost_total of .* is not what was written"):
        Rerating(db, pricing(tariff(tmp_path, "double = 2"), ())).write(START_NS, START_NS + BUCKET_NS, START_NS)
    assert fault_of(state / FILE_NAME) == fault


def test_a_damaged_total_is_not_sealed_as_good_by_rows_that_go_over(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    ledger.give_up("found beside", START_NS)             # a new file, and the rows of this one are still to come
    raise_a_total(state)
    fault = fault_of(state / FILE_NAME)
    with pytest.raises(sqlite3.DatabaseError, match=r"cost_total of .* is not what was written"):
        Backfill(state / FILE_NAME)()
    assert fault is not None
    assert fault_of(state / FILE_NAME) == fault
    ledger.close()


def test_a_damaged_mark_is_not_sealed_as_good_by_a_roll_up(state: Path) -> None:
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        db.execute("INSERT INTO mark VALUES ('hours_until_ns', 5)")
        with pytest.raises(sqlite3.DatabaseError, match="mark is not what was written"):
            roll_up(db, ZoneInfo("UTC"), 0, 0, START_NS + 90 * 24 * NS_PER_HOUR)
    assert fault_of(state / FILE_NAME) == "malformed: mark is not what was written"


def test_a_running_daemon_does_not_take_up_a_damaged_total_with_a_correction(state: Path, tmp_path: Path) -> None:
    """Nor with a commit of another device, which looks at its own totals only: the file is set aside, no counter shows it."""
    running = Ledger(state, START_NS)
    before = running.totals
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        Rerating(db, pricing(tariff(tmp_path, "double = 2"), ())).write(START_NS, START_NS + BUCKET_NS, START_NS)
    raise_a_total(state)
    book(running, pricing(tariff(tmp_path, "flat = 1")), START_NS, 1, session="later", uuid="GPU-other")
    assert running.set_aside is not None
    assert running.totals.credit_nano == before.credit_nano
    running.close()
    assert good(state)
