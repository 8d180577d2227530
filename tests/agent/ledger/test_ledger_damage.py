"""A damaged ledger is set aside and said, never deleted, at the start and in mid-run; it never stops the daemon."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.ledger.at_rest import forget_at_rest
from agent.ledger.file import FILE_NAME, fault_of, is_damage
from agent.ledger.journal import Journal
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader, open_for_reading
from agent.ledger.rescue import Backfill
from agent.ledger.rollup import roll_up
from agent.ledger.seal import install, seal_all
from agent.ledger.verify import verify
from agent.model import Totals
from agent.pricing.pricing import BUCKET_NS
from agent.units import NS_PER_HOUR, NS_PER_S
from tests.agent.ledger.test_ledger import METER, batch, charge
from tests.agent.priced import KRONOS, book, instant_ns, pricing, tariff
from tests.agent.records import KEYS, UUID, interval

START_NS = instant_ns("2026-03-01")
FLIPS = 200


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Half a day of two workloads: 25 pages, in memory where that is to be had, as hundreds of starts wait for a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield filled(Path(folder) / "state", tmp_path)


def filled(directory: Path, tmp_path: Path) -> Path:
    ledger = Ledger(directory, START_NS)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 48)
    ledger.close()
    return directory


def fall(before: Totals, after: Totals) -> list[str]:
    """The counters that are lower than they were, or gone."""
    return [f"{name} {key}" for name in Totals.__struct_fields__ for key, value in getattr(before, name).items()
            if getattr(after, name).get(key, -1) < value]


def flipped(good: dict[str, bytes], state: Path, bit: int) -> bytes:
    """The state directory anew, with one bit of the ledger flipped; the ledger's bytes."""
    for path in state.iterdir():
        path.unlink()
    for name, data in good.items():
        (state / name).write_bytes(data)
    damaged = bytearray(good[FILE_NAME])
    damaged[bit // 8] ^= 1 << bit % 8
    (state / FILE_NAME).write_bytes(damaged)
    return bytes(damaged)


def everything(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, as any program may read it; nothing where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            db.text_factory = bytes
            names = [name.decode() for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    except (sqlite3.Error, UnicodeDecodeError):
        return {}


def test_any_bit_that_flips_in_a_closed_ledger_sets_it_aside_and_no_total_is_lost(
        state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each of 200 bits, dead space included: said, kept to the last byte, taken up from what is proven; and only once."""
    good = {path.name: path.read_bytes() for path in state.iterdir()}
    assert set(good) == {FILE_NAME, f"{FILE_NAME}.closed", "lock"}
    chosen = random.Random(4)
    header = [*range(18 * 8, 20 * 8), *(chosen.randrange(100 * 8) for _ in range(34))]   # the format numbers, and some more
    whole = Ledger(state, START_NS)
    before = whole.totals
    whole.close()
    for bit in [*header, *(chosen.randrange(len(good[FILE_NAME]) * 8) for _ in range(FLIPS - len(header)))]:
        damaged = flipped(good, state, bit)
        caplog.clear()
        ledger = Ledger(state, START_NS)
        assert ledger.set_aside is not None, bit
        assert ledger.set_aside.read_bytes() == damaged, bit
        assert f"set aside as {ledger.set_aside}, nothing deleted" in caplog.text, bit
        assert ledger.totals == before, bit
        book(ledger, pricing(None), START_NS, 1, session="after")
        live = ledger.totals
        ledger.close()
        again = Ledger(state, START_NS)
        assert again.totals == live, bit
        assert again.set_aside is None, bit
        again.close()
        with closing(open_for_reading(state)) as db:
            assert verify(db) == [], bit


def test_a_bit_that_flips_after_a_crash_is_found_wherever_it_says_something(state: Path) -> None:
    """Without the note of a close: set aside, or the bit lies where nothing stands and every row is what it was."""
    good = {path.name: path.read_bytes() for path in state.iterdir() if path.suffix != ".closed"}
    told = everything(state / FILE_NAME)
    chosen = random.Random(7)
    set_aside = 0
    for bit in (chosen.randrange(len(good[FILE_NAME]) * 8) for _ in range(FLIPS)):
        flipped(good, state, bit)
        same = everything(state / FILE_NAME) == told
        ledger = Ledger(state, START_NS)
        assert same or ledger.set_aside is not None, bit
        set_aside += ledger.set_aside is not None
        ledger.close()
        with closing(open_for_reading(state)) as db:
            assert verify(db) == [], bit
    assert 40 <= set_aside < FLIPS


def test_a_damaged_quarter_of_an_hour_is_all_that_is_lost(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A number in a row of usage is another one, which SQLite cannot know."""
    forget_at_rest(state / FILE_NAME)
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        rows = db.execute("SELECT start_ns, SUM(energy_mj), SUM(cost_nano) FROM usage GROUP BY start_ns").fetchall()
        gone_ns, gone_mj, gone_nano = rows[7]
        db.execute("UPDATE usage SET cost_nano = cost_nano + 1 WHERE start_ns = ? AND workload = 1", (gone_ns,))
    ledger = Ledger(state, START_NS)
    assert "188 rows of" in caplog.text
    assert "1 spans of them were damaged" in caplog.text
    energy_mj = sum(ledger.totals.device_energy_mj.values())
    cost_nano = sum(ledger.totals.cost_nano.values())
    ledger.close()
    assert (energy_mj, cost_nano) == (sum(row[1] for row in rows), sum(row[2] for row in rows))      # the counters have it
    reader = LedgerReader(state)
    left = reader.usage(None, None, (), KEYS, ZoneInfo("UTC"))
    reader.close()
    assert [(row.energy_mj, row.cost_nano) for row in left] == [(energy_mj - gone_mj, cost_nano - gone_nano)]
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []


def test_a_name_that_changed_is_damage(state: Path) -> None:
    """Every sum still agrees: only the seal tells."""
    forget_at_rest(state / FILE_NAME)
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE usage SET rate = 'flit' WHERE rate = 'flat' AND start_ns = (SELECT MIN(start_ns) FROM usage)")
    fault = fault_of(state / FILE_NAME)
    assert fault == "malformed: usage of 2026-03-01T00:00:00+00:00 is not what was written"


def test_damage_is_not_rolled_up_as_if_it_were_good(state: Path) -> None:
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        db.execute("UPDATE usage SET gpu_ns = gpu_ns + 1 WHERE start_ns = (SELECT MIN(start_ns) FROM usage)")
        with pytest.raises(sqlite3.DatabaseError, match="is not what was written"):
            roll_up(db, ZoneInfo("UTC"), 1, 1, START_NS + 90 * 24 * NS_PER_HOUR)
        assert db.execute("SELECT COUNT(DISTINCT start_ns) FROM usage").fetchone() == (48,)


def test_an_index_that_somebody_added_is_no_damage(state: Path) -> None:
    forget_at_rest(state / FILE_NAME)
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("CREATE INDEX mine ON usage (rate)")
    ledger = Ledger(state, START_NS)
    assert ledger.set_aside is None
    ledger.close()


def damage(state: Path, first_page: int = 2) -> None:
    """Overwrite every page but the first ones, as a bad disk or another program would."""
    path = state / FILE_NAME
    with path.open("r+b") as file:
        file.seek(4096 * first_page)
        file.write(b"\xa5" * (path.stat().st_size - 4096 * first_page))


def checkpointed(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_damage_in_mid_run_goes_on_in_a_new_ledger_from_the_totals_in_memory(
        state: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(state, START_NS)
    journal = Journal(ledger, 0, lambda batch: None)
    tick = ({UUID: "H100"}, [interval(700)], {UUID: "active"}, [charge(11)], {UUID: METER})
    journal.batch.add("s2", 0, *tick, {UUID: b"learned"})
    assert journal.flush(START_NS)
    checkpointed(ledger)
    before, carries = ledger.totals, ledger.carries()
    damage(state)
    bytes_then = (state / FILE_NAME).read_bytes()
    journal.batch.add("s2", 1, *tick)
    assert journal.flush(START_NS)
    assert journal.ok
    assert ledger.set_aside is not None
    assert ledger.set_aside.read_bytes() == bytes_then
    assert caplog.text.count("set aside as") == 1
    assert fall(before, ledger.totals) == []
    assert ledger.totals.device_energy_mj[UUID] == before.device_energy_mj[UUID] + 700
    live = ledger.totals
    ledger.close()
    again = Ledger(state, START_NS)
    assert again.set_aside is None
    assert again.totals == live
    assert again.meters() == {UUID: METER}
    assert again.calibrations() == {UUID: b"learned"}
    assert again.carries() == carries
    again.close()
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []                  # the opening balance makes up for the rows that the old file has
    assert fault_of(state / FILE_NAME) is None


def test_damage_found_beside_the_ticks_does_the_same(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    before = ledger.totals
    damage(state)
    fault = fault_of(ledger.path)
    assert fault is not None
    ledger.give_up(fault, START_NS)
    assert ledger.totals == before
    book(ledger, pricing(None), START_NS, 1, session="after")
    assert fall(before, ledger.totals) == []
    ledger.close()
    again = Ledger(state, START_NS)
    assert fall(before, again.totals) == []
    again.close()


def test_a_new_file_that_a_crash_left_ready_is_taken_up(state: Path) -> None:
    """Set aside and killed before the new file had its name: nothing of the totals is lost."""
    ledger = Ledger(state, START_NS)
    totals = ledger.totals
    ledger.give_up("damaged", START_NS)
    ledger.close()
    (state / FILE_NAME).rename(state / f"{FILE_NAME}.new")
    again = Ledger(state, START_NS)
    assert again.totals == totals
    again.close()


def test_what_is_not_an_amount_is_damage(state: Path) -> None:
    forget_at_rest(state / FILE_NAME)
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        install(db)
        db.execute("UPDATE workload_total SET energy_mj = 'much'")
        seal_all(db)
    ledger = Ledger(state, START_NS)
    assert ledger.set_aside is not None
    assert ledger.totals.energy_mj == {}
    ledger.close()


def test_two_set_aside_in_the_same_second_keep_both(state: Path) -> None:
    for _ in range(2):
        (state / FILE_NAME).write_bytes(b"no ledger" * 1_000)
        ledger = Ledger(state, START_NS + NS_PER_S // 2)
        assert ledger.set_aside is not None
        ledger.close()
    aside = sorted(path.name for path in state.glob("*.corrupt-*") if path.suffix != ".closed")
    assert aside == ["ledger.sqlite3.corrupt-20260301T000000Z", "ledger.sqlite3.corrupt-20260301T000000Z-2"]


def test_a_workload_is_named_in_the_new_ledger_as_in_the_old(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    known = ledger.workloads()
    ledger.give_up("damaged", START_NS)
    assert KRONOS in known
    assert sorted(ledger.workloads()) == sorted(known)
    ledger.close()


def test_rows_are_carried_over_in_pieces_through_a_restart(state: Path, tmp_path: Path) -> None:
    """Found in mid-run: totals at once, rows in transactions of 64 quarters of an hour, ticks in between; each sums up."""
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS + 48 * BUCKET_NS, 144, session="more")
    before = ledger.totals
    with closing(sqlite3.connect(ledger.path)) as db:
        rows = db.execute("SELECT * FROM usage").fetchall()
        marks = db.execute("SELECT * FROM mark").fetchall()
    ledger.give_up("damaged", START_NS)
    assert ledger.totals == before
    assert Backfill(ledger.path, lambda: True)() == 64 * 4                     # stopped after one transaction
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
        assert db.execute("SELECT COUNT(*) FROM usage").fetchone() == (64 * 4,)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 1, session="meanwhile")     # into a quarter that went over
    live = ledger.totals
    ledger.close()
    again = Ledger(state, START_NS)
    assert Backfill(again.path)() == 128 * 4
    assert Backfill(again.path)() == 0
    assert again.totals == live
    again.close()
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
        assert db.execute("SELECT * FROM mark").fetchall() == marks
        assert db.execute("SELECT * FROM usage WHERE start_ns > ?", (START_NS,)).fetchall() == [
            row for row in rows if row[0] > START_NS]
        assert set(db.execute("SELECT opening_mj, opening_ns, opening_ug FROM workload_total")) == {(0, 0, 0)}
        assert set(db.execute("SELECT opening_nano FROM cost_total")) == {(0,)}
        assert set(db.execute("SELECT opening_mj, opening_unpriced_mj FROM device")) == {(0, 0)}


def test_a_file_that_is_gone_ends_the_carrying_over(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    ledger.give_up("damaged", START_NS)
    assert ledger.set_aside is not None
    ledger.set_aside.unlink()
    assert Backfill(ledger.path)() == 0
    ledger.close()
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
        assert db.execute("SELECT COUNT(*) FROM mark WHERE name GLOB 'rows*'").fetchone() == (0,)


def test_the_log_of_a_ledger_set_aside_is_not_laid_over_the_new_one(state: Path) -> None:
    """Killed between setting the old file aside and naming the new one, with commits in the old one's log."""
    ledger = Ledger(state, START_NS)
    ledger.commit(batch(0, session="late"), START_NS)
    log = (state / f"{FILE_NAME}-wal").read_bytes()
    assert log
    ledger.give_up("damaged", START_NS)
    totals, aside = ledger.totals, ledger.set_aside
    assert aside is not None
    ledger.close()
    (state / FILE_NAME).rename(state / f"{FILE_NAME}.new")
    (state / f"{FILE_NAME}-wal").write_bytes(log)
    again = Ledger(state, START_NS)
    assert again.set_aside is None
    assert again.totals == totals
    again.commit(batch(1, session="late"), START_NS)
    assert again.totals.device_energy_mj[UUID] == totals.device_energy_mj[UUID] + 700
    again.close()
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == log      # beside the file that it is of
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []


def test_a_file_that_says_less_than_was_committed_does_not_set_counters_back(state: Path, tmp_path: Path) -> None:
    """A disk that brings back an older state, whole and sealed: what is in memory counts, and the older rows go over."""
    ledger = Ledger(state, START_NS)
    older = (state / FILE_NAME).read_bytes()
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS + 48 * BUCKET_NS, 4, session="more")
    before = ledger.totals
    checkpointed(ledger)
    (state / FILE_NAME).write_bytes(older)
    ledger.give_up("an older state", START_NS)
    book(ledger, pricing(None), START_NS, 1, session="after")
    assert fall(before, ledger.totals) == []
    assert Backfill(ledger.path)() == 48 * 4
    ledger.close()
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []


def test_a_signal_in_the_midst_of_a_seal_is_no_damage(state: Path) -> None:
    def interrupted(rows: bytes) -> bytes:
        raise KeyboardInterrupt

    with closing(sqlite3.connect(":memory:")) as db:
        db.create_function("digest", 1, interrupted)
        with pytest.raises(sqlite3.OperationalError) as raised:
            db.execute("SELECT digest(x'00')").fetchall()
    assert not is_damage(raised.value, state / FILE_NAME)
