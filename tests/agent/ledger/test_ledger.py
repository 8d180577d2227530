"""The ledger: a tick counts once, a commit is for ever, a damaged file is set aside, a full disk loses nothing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.energy.metering import MeterState
from agent.errors import LedgerError
from agent.ledger.at_rest import forget_at_rest
from agent.ledger.batch import Batch
from agent.ledger.file import FILE_NAME
from agent.ledger.journal import Journal
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader
from agent.model import Charge, Totals, Workload
from agent.pricing.pricing import BUCKET_NS
from agent.units import NS_PER_HOUR, NS_PER_S
from tests.agent.records import KEYS, NOON_NS, UUID, interval
from tests.faultfs import ticks

KRONOS: Workload = ("kronos", "quant", "kronos-base", "1.0")
METER = MeterState(boot_id="b", boottime_ns=7, monotonic_ns=7, energy_mj=99)


def charge(cost_nano: int, component: str = "energy", **fields: object) -> Charge:
    given: dict[str, object] = {
        "uuid": UUID, "workload": KRONOS, "currency": "CNY", "tariff": "t", "rate": "peak", "price": 10**18, "carry": 5,
        "start_utc_ns": NOON_NS, "end_utc_ns": NOON_NS + NS_PER_S, "state": "active",
        "energy_mj": 700 if component == "energy" else 0, "gpu_ns": NS_PER_S if component == "energy" else 0}
    given |= fields
    start_ns = int(given["start_utc_ns"]) // BUCKET_NS * BUCKET_NS  # type: ignore[call-overload]
    given["slot_utc_ns"] = (start_ns, start_ns + BUCKET_NS)
    return Charge(component=component, cost_nano=cost_nano, **given)  # type: ignore[arg-type]


def batch(*sequences: int, charges: tuple[Charge, ...] = (), session: str = "s") -> Batch:
    """A tick of 700 mJ for each sequence."""
    made = Batch()
    for sequence in sequences:
        made.add(session, sequence, {UUID: "H100"}, [interval(700)], {UUID: "active"}, charges or (charge(11),), {UUID: METER})
    return made


def reopened(directory: Path) -> tuple[Totals, Ledger]:
    ledger = Ledger(directory, NOON_NS)
    return ledger.totals, ledger


def test_commits_add_up_and_survive_reopening(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0, 1), NOON_NS)
    ledger.commit(batch(2, charges=(charge(20), charge(3, "hardware"), charge(-4))), NOON_NS)
    live = ledger.totals
    ledger.close()
    loaded, again = reopened(tmp_path)
    assert live == loaded
    assert loaded.device_energy_mj == {UUID: 2_100}
    assert loaded.cost_nano[UUID, KRONOS, "energy", "CNY"] == 11 + 11 + 20
    assert loaded.credit_nano == {(UUID, KRONOS, "energy", "CNY"): 4}
    assert loaded.cost_nano[UUID, KRONOS, "hardware", "CNY"] == 3
    assert loaded.energy_mj == {(UUID, KRONOS): 700 * 4}
    assert loaded.device_state_ns == {(UUID, "active"): 3 * NS_PER_S}
    assert again.meters() == {UUID: METER}
    assert again.carries()[UUID, KRONOS, "energy", "CNY"] == 5
    assert again.workloads() == [KRONOS]
    assert again.site_energy_mj(NOON_NS - BUCKET_NS) == 2_800
    again.close()


def test_a_repeated_batch_adds_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    once = batch(0, 1, 2)
    ledger.commit(once, NOON_NS)
    before = ledger.totals
    ledger.commit(once, NOON_NS)
    ledger.commit(batch(1, 2), NOON_NS)
    assert ledger.totals == before
    ledger.commit(batch(0, session="another"), NOON_NS)
    assert ledger.totals.device_energy_mj[UUID] == before.device_energy_mj[UUID] + 700
    ledger.close()


def test_a_batch_that_repeats_a_committed_tick_in_part_is_refused_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0, 1), NOON_NS)
    with pytest.raises(LedgerError, match="in part"):
        ledger.commit(batch(1, 2), NOON_NS)
    assert ledger.totals.device_energy_mj == {UUID: 1_400}
    ledger.close()


def test_a_clock_that_was_once_wrong_does_not_have_a_tick_counted_twice(tmp_path: Path) -> None:
    """A commit in 2099, then the right time again: a repeated batch is still known."""
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0, session="in 2099"), NOON_NS + 73 * 365 * 24 * NS_PER_HOUR)
    again = batch(1)
    ledger.commit(again, NOON_NS)
    ledger.commit(again, NOON_NS)
    assert ledger.totals.device_energy_mj == {UUID: 2 * 700}
    ledger.close()


@pytest.mark.parametrize("component", ["energy", "hardware"])
def test_an_amount_that_the_ledger_cannot_hold_is_refused_and_nothing_is_lost(tmp_path: Path, component: str) -> None:
    """2^62 twice is one too many for 64 bits; what stands stays, to the next start and beyond."""
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0, charges=(charge(2**62, component),)), NOON_NS)
    before = ledger.totals
    for cost_nano in (2**62, 2**70):
        with pytest.raises(LedgerError, match=f"of {UUID} kronos/quant/kronos-base/1.0 .* is the most that a ledger holds"):
            ledger.commit(batch(1, charges=(charge(cost_nano, component),)), NOON_NS)
    assert ledger.totals == before
    ledger.commit(batch(2, charges=(charge(2**62 - 1, component),)), NOON_NS)
    live = ledger.totals
    assert live.cost_nano[UUID, KRONOS, component, "CNY"] == 2**63 - 1
    ledger.close()
    loaded, again = reopened(tmp_path)
    assert (loaded, again.set_aside) == (live, None)
    again.close()


def test_waste_is_the_cost_of_states_that_waste(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    idle = ("__idle__", "", "", "")
    wasted = (charge(9, state="unallocated", workload=idle), charge(2, state="parked"), charge(5))
    ledger.commit(batch(0, charges=wasted), NOON_NS)
    assert ledger.totals.waste_nano == {(UUID, idle, "unallocated", "CNY"): 9, (UUID, KRONOS, "parked", "CNY"): 2}
    ledger.close()


def test_unpriced_energy_is_counted_and_costs_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0, charges=(charge(0, currency="", rate="", tariff=""),)), NOON_NS)
    assert ledger.totals.device_unpriced_mj == {UUID: 700}
    assert ledger.totals.cost_nano == {}
    ledger.close()


def test_a_second_daemon_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    with pytest.raises(LedgerError, match=f"process {os.getpid()}"):
        Ledger(tmp_path, NOON_NS)
    ledger.close()
    Ledger(tmp_path, NOON_NS).close()


def test_an_unwritable_directory_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(LedgerError, match=r"set state_dir to a directory"):
        Ledger(blocked / "state", NOON_NS)


@pytest.mark.parametrize("damage", [b"not a database at all" * 300, b""])
def test_a_file_that_is_no_ledger_is_set_aside_never_deleted(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(damage)
    ledger = Ledger(tmp_path, NOON_NS)
    if damage:
        assert ledger.set_aside is not None
        assert ledger.set_aside.read_bytes() == damage
    ledger.commit(batch(0), NOON_NS)
    ledger.close()
    assert reopened(tmp_path)[0].device_energy_mj == {UUID: 700}


def test_a_damaged_page_is_set_aside_with_its_bytes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    for n in range(300):
        ledger.commit(batch(n, charges=(charge(1, workload=(f"project-{n}", "", "", "")),)), NOON_NS)
    totals = ledger.totals
    ledger.close()
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[4096 * 3:4096 * 4] = b"\xa5" * 4096
    path.write_bytes(data)
    again = Ledger(tmp_path, NOON_NS)
    assert again.set_aside is not None
    assert again.set_aside.read_bytes() == bytes(data)
    assert again.totals == totals
    again.close()


def test_a_ledger_of_a_newer_agent_is_left_alone(tmp_path: Path) -> None:
    Ledger(tmp_path, NOON_NS).close()
    forget_at_rest(tmp_path / FILE_NAME)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 9999")
        connection.execute("UPDATE mark SET value = 9999")
    connection.close()
    with pytest.raises(LedgerError, match="newer agent"):
        Ledger(tmp_path, NOON_NS)
    assert (tmp_path / FILE_NAME).exists()


def test_a_full_disk_keeps_ticks_in_memory_and_lands_them_afterwards(tmp_path: Path) -> None:
    seen: list[Batch] = []
    ledger = Ledger(tmp_path, NOON_NS)
    journal = Journal(ledger, 0, seen.append)
    for n in range(4):
        ticks.add(journal.batch, n)
    journal.flush_if_due(0, NOON_NS)
    assert journal.ok
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_024, hard))         # the kernel refuses every page: EFBIG
    try:
        for n in range(4, 9):
            ticks.add(journal.batch, n)
            journal.flush_if_due(n, NOON_NS)
        assert not journal.ok
        assert journal.queued_ticks == 5
        ticks.compare(ledger, 4)                                     # only what is committed is published
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    journal.flush_if_due(10, NOON_NS)
    assert journal.ok
    assert journal.queued_ticks == 0
    ticks.compare(ledger, 9)
    booked = sum(ledger.totals.cost_nano.values()) - sum(ledger.totals.credit_nano.values())
    assert sum(sum(one.spend.values()) for one in seen) == booked    # what budgets were told, each once
    ledger.close()
    _, again = reopened(tmp_path)
    ticks.compare(again, 9)
    again.close()


KILLED = """
import sys
from pathlib import Path
from agent.ledger.ledger import Ledger
from tests.faultfs.ticks import batch
ledger = Ledger(Path(sys.argv[1]), 0)
for sequence in range(1_000_000):
    ledger.commit(batch(sequence), sequence)
    print(sequence, flush=True)
"""


def test_kill_minus_nine_loses_no_acknowledged_tick(tmp_path: Path, repository: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], cwd=repository, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
        acknowledged += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        writer.stdout.close()
        totals, ledger = reopened(tmp_path)
        landed = totals.device_energy_mj[UUID] // 700
        assert landed - (acknowledged[-1] + 1) in {0, 1}              # the last commit may not have been told any more
        ticks.compare(ledger, landed)
        ledger.close()
        (tmp_path / FILE_NAME).unlink()


def test_readers_read_beside_the_writer(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0, charges=(
        charge(11), charge(7, "hardware", rate=""), charge(5, start_utc_ns=NOON_NS + 12 * 3_600 * NS_PER_S))), NOON_NS)
    reader = LedgerReader(tmp_path)
    zone = ZoneInfo("Asia/Shanghai")
    rows = reader.usage(None, None, ["project", "component"], KEYS, zone)
    assert [(row.keys, row.cost_nano, row.energy_mj) for row in rows] == [
        (("kronos", "energy"), 16, 1_400), (("kronos", "hardware"), 7, 0)]
    days = reader.usage(None, None, ["day"], KEYS, zone)             # 12:00Z is 20:00 in Shanghai, 24:00Z is the next day
    assert [(row.keys, row.cost_nano) for row in days] == [(("2026-06-24",), 18), (("2026-06-25",), 5)]
    assert reader.usage(NOON_NS + BUCKET_NS, None, ["gpu"], KEYS, zone)[0].cost_nano == 5
    reader.close()
    ledger.close()


def test_there_is_a_sentence_where_there_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger here"):
        LedgerReader(tmp_path)


def test_a_ledger_removed_under_the_daemon_is_begun_anew_from_memory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(state, NOON_NS)
    ledger.commit(batch(0, 1), NOON_NS)
    shutil.rmtree(state)
    ledger.commit(batch(2), NOON_NS)
    assert ledger.totals.device_energy_mj == {UUID: 2_100}
    with pytest.raises(LedgerError, match=f"process {os.getpid()}"):      # the directory is held again
        Ledger(state, NOON_NS)
    ledger.close()
    totals, again = reopened(state)
    assert totals.device_energy_mj == {UUID: 2_100}
    again.close()


def test_another_file_in_the_ledgers_place_is_not_written_to(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, NOON_NS)
    ledger.commit(batch(0), NOON_NS)
    restored = tmp_path / "restored"
    restored.write_bytes(b"a backup that somebody put back")
    restored.rename(tmp_path / FILE_NAME)
    for _ in range(2):
        with pytest.raises(LedgerError, match="another file stands here"):
            ledger.commit(batch(1), NOON_NS)
    assert (tmp_path / FILE_NAME).read_bytes() == b"a backup that somebody put back"
    ledger.close()


def test_sums_past_sixty_two_bits_are_no_damage(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    ledger = Ledger(tmp_path, NOON_NS)
    for n in range(3):                               # three devices at 8e18 nano-units each: 2.4e19 is past 64 bits
        one = charge(8 * 10**18, uuid=f"GPU-{n}", start_utc_ns=NOON_NS + n * BUCKET_NS)
        ledger.commit(batch(n, charges=(one,)), NOON_NS)
    assert sum(cost for _, _, _, cost in ledger.spend([], 0)) == 24 * 10**18
    ledger.close()
    totals, again = reopened(tmp_path)
    assert again.set_aside is None
    assert sum(totals.cost_nano.values()) == 24 * 10**18
    reader = LedgerReader(tmp_path)
    assert reader.usage(None, None, ["project"], KEYS, ZoneInfo("UTC"))[0].cost_nano == 24 * 10**18
    reader.close()
    again.close()


@pytest.mark.parametrize("disconnected", [False, True])
def test_a_ledger_file_that_is_removed_alone_sets_no_counter_back(tmp_path: Path, disconnected: bool) -> None:
    """The lock stays: it is this daemon's own. The file may be gone as one that damage was found in is to be opened, too."""
    ledger = Ledger(tmp_path, 0)
    ledger.commit(batch(0), 0)
    if disconnected:
        ledger.give_up("damaged", 0)
    (tmp_path / FILE_NAME).unlink()
    ledger.workloads()
    ledger.commit(batch(1), 0)
    assert ledger.totals.device_energy_mj == {UUID: 1400}
    ledger.close()
    again = Ledger(tmp_path, 0)
    assert again.totals.device_energy_mj == {UUID: 1400}
    again.close()
