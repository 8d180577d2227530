"""The screen of ``top``: the figures of a known snapshot, on terminals of any size, whatever names contain."""

from __future__ import annotations

import copy
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.top_screen import fit, screen

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "snapshot.json").read_text())
ROOMY = (200, 200)


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def made(devices: int = 1, workloads: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A snapshot with so many equal devices, and workloads given as (project, watts, cost an hour) on device 0."""
    told = copy.deepcopy(GOLDEN)
    first = told["devices"][0]
    told["devices"] = [first | {"index": i, "uuid": f"GPU-{i}", "state": "active"} for i in range(devices)]
    told["workloads"] = workloads or []
    told["waste"] = []
    return told


def work(project: str, watts: float | None, cost: float | None, uuid: str = "GPU-0") -> dict[str, Any]:
    tags = {"project": project, "team": "", "model": "", "model_version": ""}
    return {"uuid": uuid, "tags": tags, "power_watts": watts, "cost_per_hour": cost}


def test_the_golden_snapshot_shows_its_own_figures() -> None:
    lines = screen(GOLDEN, *ROOMY)
    assert lines[0] == "gpu-finops  test  2026-11-22T00:00:00Z  driver 570.86.15"
    assert lines[1] == "now   7.3600 CNY/h, 412 W, 1 of 2 GPUs up, 1.2 CNY/kWh (peak), 1 workloads without a price"
    assert lines[2] == "spent 79.15 CNY"
    assert "7.33 CNY unallocated" in lines[3]
    active = next(line for line in lines if line.startswith("0 "))
    assert " ".join(active.split()) == "0 NVIDIA H100 80GB HBM3 active 412/700 W 87 % 61.0/80 GiB 64 °C"
    silent = next(line for line in lines if line.startswith("1 "))
    assert "no answer" in silent
    assert [line.split()[:4] for line in lines if "kronos-base" in line] == [["7.3600", "300", "W", "1"]]


def test_workloads_are_added_up_over_gpus_dearest_first_and_those_at_rest_left_out() -> None:
    told = made(2, [work("cheap", 10, 0.5), work("dear", 100, 2.0), work("dear", 50, 1.25, "GPU-1"), work("done", None, None),
                    work("unpriced", 70, None)])
    table = screen(told, *ROOMY)[10:]
    assert [line.split() for line in table] == [
        ["3.2500", "150", "W", "2", "dear"], ["0.5000", "10", "W", "1", "cheap"], ["-", "70", "W", "1", "unpriced"]]


def test_idle_cost_now_is_that_of_the_devices_that_idle() -> None:
    told = made(2, [work("a", 10, 0.5), work("b", 20, 0.75, "GPU-1")])
    told["devices"][1]["state"] = "parked"
    assert screen(told, *ROOMY)[3] == "idle  0.7500 CNY/h on 1 GPUs now; so far nothing"


def test_simulated_and_stale_are_said() -> None:
    assert screen(made() | {"simulated": True, "stale": True}, *ROOMY)[0].endswith(
        "SIMULATED STALE: the driver does not answer")


def test_what_does_not_fit_is_counted() -> None:
    told = made(40, [work(f"p{i}", i, i) for i in range(1, 31)])
    lines = screen(told, 120, 24)
    assert len(lines) == 24
    # 24 lines: 4 of head, 2 blank, half of the other 18 for GPUs (a header, 7 GPUs, the count), the rest for workloads
    assert sum(line.split()[0].isdigit() for line in lines[6:13]) == 7
    assert lines[13] == "… and 33 GPUs more"
    assert lines[-1] == "… and 23 workloads more"
    assert [line.split()[-1] for line in lines[16:23]] == [f"p{i}" for i in range(30, 23, -1)]
    # and GPUs take the room that few workloads leave
    assert screen(made(40, [work("one", 1, 1)]), 120, 24)[20] == "… and 26 GPUs more"


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 120), st.integers(1, 50), st.integers(0, 30), st.text(max_size=40))
def test_no_terminal_is_too_small(width: int, height: int, devices: int, name: str) -> None:
    told = made(devices, [work(name, 5, 1), work("漢字" * 20, 5, 1)])
    lines = screen(told, width, height)
    assert len(lines) <= height
    assert all(columns(line) <= width for line in lines)
    assert all(c.isprintable() for line in lines for c in line)


@pytest.mark.parametrize(("text", "width", "shown"), [
    ("kronos", 6, "kronos"), ("kronos", 5, "kron…"), ("漢字漢字", 8, "漢字漢字"), ("漢字漢字", 6, "漢字…"),
    ("漢字漢字", 7, "漢字漢…"),
    ("a\x1b[2Jb", 10, "a�[2Jb"), ("kronos", 1, "…"), ("kronos", 0, ""),
])
def test_lines_are_cut_by_the_columns_that_they_take(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown
