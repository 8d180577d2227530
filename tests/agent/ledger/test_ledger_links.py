"""A ledger that lies elsewhere: its directory, or the file itself, is a link."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import main
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from agent.pricing.pricing import BUCKET_NS
from tests.agent.priced import book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")
TARGETS = {"directory": FILE_NAME, "file": "finops.db"}


def linked(place: Path, kind: str) -> tuple[Path, Path]:
    """A state directory, and where its ledger really is."""
    (place / "data").mkdir(parents=True)
    if kind == "directory":
        (place / "state").symlink_to("data")
    else:
        (place / "state").mkdir()
        (place / "state" / FILE_NAME).symlink_to("../data/finops.db")
    return place / "state", place / "data" / TARGETS[kind]


def killed(tmp_path: Path, kind: str) -> tuple[Path, Path]:
    """Four quarters of an hour after a clean stop and four in the log, as kill -9 leaves it."""
    state, _ = linked(tmp_path / "live", kind)
    for n in range(2):
        ledger = Ledger(state, START_NS)
        book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS + 4 * n * BUCKET_NS, 4, session=str(n))
        if n == 0:
            ledger.close()
    shutil.copytree(tmp_path / "live", tmp_path / "killed", symlinks=True)
    ledger.close()
    return tmp_path / "killed" / "state", tmp_path / "killed" / "data" / TARGETS[kind]


@pytest.mark.parametrize("kind", TARGETS)
def test_damage_in_the_log_of_a_killed_daemon_is_said(tmp_path: Path, kind: str) -> None:
    state, file = killed(tmp_path, kind)
    log = file.with_name(f"{file.name}-wal")
    data = bytearray(log.read_bytes())
    data[200] ^= 1
    log.write_bytes(data)
    ledger = Ledger(state, START_NS)
    assert ledger.set_aside is not None
    assert ledger.set_aside.resolve().parent == file.parent
    assert ledger.set_aside.with_name(f"{ledger.set_aside.name}-wal").read_bytes() == data
    ledger.close()


@pytest.mark.parametrize("kind", TARGETS)
def test_damage_of_the_file_loses_no_total(tmp_path: Path, kind: str) -> None:
    state, file = killed(tmp_path, kind)
    data = bytearray(file.read_bytes())
    data[100] ^= 0x40                            # of its first page: a good one is laid over it
    file.write_bytes(data)
    ledger = Ledger(state, START_NS)
    assert ledger.set_aside is not None
    assert sum(ledger.totals.cost_nano.values()) == 8 * 2_625_000_000
    ledger.close()
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
        assert db.execute("SELECT SUM(cost_nano) FROM summary").fetchone() == (8 * 2_625_000_000,)
    assert file.is_file()
    assert file.with_name(f"{file.name}.closed").exists()


def test_a_link_to_nowhere_is_filled_where_it_leads(tmp_path: Path) -> None:
    state, file = linked(tmp_path, "file")
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(None), START_NS, 4)
    file.unlink()                                # and once more in mid-run
    book(ledger, pricing(None), START_NS, 4, session="after")
    totals = ledger.totals
    ledger.close()
    again = Ledger(state, START_NS)
    assert again.totals == totals
    again.close()
    assert (state / FILE_NAME).is_symlink()
    assert main(["ledger", "verify", "--state.dir", str(state)]) == 0


@pytest.mark.parametrize("kind", TARGETS)
def test_a_reader_that_may_not_write_reads_the_log_too(tmp_path: Path, kind: str) -> None:
    """In a process of its own: as another user where this one may do everything."""
    with tempfile.TemporaryDirectory() as place:
        state, file = linked(Path(place) / "live", kind)
        ledger = Ledger(state, START_NS)
        book(ledger, pricing(tariff(tmp_path, "flat = 1")), START_NS, 4)
        folders = [Path(place), Path(place) / "live", file.parent, state]
        for path in file.parent.iterdir():
            path.chmod(0o444)
        for path in folders:
            path.chmod(0o555)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if os.geteuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                with closing(open_for_reading(state)) as db:
                    status = 0 if db.execute("SELECT SUM(cost_nano) FROM summary").fetchone() == (4 * 2_625_000_000,) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for path in folders:
            path.chmod(0o755)
        ledger.close()
