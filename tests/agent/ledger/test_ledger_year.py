"""The short form of ``benchmarks/ledger_year.py``: the days on which a year is hard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.ledger_year import berlin, shanghai
from benchmarks.year.lane import Lane

HARD_DAYS = [
    (berlin, dt.date(2026, 3, 25), 1),       # the clock is put forward within the night rate's hours, and nobody looks
    (berlin, dt.date(2026, 6, 26), 1),       # other adders, tax, rules and a price each quarter of an hour
    (berlin, dt.date(2026, 10, 20), 1),      # 02:00 to 02:20 comes twice
    (shanghai, dt.date(2026, 4, 1), 1),      # a first block ends
    (shanghai, dt.date(2026, 12, 27), 2),    # the year's blocks begin anew, and the first one ends before a restart
]


@pytest.mark.parametrize(("place", "first", "change_days"), HARD_DAYS)
def test_every_figure_of_hard_days_is_exact(tmp_path: Path, place: Callable[..., Lane], first: dt.date,
                                              change_days: int) -> None:
    figures = place(tmp_path, 9, 7, first, change_days=change_days, roll_up_days=1, kept_days=(4, 5)).run()
    assert {what: off for what, off in figures["off"].items() if off} == {}
    assert figures["restarts"] + figures["reloads"] >= 9 // change_days - 1
    assert set(figures["rows_by_hours"]) >= {"quarter", "1", "24"}
    if place is berlin:
        assert figures["credit"] > 0
