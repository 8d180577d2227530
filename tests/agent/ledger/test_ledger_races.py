"""A ledger is set aside while others write beside: each transaction counts once, in counters and reports, or is refused."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.errors import LedgerError
from agent.ledger.file import FILE_NAME, Beside, InUseError, SetAsideError, locked
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader
from agent.ledger.rerate import Rerating
from agent.ledger.rescue import Backfill
from agent.pricing.pricing import BUCKET_NS
from agent.units import NANO
from tests.agent.ledger.half_a_day import QUARTERS, START_NS, change, closed_ledger, faults
from tests.agent.priced import book, pricing, tariff
from tests.agent.records import KEYS

HOUR_NS = 4 * BUCKET_NS
# Half a day at 2.5 CNY an hour for hardware, and two kWh a quarter of an hour for 1 CNY each. Re-rated, an hour is for 2 CNY.
BOOKED_NANO = int(QUARTERS * (2.5 / 4 + 2) * NANO)
RERATED_NANO = BOOKED_NANO + 4 * 2 * NANO


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return closed_ledger(tmp_path)


def rerate_an_hour(beside: Beside, tmp_path: Path, before_commit: threading.Event | None = None, hold_s: float = 0) -> None:
    @contextmanager
    def within() -> Iterator[None]:
        with beside.transaction():
            yield
            if before_commit is not None:
                before_commit.set()
                threading.Event().wait(hold_s)

    rerating = Rerating(beside.db, pricing(tariff(tmp_path, "flat = 2"), ()))
    rerating.write(START_NS, START_NS + HOUR_NS, START_NS, within)


def counted_nano(ledger: Ledger) -> int:
    return sum(ledger.totals.cost_nano.values()) - sum(ledger.totals.credit_nano.values())


def reported_nano(state: Path) -> int:
    with closing(LedgerReader(state)) as reader:
        (row,) = reader.usage(None, None, (), KEYS, ZoneInfo("UTC"))
    return row.cost_nano


def test_a_transaction_beside_is_not_cut_off(state: Path, tmp_path: Path) -> None:
    ledger = Ledger(state, START_NS)
    with closing(Beside(ledger.path)) as beside:
        with beside.transaction(), pytest.raises(LedgerError, match="not set aside yet: another program is writing to it"):
            ledger.give_up("damaged", START_NS)
        assert ledger.set_aside is None
        rerate_an_hour(beside, tmp_path)
    ledger.give_up("damaged", START_NS)
    assert ledger.set_aside is not None
    Backfill(ledger.path)()
    assert reported_nano(state) == RERATED_NANO
    ledger.close()
    again = Ledger(state, START_NS)
    assert counted_nano(again) == RERATED_NANO
    again.close()
    assert faults(state) == []


def test_a_start_waits_for_a_transaction_beside(state: Path, tmp_path: Path) -> None:
    """Killed, with a damaged row; a re-rating is in the middle of an hour when the daemon starts again."""
    ledger = Ledger(state, START_NS)
    killed = tmp_path / "killed"
    shutil.copytree(state, killed)
    ledger.close()
    change(killed, f"UPDATE usage SET gpu_ns = gpu_ns + 1 WHERE start_ns = {START_NS + 20 * BUCKET_NS}")

    def rerate() -> None:
        with closing(Beside(killed / FILE_NAME)) as beside:
            rerate_an_hour(beside, tmp_path, writing, hold_s=1.5)

    writing = threading.Event()
    thread = threading.Thread(target=rerate)
    thread.start()
    assert writing.wait(10)
    again = Ledger(killed, START_NS)
    thread.join()
    assert again.set_aside is not None
    assert counted_nano(again) == RERATED_NANO
    assert reported_nano(killed) == RERATED_NANO - BOOKED_NANO // QUARTERS          # all but the quarter that was damaged
    again.close()
    assert faults(killed) == []


def test_who_waits_too_long_for_a_file_is_told(state: Path) -> None:
    beside = Beside(state / FILE_NAME)
    with closing(beside), beside.transaction(), pytest.raises(InUseError), locked(state / FILE_NAME, 0.1, known=False):
        pass


def test_what_a_re_rating_has_just_added_stays_in_the_counters(state: Path, tmp_path: Path) -> None:
    """Damage in another total: the totals in memory go on, and the daemon has not committed since the re-rating."""
    ledger = Ledger(state, START_NS)
    with closing(Beside(ledger.path)) as beside:
        rerate_an_hour(beside, tmp_path)
    change(state, "UPDATE device_state SET duration_ns = duration_ns + 1")
    ledger.give_up("damaged", START_NS)
    Backfill(ledger.path)()
    ledger.close()
    again = Ledger(state, START_NS)
    assert counted_nano(again) == reported_nano(state) == RERATED_NANO
    again.close()
    assert faults(state) == []


def test_what_a_re_rating_has_just_added_and_cannot_be_proven_is_told(
        state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(state, START_NS)
    with closing(Beside(ledger.path)) as beside:
        rerate_an_hour(beside, tmp_path)
    change(state, "UPDATE cost_total SET carry = carry + 1")
    ledger.give_up("damaged", START_NS)
    assert "what a re-rating has just added is in reports, and not in the counters" in caplog.text
    Backfill(ledger.path)()
    ledger.close()
    again = Ledger(state, START_NS)
    assert (counted_nano(again), reported_nano(state)) == (BOOKED_NANO, RERATED_NANO)
    again.close()


def test_a_re_rating_after_the_last_close_stays_in_the_counters(state: Path, tmp_path: Path) -> None:
    """Written between a start's look at the note and its lock on the file, which has a damaged total."""
    note = state / f"{FILE_NAME}.closed"
    noted = note.read_bytes()
    with closing(Beside(state / FILE_NAME)) as beside:
        rerate_an_hour(beside, tmp_path)
    change(state, "UPDATE device_state SET duration_ns = duration_ns + 1")
    note.write_bytes(noted)
    ledger = Ledger(state, START_NS)
    assert ledger.set_aside is not None
    assert counted_nano(ledger) == reported_nano(state) == RERATED_NANO
    ledger.close()
    assert faults(state) == []


def test_a_file_that_loses_its_name_within_a_transaction_takes_nothing(state: Path) -> None:
    """As one that is too damaged to be locked."""
    with closing(Beside(state / FILE_NAME)) as beside:
        with pytest.raises(SetAsideError), beside.transaction():
            beside.db.execute("DELETE FROM usage")
            (state / FILE_NAME).rename(state / "aside")
        assert beside.db.execute("SELECT COUNT(DISTINCT start_ns) FROM usage").fetchone() == (QUARTERS,)


def test_a_start_that_cannot_begin_a_new_file_leaves_the_damaged_log_as_it_is(state: Path, tmp_path: Path) -> None:
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS + QUARTERS * BUCKET_NS, 8, session="killed")
    killed = tmp_path / "killed"
    shutil.copytree(state, killed)
    ledger.close()
    log = bytearray((killed / f"{FILE_NAME}-wal").read_bytes())
    log[len(log) // 2] ^= 1
    (killed / f"{FILE_NAME}-wal").write_bytes(log)
    before = (killed / FILE_NAME).read_bytes()
    (killed / f"{FILE_NAME}.new").mkdir()        # no file can be written there
    with pytest.raises(LedgerError):
        Ledger(killed, START_NS)
    assert (killed / f"{FILE_NAME}-wal").read_bytes() == log
    assert (killed / FILE_NAME).read_bytes() == before
