"""A damaged ledger is set aside and said, never deleted, at the start and in mid-run; it never stops the daemon."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.ledger.file import FILE_NAME, fault_of
from agent.ledger.journal import Journal
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from agent.model import Totals
from agent.units import NS_PER_S
from tests.agent.ledger.test_ledger import METER, batch, charge
from tests.agent.priced import KRONOS, book, instant_ns, pricing, tariff
from tests.agent.records import UUID, interval

START_NS = instant_ns("2026-03-01")
FLIPS = 200


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Half a day of two workloads: about a hundred pages."""
    directory = tmp_path / "state"
    ledger = Ledger(directory, START_NS)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 48)
    ledger.close()
    return directory


def fall(before: Totals, after: Totals) -> list[str]:
    """The counters that are lower than they were, or gone."""
    return [f"{name} {key}" for name in Totals.__struct_fields__ for key, value in getattr(before, name).items()
            if getattr(after, name).get(key, -1) < value]


def test_a_flipped_bit_never_keeps_the_daemon_from_starting(state: Path) -> None:
    """Each of 200 bits: the ledger opens, takes a tick and opens again, as it was or as a new one beside the old bytes."""
    good = (state / FILE_NAME).read_bytes()
    chosen = random.Random(4)
    formats = range(18 * 8, 20 * 8)              # the two format numbers: one of them makes SQLite open a file to be read only
    header = [chosen.randrange(100 * 8) for _ in range(34)]
    bits = [*formats, *header, *(chosen.randrange(len(good) * 8) for _ in range(FLIPS - 50))]
    set_aside = 0
    for bit in bits:
        for path in state.iterdir():
            path.unlink()
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        (state / FILE_NAME).write_bytes(damaged)
        ledger = Ledger(state, START_NS)
        book(ledger, pricing(None), START_NS, 1, session="after")
        live = ledger.totals
        ledger.close()
        if ledger.set_aside is not None:
            set_aside += 1
            assert ledger.set_aside.read_bytes()[100:] == bytes(damaged)[100:], bit
        again = Ledger(state, START_NS)
        assert again.totals == live, bit
        assert again.set_aside is None, bit
        again.close()
    assert 20 <= set_aside < FLIPS


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
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE workload_total SET energy_mj = 'much'")
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
    aside = sorted(path.name for path in state.glob("*.corrupt-*"))
    assert aside == ["ledger.sqlite3.corrupt-20260301T000000Z", "ledger.sqlite3.corrupt-20260301T000000Z-2"]


def test_a_workload_is_named_in_the_new_ledger_as_in_the_old(state: Path) -> None:
    ledger = Ledger(state, START_NS)
    known = ledger.workloads()
    ledger.give_up("damaged", START_NS)
    assert KRONOS in known
    assert sorted(ledger.workloads()) == sorted(known)
    ledger.close()


def test_the_log_of_a_ledger_set_aside_is_not_laid_over_the_new_one(state: Path) -> None:
    """Killed between setting the old file aside and naming the new one, with commits in the old one's log."""
    ledger = Ledger(state, START_NS)
    ledger.commit(batch(0, session="late"), START_NS)
    log = (state / f"{FILE_NAME}-wal").read_bytes()
    assert log
    ledger.give_up("damaged", START_NS)
    totals = ledger.totals
    ledger.close()
    (state / FILE_NAME).rename(state / f"{FILE_NAME}.new")
    (state / f"{FILE_NAME}-wal").write_bytes(log)
    again = Ledger(state, START_NS)
    assert again.set_aside is None
    assert again.totals == totals
    again.commit(batch(1, session="late"), START_NS)
    assert again.totals.device_energy_mj[UUID] == totals.device_energy_mj[UUID] + 700
    again.close()
    assert (state / f"{FILE_NAME}-wal.corrupt").read_bytes() == log
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
