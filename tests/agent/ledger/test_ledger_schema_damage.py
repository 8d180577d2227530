"""Damage in a ledger's header and in its description of its own tables, which are known: every total and row goes over."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.rescue import Backfill
from agent.ledger.verify import verify
from agent.pricing.pricing import BUCKET_NS
from agent.units import MJ_PER_KWH, NANO
from tests.agent.ledger.test_ledger_damage import flipped
from tests.agent.priced import book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")
PAGE = 4096
HEADER_BITS = 100 * 8
QUARTERS = 16
KWH = 2 * QUARTERS                               # two workloads, a kWh each in each quarter of an hour, at 1 CNY
ROWS = 2 * KWH                                   # energy and hardware
COST_NANO = KWH * NANO + QUARTERS * 5 * NANO // 8          # and the hardware at 2.5 CNY an hour
LeftAs = Callable[[Path, Path], dict[str, bytes]]          # what is in the directory, by name
EXPECTED = (KWH * MJ_PER_KWH, COST_NANO)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A ledger that was closed; in memory where that is to be had."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        ledger = Ledger(Path(folder) / "state", START_NS)
        book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, QUARTERS)
        ledger.close()
        yield Path(folder) / "state"


def files(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if not path.name.endswith("-shm")}


def closed(state: Path, _: Path) -> dict[str, bytes]:
    return files(state)


def killed(state: Path, _: Path) -> dict[str, bytes]:
    """As after a checkpoint: all is in the file, and there is no note of a close."""
    (state / f"{FILE_NAME}.closed").unlink()
    return files(state)


def killed_with_a_log(state: Path, tmp_path: Path) -> dict[str, bytes]:
    """The whole ledger once more, so that all its commits are in the log but for what began the file."""
    shutil.rmtree(state)
    ledger = Ledger(state, START_NS)
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, QUARTERS)
    kept = files(state)
    ledger.close()
    return kept


def vacuumed(state: Path, _: Path) -> dict[str, bytes]:
    """Killed, and before that somebody had made the file smaller: its tables begin elsewhere than in a new one."""
    (state / f"{FILE_NAME}.closed").unlink()
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        db.execute("VACUUM")
    return files(state)


def migrated(state: Path, _: Path) -> dict[str, bytes]:
    """Killed, and begun with an earlier version: what this one added begins somewhere behind the rows."""
    (state / f"{FILE_NAME}.closed").unlink()
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        db.executescript(f"DROP TABLE seal; DROP TABLE host; UPDATE mark SET value = 2; CREATE TABLE mine (room); "
                         f"INSERT INTO mine VALUES (zeroblob({40 * PAGE})); PRAGMA user_version = 2; VACUUM")
    Ledger(state, START_NS).close()
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        assert db.execute("SELECT rootpage > 50 FROM sqlite_master WHERE name = 'seal'").fetchone() == (True,)
    return {name: data for name, data in files(state).items() if not name.endswith((".closed", ".v2"))}


def described_in(data: bytes) -> list[int]:
    """The bits of the pages with the header and the description of the tables, by number."""
    pages = [0] + [n for n in range(1, len(data) // PAGE) if b"CREATE TABLE" in data[n * PAGE:(n + 1) * PAGE]]
    return [bit for n in pages for bit in range(n * PAGE * 8, (n + 1) * PAGE * 8)]


def sums(ledger: Ledger) -> tuple[int, int]:
    """Device energy in mJ and cost in nano-units, as the counters have them."""
    return sum(ledger.totals.device_energy_mj.values()), sum(ledger.totals.cost_nano.values())


def rows(state: Path) -> tuple[int, tuple[int, int]]:
    """How many rows there are, and what they come to."""
    with closing(open_for_reading(state)) as db:
        count, energy_mj, cost_nano = db.execute("SELECT COUNT(*), SUM(energy_mj), SUM(cost_nano) FROM usage").fetchone()
        assert verify(db) == []
    return count, (energy_mj, cost_nano)


@pytest.mark.parametrize("left_as", [closed, killed, killed_with_a_log, vacuumed, migrated])
def test_a_bit_that_flips_in_what_a_ledger_says_of_itself_costs_neither_total_nor_row(
        state: Path, tmp_path: Path, left_as: LeftAs) -> None:
    good = left_as(state, tmp_path)
    assert good.get(f"{FILE_NAME}-wal") or left_as is not killed_with_a_log
    chosen, set_aside = random.Random(11), 0
    space = described_in(good[FILE_NAME])
    assert len(space) == 3 * PAGE * 8
    for bit in chosen.sample(range(HEADER_BITS), 30) + chosen.sample(space, 70):
        damaged = flipped(good, state, bit)
        ledger = Ledger(state, START_NS)
        assert sums(ledger) == EXPECTED, bit
        if ledger.set_aside is not None:
            set_aside += 1
            if left_as is not killed_with_a_log:         # else SQLite has moved the log into it
                assert ledger.set_aside.read_bytes() == damaged, bit
        ledger.close()
        assert rows(state) == (ROWS, EXPECTED), bit
        assert list(state.glob(".*")) == [], bit
    assert set_aside == 100 or left_as is not closed
    assert set_aside >= 15                               # with a log, the header that counts is in it


@pytest.mark.parametrize("table", ["usage", "workload_total", "seal"])
def test_a_table_is_found_where_the_file_says_it_is_elsewhere(state: Path, tmp_path: Path, table: str) -> None:
    """Each bit of the number of its first page, in a file where that is not the one of a new ledger."""
    good = vacuumed(state, tmp_path)
    at = good[FILE_NAME].index(f"{table}{table}".encode()) + 2 * len(table)
    for bit in range(8):
        damaged = flipped(good, state, at * 8 + bit)
        ledger = Ledger(state, START_NS)
        assert sums(ledger) == EXPECTED, bit
        assert ledger.set_aside is not None
        assert ledger.set_aside.read_bytes() == damaged
        ledger.close()
        assert rows(state) == (ROWS, EXPECTED), bit


def test_a_table_whose_name_is_damaged_is_known_by_the_name_that_is_there_twice(state: Path, tmp_path: Path) -> None:
    good = migrated(state, tmp_path)
    at = good[FILE_NAME].index(b"sealseal")
    for byte in range(8):
        flipped(good, state, (at + byte) * 8)
        ledger = Ledger(state, START_NS)
        assert ledger.set_aside is not None
        assert sums(ledger) == EXPECTED, byte
        ledger.close()
        assert rows(state) == (ROWS, EXPECTED), byte


@pytest.mark.parametrize("left_as", [closed, killed])
def test_all_that_a_ledger_says_of_itself_may_be_gone(state: Path, tmp_path: Path, left_as: object) -> None:
    """Header and description overwritten: in a file that began with this version the tables are where they are in any."""
    assert callable(left_as)
    good = left_as(state, tmp_path)
    data = bytearray(good[FILE_NAME])
    for bit in described_in(good[FILE_NAME])[::8]:
        data[bit // 8] = 0xA5
    (state / FILE_NAME).write_bytes(data)
    ledger = Ledger(state, START_NS)
    assert sums(ledger) == EXPECTED
    assert ledger.set_aside is not None
    assert ledger.set_aside.read_bytes() == bytes(data)
    ledger.close()
    assert rows(state) == (ROWS, EXPECTED)


def test_an_amount_that_is_damaged_too_does_not_go_over(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A flipped bit in a name of the description, and another energy in the third quarter of an hour."""
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE usage SET energy_mj = energy_mj + 1 WHERE start_ns = ? AND component = 'energy'",
                   (START_NS + 2 * BUCKET_NS,))
    data = (state / FILE_NAME).read_bytes()
    flipped({FILE_NAME: data}, state, (data.index(b"CREATE TABLE usage") + 14) * 8)
    ledger = Ledger(state, START_NS)
    assert sums(ledger) == EXPECTED
    ledger.close()
    assert rows(state)[0] == ROWS - 4
    assert "60 rows of" in caplog.text
    assert "1 spans of them were damaged" in caplog.text


def test_a_description_that_turns_bad_while_the_daemon_runs_costs_no_row(state: Path, tmp_path: Path) -> None:
    """With commits in the log, and somebody who reads the file all the while."""
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS + QUARTERS * BUCKET_NS, QUARTERS, session="more")
    reader = open_for_reading(state)
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM usage").fetchone() == (2 * ROWS,)
    at = (state / FILE_NAME).read_bytes().index(b"CREATE TABLE usage") + 7
    with (state / FILE_NAME).open("r+b") as file:
        file.seek(at)
        file.write(b"\xff")
    ledger.give_up("damaged", START_NS)
    assert Backfill(ledger.path)() == 2 * ROWS
    assert reader.execute("SELECT COUNT(*) FROM usage").fetchone() == (2 * ROWS,)
    reader.close()
    assert sums(ledger) == (2 * EXPECTED[0], 2 * EXPECTED[1])
    ledger.close()
    assert rows(state) == (2 * ROWS, (2 * EXPECTED[0], 2 * EXPECTED[1]))


@pytest.mark.parametrize("left", [0, 512, PAGE, 2 * PAGE, 15 * PAGE])
def test_where_no_row_can_be_read_the_log_says_so_and_why(
        state: Path, caplog: pytest.LogCaptureFixture, left: int) -> None:
    """Cut off before its seals begin; the totals are those of the note."""
    (state / FILE_NAME).write_bytes((state / FILE_NAME).read_bytes()[:left])
    ledger = Ledger(state, START_NS)
    assert sums(ledger) == EXPECTED
    ledger.close()
    assert f"none of the rows of {FILE_NAME}.corrupt-20260301T000000Z went over: " in caplog.text
    assert ("the seals that prove them cannot be read: " if left else "nothing of it is there") in caplog.text
    assert "spans of them were damaged" not in caplog.text
