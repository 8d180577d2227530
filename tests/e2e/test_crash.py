"""The short form of ``benchmarks/ledger_crash.py``."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.crash import Crashes, Watcher


def test_kill_minus_nine_under_load_takes_nothing_back(tmp_path: Path) -> None:
    crashes = Crashes(tmp_path, devices=8, seed=20)
    for n in range(20):
        crashes.crash(longest_s=0.6, whole=n % 5 == 0)
    crashes.finish()
    assert crashes.wrong == []
    assert crashes.watcher.fallen == []
    assert crashes.watcher.scrapes > 20
    assert {name for name, _ in crashes.watcher.highest} >= {
        f"finops_{name}_total" for name in (
            "gpu_energy_joules", "gpu_state_seconds", "workload_energy_joules", "workload_gpu_seconds", "workload_cost",
            "workload_credit", "workload_state_seconds", "workload_state_energy_joules", "workload_state_cost")}


def test_the_watcher_sees_what_falls_and_what_vanishes() -> None:
    watcher, ours, other = Watcher(), ("finops_a_total", ()), ("finops_b_total", ())
    watcher.see({ours: 1.0, other: 1.0})
    watcher.see({ours: 2.0, other: 1.0})
    assert watcher.fallen == []
    watcher.see({ours: 1.0, other: 1.0})
    watcher.see({ours: 2.0})
    assert [text.split(":")[1] for text in watcher.fallen] == [" 1.0 after 2.0", " missing, after 1.0"]
