"""A log is called damaged where commits are lost behind a bad frame, and not where commits that failed have left their ends."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.log_check import is_log_damaged
from agent.ledger.log_file import FRAME, HEADER, committed, frames
from agent.pricing.pricing import BUCKET_NS
from tests.agent.priced import book, instant_ns, pricing, tariff

START_NS = instant_ns("2026-03-01")
LOG = f"{FILE_NAME}-wal"
FRAME_BYTES = FRAME.size + 4096


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Eight commits in the log."""
    state, priced = tmp_path / "state", pricing(tariff(tmp_path, "flat = 1"))
    ledger = Ledger(state, START_NS)
    book(ledger, priced, START_NS, 96)
    ledger.close()
    ledger = Ledger(state, START_NS)
    book(ledger, priced, START_NS + 96 * BUCKET_NS, 8, session="killed")
    shutil.copytree(state, tmp_path / "killed")
    ledger.close()
    return tmp_path / "killed"


def log_after(killed: Path, name: str, sql: str) -> bytes:
    """The log with one transaction more."""
    place = killed.with_name(name)
    shutil.copytree(killed, place)
    with closing(sqlite3.connect(place / FILE_NAME)) as db:
        with db:
            db.execute(sql)
        return (place / LOG).read_bytes()


def test_the_ends_of_two_commits_that_failed_are_no_damage(killed: Path) -> None:
    """Each was written over by a shorter one: a disk that refused to flush, twice, and then no more."""
    first = log_after(killed, "first", "UPDATE usage SET gpu_ns = gpu_ns + 1")
    second = log_after(killed, "second", f"UPDATE usage SET gpu_ns = gpu_ns + 1 WHERE start_ns < {START_NS + 48 * BUCKET_NS}")
    third = log_after(killed, "third", f"UPDATE usage SET gpu_ns = gpu_ns + 1 WHERE start_ns = {START_NS}")
    assert len(third) + FRAME_BYTES < len(second) < len(first) - FRAME_BYTES
    log = third + second[len(third):] + first[len(second):]
    assert sum(frame.size > 0 for frame in list(frames(log))[len(committed(log)):]) == 2
    (killed / LOG).write_bytes(log)
    assert not is_log_damaged(killed / FILE_NAME)


@pytest.mark.parametrize("byte", [0, 9, 17, 21, 24 + 7], ids=["page", "salt", "sum 1", "sum 2", "content"])
@pytest.mark.parametrize("commit", [0, 3, 5])
def test_a_bad_frame_with_commits_behind_it_is_damage(killed: Path, commit: int, byte: int) -> None:
    """In the first frame of each commit, which has others behind it, and in its last."""
    log = (killed / LOG).read_bytes()
    ends = [n for n, frame in enumerate(committed(log)) if frame.size]
    for frame in {ends[commit - 1] + 1 if commit else 0, ends[commit]}:
        data = bytearray(log)
        data[HEADER.size + frame * FRAME_BYTES + byte] ^= 0x10
        (killed / LOG).write_bytes(data)
        assert is_log_damaged(killed / FILE_NAME), frame


@pytest.mark.parametrize("byte", range(0, HEADER.size, 3))
def test_a_bad_header_is_damage(killed: Path, byte: int) -> None:
    data = bytearray((killed / LOG).read_bytes())
    data[byte] ^= 0x04
    (killed / LOG).write_bytes(data)
    assert is_log_damaged(killed / FILE_NAME)


def test_a_lost_sector_is_damage(killed: Path) -> None:
    data = bytearray((killed / LOG).read_bytes())
    data[len(data) // 3:len(data) // 3 + 4096] = bytes(4096)
    (killed / LOG).write_bytes(data)
    assert is_log_damaged(killed / FILE_NAME)


def test_a_commit_that_a_power_cut_ended_is_no_damage(killed: Path) -> None:
    log = (killed / LOG).read_bytes()
    (killed / LOG).write_bytes(log[:-FRAME_BYTES])
    assert not is_log_damaged(killed / FILE_NAME)
