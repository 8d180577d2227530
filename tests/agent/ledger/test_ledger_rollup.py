"""Roll-up: fewer rows, the same sums, whatever the site's offset, and on the days on which its clock changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader, UsageRow, open_for_reading
from agent.ledger.rollup import RollUp, day_at, hour_at, roll_up
from agent.ledger.verify import verify
from agent.pricing.pricing import BUCKET_NS
from agent.units import NS_PER_HOUR
from tests.agent.priced import KRONOS, book, instant_ns, pricing, tariff
from tests.agent.records import KEYS

DAY_NS = 24 * NS_PER_HOUR
TWO_RATES = ("day = 1.25, night = 0.5", '{ rate = "night", hours = ["22:00-06:00"] }, { rate = "day" }')

# zone, first local day of three: two ordinary ones with odd offsets, days with 23, 25 and 23.5 hours, a midnight that is
# skipped
PLACES = [
    ("Asia/Shanghai", "2026-03-01"), ("Asia/Kolkata", "2026-03-01"), ("Asia/Kathmandu", "2026-03-01"),
    ("Europe/Berlin", "2026-03-28"), ("Europe/Berlin", "2026-10-24"), ("Australia/Lord_Howe", "2026-10-03"),
    ("Australia/Lord_Howe", "2026-04-04"), ("Africa/Cairo", "2026-04-23"), ("America/Havana", "2026-10-31"),
]


def reports(directory: Path, zone: ZoneInfo, span: tuple[int, int] | None = None) -> dict[str, list[UsageRow]]:
    reader = LedgerReader(directory)
    try:
        return {" ".join(by): reader.usage(*(span or (None, None)), by, KEYS, zone) for by in (
            ["day"], ["month"], ["project", "day"], ["rate", "day"], ["rate"], ["gpu", "component"], ["project", "team"])}
    finally:
        reader.close()


def rows(directory: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(directory / FILE_NAME)) as db:
        return db.execute("SELECT start_ns, span_ns FROM usage ORDER BY start_ns").fetchall()


@pytest.mark.parametrize(("name", "first"), PLACES)
def test_no_report_changes_in_any_zone(tmp_path: Path, name: str, first: str) -> None:
    zone = ZoneInfo(name)
    start_ns = instant_ns(first, name)
    ledger = Ledger(tmp_path, start_ns)
    book(ledger, pricing(tariff(tmp_path, *TWO_RATES, zone=name)), start_ns, 3 * 96, energy_mj=1_234_567)
    totals = ledger.totals
    ledger.close()
    end_ns = start_ns + 3 * 96 * BUCKET_NS
    before = reports(tmp_path, zone)
    second_day = day_at(start_ns + 30 * NS_PER_HOUR, zone)
    whole_day = reports(tmp_path, zone, second_day)
    kept = [len(rows(tmp_path))]
    for keep_hours_ns in (DAY_NS * 1_000, 0):    # first to hours, then to days
        with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as db:
            roll_up(db, zone, 0, keep_hours_ns, end_ns + 2 * DAY_NS)
        assert reports(tmp_path, zone) == before
        assert reports(tmp_path, zone, second_day) == whole_day
        with closing(open_for_reading(tmp_path)) as db:
            assert verify(db) == []
        kept.append(len(rows(tmp_path)))
    assert kept[0] > 3 * kept[1] > 20 * kept[2] > 0
    assert {span_ns // NS_PER_HOUR for _, span_ns in rows(tmp_path)} <= {23, 24, 25}
    again = Ledger(tmp_path, end_ns)
    assert again.totals == totals
    again.close()


def test_hours_are_local_ones() -> None:
    kathmandu = ZoneInfo("Asia/Kathmandu")       # +05:45
    start_ns, end_ns = hour_at(instant_ns("2026-03-01T10:59:59", "Asia/Kathmandu"), kathmandu)
    def local_ns(text: str) -> int:
        return instant_ns(text, "Asia/Kathmandu")

    assert (start_ns, end_ns) == (local_ns("2026-03-01T10:00"), local_ns("2026-03-01T11:00"))
    assert day_at(start_ns, kathmandu) == (local_ns("2026-03-01"), local_ns("2026-03-02"))


def test_only_what_is_old_enough_is_rolled_up_and_what_is_late_still_counts(tmp_path: Path) -> None:
    utc = ZoneInfo("UTC")
    start_ns = instant_ns("2026-03-01")
    priced = pricing(tariff(tmp_path, "flat = 1"))
    ledger = Ledger(tmp_path, start_ns)
    book(ledger, priced, start_ns, 3 * 96, workloads=(KRONOS,))
    ledger.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as db:
        assert roll_up(db, utc, DAY_NS, 2 * DAY_NS, start_ns + 3 * DAY_NS) == 2 * 24 + 1
        assert roll_up(db, utc, DAY_NS, 2 * DAY_NS, start_ns + 3 * DAY_NS) == 0
    spans = [span_ns for _, span_ns in rows(tmp_path)]
    assert [spans.count(DAY_NS), spans.count(NS_PER_HOUR), spans.count(BUCKET_NS)] == [2, 2 * 24, 2 * 96]    # energy, hardware
    again = Ledger(tmp_path, start_ns)
    book(again, priced, start_ns, 5, workloads=(KRONOS,), session="late")
    again.close()
    reader = LedgerReader(tmp_path)
    days = [(row.keys[0], row.energy_mj // 3_600_000_000) for row in reader.usage(None, None, ["day"], KEYS, utc)]
    reader.close()
    assert days == [("2026-03-01", 96 + 5), ("2026-03-02", 96), ("2026-03-03", 96)]
    with closing(open_for_reading(tmp_path)) as db:
        assert verify(db) == []


def test_a_roll_up_that_is_stopped_goes_on_the_next_time(tmp_path: Path) -> None:
    start_ns = instant_ns("2026-03-01")
    ledger = Ledger(tmp_path, start_ns)
    many = tuple((f"project-{number}", *KRONOS[1:]) for number in range(100))
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), start_ns, 96, workloads=many)
    before = reports(tmp_path, ZoneInfo("UTC"))
    work = RollUp(ledger.path, lambda: (ZoneInfo("UTC"), 0, 0), lambda: start_ns + 2 * DAY_NS)
    work.stop()
    work()                                       # beside the writer, which holds the file open
    hours = {start_ns for start_ns, span_ns in rows(tmp_path) if span_ns == NS_PER_HOUR}
    assert 1 <= len(hours) < 24                  # some, and it ended within the first day
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), start_ns + DAY_NS, 1, workloads=(KRONOS,), session="next")
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo("UTC"), 0, 0, start_ns + DAY_NS)
    assert reports(tmp_path, ZoneInfo("UTC"))["month"][0].cost_nano - before["month"][0].cost_nano == 10**9 + 10**9 * 5 // 8
    ledger.close()


def test_a_ledger_that_is_not_there_is_told_and_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    RollUp(tmp_path / FILE_NAME, lambda: (ZoneInfo("UTC"), 0, 0), lambda: 0)()
    assert "tried again later" in caplog.text
    assert list(tmp_path.iterdir()) == []
