"""``ledger verify`` finds each figure that is not the sum of its rows; ``ledger backup`` is the ledger of one moment."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import main
from agent.errors import LedgerError
from agent.ledger.backup import back_up
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from tests.agent.ledger.half_a_day import change, faults
from tests.agent.priced import KRONOS, book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A day of two workloads: energy and hardware, a credit, and a quarter of an hour without a price."""
    directory = tmp_path / "state"
    ledger = Ledger(directory, START_NS)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 90)
    book(ledger, pricing(tariff(tmp_path, "below = -0.5")), START_NS, 3, session="credit")
    book(ledger, pricing(None), START_NS, 1, session="unpriced")
    ledger.close()
    return directory


def test_a_good_ledger_has_nothing_to_say(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(state) == []
    assert main(["ledger", "verify", "--state.dir", str(state)]) == 0
    assert "every total is the sum of its rows" in capsys.readouterr().out


@pytest.mark.parametrize(("sql", "told"), [
    ("UPDATE device SET energy_mj = energy_mj + 1", "the devices' energy"),
    ("UPDATE device SET unpriced_mj = unpriced_mj + 1", "unpriced energy"),
    ("UPDATE workload_total SET gpu_ns = gpu_ns - 1", "GPU time in ns and its rows'"),
    ("UPDATE workload_total SET emissions_ug = 7", "emissions"),
    ("UPDATE cost_total SET credit_nano = credit_nano + 1 WHERE component = 'energy'", "cost less credit"),
    ("UPDATE state_total SET energy_mj = energy_mj + 1", "energy in mJ and its states'"),
    ("UPDATE state_cost SET cost_nano = cost_nano + 1", "cost in nano-units and its states'"),
    ("UPDATE summary SET cost_nano = cost_nano + 1 WHERE start_ns = (SELECT MIN(start_ns) FROM summary)", "the summary's cost"),
    ("DELETE FROM summary WHERE start_ns = (SELECT MAX(start_ns) FROM summary)", "the summary's energy"),
    ("DELETE FROM usage WHERE start_ns = (SELECT MAX(start_ns) FROM usage)", "energy in mJ and its rows'"),
    ("UPDATE usage SET cost_nano = cost_nano + 1 WHERE component = 'hardware'", "cost less credit"),
    ("UPDATE device SET opening_mj = -1", "what a total began with"),
    ("UPDATE workload_total SET opening_ns = gpu_ns + 1", "what a total began with"),
    ("INSERT INTO correction SELECT * FROM usage WHERE component = 'energy' LIMIT 1", "energy that corrections move"),
])
def test_one_unit_too_many_is_found_and_named(state: Path, capsys: pytest.CaptureFixture[str], sql: str, told: str) -> None:
    change(state, sql)
    assert any(told in fault for fault in faults(state))
    assert main(["ledger", "verify", "--state.dir", str(state)]) == 1
    assert told in capsys.readouterr().err


def test_a_backup_is_a_ledger_of_its_own(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "kept" / FILE_NAME
    copy.parent.mkdir()
    copy.write_text("an older backup")
    live = Ledger(state, START_NS)               # beside the daemon that writes
    live_totals = live.totals
    assert main(["ledger", "backup", str(copy), "--state.dir", str(state)]) == 0
    book(live, pricing(None), START_NS, 1, session="after", workloads=(KRONOS,))
    live.close()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in copy.parent.iterdir()] == [FILE_NAME]
    restored = Ledger(copy.parent, START_NS)
    assert restored.totals == live_totals
    assert restored.set_aside is None
    restored.close()
    assert faults(copy.parent) == []
    assert "copied to" in capsys.readouterr().out


def test_a_backup_that_fails_leaves_what_was_there(state: Path, tmp_path: Path) -> None:
    with closing(open_for_reading(state)) as db:
        with pytest.raises(LedgerError, match="choose another place"):
            back_up(db, tmp_path / "nowhere" / "copy")
        old = tmp_path / "copy"
        old.write_text("an older backup")
        data = bytearray((state / FILE_NAME).read_bytes())
        data[4096 * 4:4096 * 5] = os.urandom(4096)
    (state / FILE_NAME).write_bytes(data)
    with closing(open_for_reading(state)) as db, pytest.raises(LedgerError, match="the backup failed"):
        back_up(db, old)
    assert old.read_text() == "an older backup"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "state", "tariff.toml"]


def test_a_backup_onto_the_ledger_itself_is_refused_by_whatever_name(state: Path, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    ledger = state / FILE_NAME
    before, beside = ledger.read_bytes(), tmp_path / "link"
    beside.symlink_to(ledger)
    for name in (ledger, state / "." / FILE_NAME, state / ".." / state.name / FILE_NAME, beside):
        assert main(["ledger", "backup", str(name), "--state.dir", str(state)]) == 2
        assert capsys.readouterr().err == f"gpu-finops: {name} is the ledger itself; copy it to another file\n"
    assert ledger.read_bytes() == before
    assert beside.is_symlink()
