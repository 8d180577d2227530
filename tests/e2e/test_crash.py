"""The short form of ``benchmarks/ledger_crash.py``."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.crash import Crashes


def test_kill_minus_nine_under_load_takes_nothing_back(tmp_path: Path) -> None:
    crashes = Crashes(tmp_path, devices=8, seed=20)
    for n in range(20):
        crashes.crash(longest_s=0.6, whole=n % 5 == 0)
    crashes.finish()
    assert crashes.wrong == []
    assert crashes.watcher.fallen == []
    assert crashes.watcher.scrapes > 20
