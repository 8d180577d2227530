"""Every read, write, flush and open of a commit, a start or a rescue that the disk can refuse: nothing corrupt, nothing
doubled, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.faultfs.build import build


def on_the_failing_disk(module: str, tmp_path: Path, repository: Path) -> dict[str, Any]:
    environ = dict(os.environ) | {"LD_PRELOAD": str(build(tmp_path))}
    done = subprocess.run([sys.executable, "-m", module, str(tmp_path / "disk")], cwd=repository, env=environ,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases: dict[str, Any] = json.loads(done.stdout)
    return cases


def test_the_nth_operation_of_a_flush_or_a_start_fails_for_every_n(tmp_path: Path, repository: Path) -> None:
    cases = on_the_failing_disk("tests.faultfs.flushes", tmp_path, repository)
    assert set(cases) == {f"{scenario}: {fault}" for scenario in ("flush", "start") for fault in (
        "write EIO", "write ENOSPC", "write short", "fsync EIO", "fsync ENOSPC", "open EIO", "open ENOSPC", "open EMFILE")}
    assert min(cases[f"flush: write {kind}"] for kind in ("EIO", "ENOSPC", "short")) > 30      # frames and checkpoint
    assert cases["flush: fsync EIO"] >= 2
    assert cases["start: open EIO"] >= 2


def test_rows_of_a_damaged_ledger_wait_for_a_fault_that_passes(tmp_path: Path, repository: Path) -> None:
    """Every open, write and link on the way fails once, also where the description of the tables must be mended: no row is
    given up. They are where links can never be made, and that is said."""
    cases = on_the_failing_disk("tests.faultfs.rescues", tmp_path, repository)
    assert cases["described: open EIO"] >= 2     # the new ledger and the one set aside, at least
    assert cases["described: open EMFILE"] >= 2
    assert cases["damaged: open EIO"] > cases["described: open EIO"]
    assert cases["damaged: link EIO"] >= 2       # usage and correction
    assert cases["damaged: write ENOSPC"] > cases["described: write ENOSPC"]
    said, = cases["without links"]
    assert "none of the rows of ledger.sqlite3.corrupt-20260301T000000Z went over: " in said
    assert "a hard link to it is needed, which this file system does not have (Operation not permitted)" in said
    assert "spans" not in said


def test_a_page_that_the_disk_does_not_give_is_no_damage(tmp_path: Path, repository: Path) -> None:
    """Whichever read of a start or of a commit fails, once or from then on, the next one has every total, and a good file is
    not set aside. Where one page is never given, a start goes on with every cost as it was, or is refused in a sentence."""
    cases = on_the_failing_disk("tests.faultfs.reads", tmp_path, repository)
    assert cases.pop("look") == [None]
    assert min(cases.pop("opens")) >= 2
    assert cases.pop("proofs") > 10
    spots = cases.pop("spots")
    assert {owner for owner, outcome in spots.items() if "refused" in outcome} == {
        "sqlite_schema", "seal", "workload", "cost_total"}       # the file's first bytes, and what costs are proven by
    assert {owner for owner, outcome in spots.items() if outcome == "goes on"} >= {
        "session", "mark", "host", "correction_run", "device", "device_state", "workload_total", "state_total", "state_cost",
        "usage", "correction", "summary"}
    assert min(reads for name, reads in cases.items() if not name.startswith("damaged")) > 10
    assert min(reads for name, reads in cases.items() if name.startswith("damaged")) > 100


def test_the_note_of_a_close_is_gone_for_good_before_a_ledger_is_written_to(tmp_path: Path, repository: Path) -> None:
    """The directory is flushed once the note is removed: else a power cut could bring it back, older than the ledger."""
    assert on_the_failing_disk("tests.faultfs.notes", tmp_path, repository) == {"forget_at_rest": "EIO", "start": "refused"}
