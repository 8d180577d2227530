"""Re-rating: corrections beside what was booked, exact to the new price, once only, with counters that never fall."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.cli import main
from agent.ledger.batch import Batch
from agent.ledger.file import FILE_NAME, transaction
from agent.ledger.ledger import Ledger
from agent.ledger.query import LedgerReader, open_for_reading
from agent.ledger.rerate import Difference, Rerating
from agent.ledger.rollup import roll_up
from agent.ledger.verify import verify
from agent.model import Totals
from agent.pricing.pricing import BUCKET_NS, Pricing
from agent.settings import Hardware
from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR
from tests.agent.priced import KRONOS, OTHER, book, instant_ns, pricing, tariff
from tests.agent.records import KEYS, UUID

ZONE = "Asia/Shanghai"
START_NS = instant_ns("2026-03-01", ZONE)
END_NS = START_NS + 96 * BUCKET_NS
DAY_AND_NIGHT = ("day = 1.25, night = 0.5", '{ rate = "night", hours = ["22:00-06:00"] }, { rate = "day" }')


def state_of(directory: Path, rates: str = "flat = 1", rules: str = "", energy_mj: int = MJ_PER_KWH) -> Path:
    """A day in which two workloads use a kWh each every quarter of an hour."""
    state = directory / "state"
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(tariff(directory, rates, rules)), START_NS, 96, energy_mj)
    ledger.close()
    return state


def rerated(state: Path, priced: Pricing, from_ns: int = START_NS, to_ns: int = END_NS) -> list[Difference]:
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        return Rerating(db, priced).write(from_ns, to_ns, END_NS)


def figures(state: Path, *by: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """keys -> kWh, cost in nano-units."""
    reader = LedgerReader(state)
    rows = reader.usage(None, None, by, KEYS, ZoneInfo(ZONE))
    reader.close()
    return {row.keys: (row.energy_mj // MJ_PER_KWH, row.cost_nano) for row in rows}


def good_totals(state: Path) -> Totals:
    with closing(open_for_reading(state)) as db:
        assert verify(db) == []
    ledger = Ledger(state, END_NS)
    totals = ledger.totals
    ledger.close()
    return totals


def corrections(state: Path) -> int:
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        return int(db.execute("SELECT COUNT(*) FROM correction").fetchone()[0])


def test_a_higher_price_adds_to_the_cost_and_sums_by_rate_are_the_new_ones(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    before = good_totals(state)
    differences = rerated(state, pricing(tariff(tmp_path, *DAY_AND_NIGHT), ()))
    new_nano = (64 * 125 + 32 * 50) * NANO // 100            # 16 hours of day, 8 of night, a kWh a quarter
    assert differences == [Difference(KRONOS, "CNY", 96 * NANO, new_nano), Difference(OTHER, "CNY", 96 * NANO, new_nano)]
    assert figures(state, "component", "rate") == {
        ("energy", "day"): (128, 160 * NANO), ("energy", "night"): (64, 32 * NANO), ("energy", "flat"): (0, 0),
        ("hardware", ""): (0, 60 * NANO)}
    assert figures(state, "project", "day") == {
        ("chat", "2026-03-01"): (96, new_nano + 30 * NANO), ("kronos", "2026-03-01"): (96, new_nano + 30 * NANO)}
    assert figures(state, "correction") == {("booked",): (192, 252 * NANO), ("re-rated",): (0, 0 * NANO)}
    after = good_totals(state)
    assert after.energy_mj == before.energy_mj
    assert after.gpu_ns == before.gpu_ns


def test_a_lower_price_is_a_credit_and_no_counter_falls(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    before = good_totals(state)
    rerated(state, pricing(tariff(tmp_path, "cheap = 0.75"), ()))
    after = good_totals(state)
    key = (UUID, KRONOS, "energy", "CNY")
    assert after.cost_nano == before.cost_nano
    assert after.credit_nano[key] == 24 * NANO
    assert figures(state, "project")["kronos",] == (96, (72 + 30) * NANO)
    assert after.state_cost_nano == before.state_cost_nano


def test_twice_adds_nothing_and_back_again_restores_the_cost(tmp_path: Path) -> None:
    state = state_of(tmp_path, energy_mj=1_234_567)          # costs that do not divide
    booked = figures(state, "project")
    new = tariff(tmp_path, "cheap = 0.123456789012345678")
    rerated(state, pricing(new, ()))
    once, count = figures(state, "project", "rate", "correction"), corrections(state)
    (first, second) = rerated(state, pricing(new, ()))
    assert first.booked_nano == first.rerated_nano
    assert second.booked_nano == second.rerated_nano
    assert figures(state, "project", "rate", "correction") == once
    assert corrections(state) == count
    exact_nano = 96 * 1_234_567 * 123_456_789_012_345_678 // (MJ_PER_KWH * NANO)
    assert first.rerated_nano == exact_nano
    rerated(state, pricing(tariff(tmp_path, "flat = 1"), ()))
    assert figures(state, "project") == booked
    good_totals(state)


def test_a_tariff_that_has_not_changed_changes_nothing(tmp_path: Path) -> None:
    odd = '{ rate = "night", hours = ["22:07-06:11"] }, { rate = "day" }'    # cut within a quarter of an hour
    state = state_of(tmp_path, DAY_AND_NIGHT[0], odd, energy_mj=7_777_777)
    before = figures(state, "project", "rate")
    rerated(state, pricing(tariff(tmp_path, DAY_AND_NIGHT[0], odd), ()))
    assert corrections(state) == 0
    assert figures(state, "project", "rate") == before
    rerated(state, pricing(tariff(tmp_path, "day = 1.25, night = 0.25", odd), ()))
    after = figures(state, "project", "rate")
    assert after["kronos", "day"] == before["kronos", "day"]
    assert after["kronos", "night"][1] in {before["kronos", "night"][1] // 2 + n for n in (-1, 0, 1)}


def test_only_the_period_is_rated_again(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    rerated(state, pricing(tariff(tmp_path, "double = 2"), ()), START_NS + 4 * BUCKET_NS, START_NS + 12 * BUCKET_NS)
    assert figures(state, "rate") == {("flat",): (176, 176 * NANO), ("double",): (16, 32 * NANO), ("",): (0, 60 * NANO)}


def test_energy_without_a_price_gets_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(state, START_NS)
    book(ledger, pricing(None, ()), START_NS, 4)
    ledger.close()
    rerated(state, pricing(tariff(tmp_path, "flat = 1"), ()))
    totals = good_totals(state)
    assert totals.cost_nano == {(UUID, KRONOS, "energy", "CNY"): 4 * NANO, (UUID, OTHER, "energy", "CNY"): 4 * NANO}
    assert totals.device_unpriced_mj == {UUID: 8 * MJ_PER_KWH}       # a counter: it tells what was unpriced when it was used
    assert figures(state, "rate") == {("",): (0, 0), ("flat",): (8, 8 * NANO)}


def test_rented_devices_stay_as_they_are(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(state, START_NS)
    rent = (Hardware(gpu="*", rent_per_gpu_hour=Decimal(4), currency="CNY"),)
    book(ledger, pricing(tariff(tmp_path, "flat = 1"), rent), START_NS, 4)
    ledger.close()
    before = figures(state, "component", "rate")
    rerated(state, pricing(tariff(tmp_path, "flat = 3"), ()))
    assert figures(state, "component", "rate") == before
    assert corrections(state) == 0


def test_tiers_go_on_from_what_was_used_before_the_period(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    file = tmp_path / "tiers.toml"
    file.write_text('[tariff.t]\ncurrency = "CNY"\ntimezone = "Asia/Shanghai"\ntier_period = "month"\n'
                    'rates = { base = [{ upto = 100, price = 1.0 }, { price = 3.0 }] }\nrule = [{ rate = "base" }]\n')
    assert main(["rerate", "--from", "2026-03-01", "--to", "2026-03-02", "--config.file", str(configured(file)),
                 "--state.dir", str(state)]) == 0
    # 192 kWh in the day, the first 100 at 1, the others at 3
    assert sum(cost for _, cost in figures(state, "component").values()) == (100 + 92 * 3 + 60) * NANO
    count = corrections(state)
    assert main(["rerate", "--from", "2026-03-01T12:00:00+08:00", "--to", "2026-03-02", "--config.file", str(file),
                 "--state.dir", str(state)]) == 0
    assert corrections(state) == count
    good_totals(state)


def test_rolled_up_rows_are_divided_evenly_over_their_time(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo(ZONE), 0, 0, END_NS + NS_PER_HOUR)
    new = tariff(tmp_path, *DAY_AND_NIGHT)
    rerated(state, pricing(new, ()))
    once = figures(state, "rate")
    assert once == {("flat",): (0, 0), ("day",): (128, 160 * NANO), ("night",): (64, 32 * NANO), ("",): (0, 60 * NANO)}
    rerated(state, pricing(new, ()))
    assert figures(state, "rate") == once
    good_totals(state)


def test_corrections_are_rolled_up_too(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    rerated(state, pricing(tariff(tmp_path, "double = 2"), ()))
    before, totals = figures(state, "project", "rate", "correction"), good_totals(state)
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo(ZONE), 0, 0, END_NS + NS_PER_HOUR)
    assert figures(state, "project", "rate", "correction") == before
    assert good_totals(state) == totals
    assert corrections(state) == 4


def test_a_running_daemon_takes_the_corrections_into_its_counters(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    running = Ledger(state, END_NS)
    new = pricing(tariff(tmp_path, "double = 2"), ())
    rerated(state, new)
    assert running.corrections == 0
    book(running, pricing(tariff(tmp_path, "flat = 1")), END_NS, 1, session="later")
    live = running.totals
    assert live.cost_nano[UUID, KRONOS, "energy", "CNY"] == (96 * 2 + 1) * NANO
    assert running.corrections == corrections(state)
    running.commit(Batch(), END_NS)
    running.close()
    assert good_totals(state) == live


def test_a_workload_and_a_device_that_the_daemon_names_meanwhile_are_rated_too(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    late, other_gpu = ("late", "", "", ""), "GPU-late"
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        rerating = Rerating(db, pricing(tariff(tmp_path, "double = 2"), ()), lambda name: name == "")
        running = Ledger(state, END_NS)
        flat = pricing(tariff(tmp_path, "flat = 1"))
        book(running, flat, START_NS, 1, workloads=(late,), session="later", uuid=other_gpu)
        differences = rerating.write(START_NS, END_NS, END_NS)
        running.close()
    assert [(one.workload[0], one.booked_nano, one.rerated_nano) for one in differences] == [
        ("kronos", 96 * NANO, 192 * NANO), ("chat", 96 * NANO, 192 * NANO), ("late", NANO, 2 * NANO)]
    good_totals(state)


def test_a_daemon_that_stops_between_two_hours_leaves_no_note_of_what_is_changed_after_it(tmp_path: Path) -> None:
    """It stops after the first hour was rated again; the re-rating is killed before the third."""
    state = state_of(tmp_path)
    hours = 0
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:

        @contextmanager
        def hour() -> Iterator[None]:
            nonlocal hours
            if hours == 2:
                raise KeyboardInterrupt
            with transaction(db):
                yield
            hours += 1
            if hours == 1:
                Ledger(state, END_NS).close()
                assert (state / f"{FILE_NAME}.closed").exists()

        with pytest.raises(KeyboardInterrupt):
            Rerating(db, pricing(tariff(tmp_path, "double = 2"), ())).write(START_NS, END_NS, END_NS, hour)
    again = Ledger(state, END_NS)
    assert again.set_aside is None
    assert again.totals.cost_nano[UUID, KRONOS, "energy", "CNY"] == (96 + 2 * 4) * NANO
    again.close()


def test_a_damaged_row_is_not_rated_and_the_sentence_says_what_to_do(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(tmp_path)
    with closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE usage SET gpu_ns = gpu_ns + 1 WHERE start_ns = (SELECT MIN(start_ns) FROM usage)")
    tariff(tmp_path, "double = 2")
    file = configured(tmp_path / "tariff.toml")
    assert main(["rerate", "--from", "2026-03-01", "--to", "2026-03-02", "--config.file", str(file), "--state.dir",
                 str(state)]) == 1
    told = capsys.readouterr().err
    assert "is not what was written" in told
    assert "have the daemon set it aside" in told
    assert corrections(state) == 0


def configured(file: Path) -> Path:
    file.write_text(f'site = {{ tariff = "t" }}\n{file.read_text()}')
    return file


def test_the_command_shows_the_difference_before_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(tmp_path)
    tariff(tmp_path, "double = 2")
    file = configured(tmp_path / "tariff.toml")
    arguments = ["rerate", "--from", "2026-03-01", "--to", "2026-03-02", "--config.file", str(file), "--state.dir", str(state)]
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[1:] == [
        "chat     96.0000     192.0000    +96.0000  CNY", "kronos   96.0000     192.0000    +96.0000  CNY", "Nothing written."]
    assert corrections(state) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out == shown.replace("Nothing written.", "Written as corrections.")
    assert main(arguments) == 0
    assert "+0.0000" in capsys.readouterr().out


@pytest.mark.parametrize(("config", "days", "told"), [
    ("", ("2026-03-01", "2026-03-02"), "no site.tariff is configured"),
    ("tariff", ("2026-03-02", "2026-03-02"), "is not before --to 2026-03-02"),
    ("tariff", ("yesterday", "2026-03-02"), "give a date alone"),
])
def test_wrong_usage_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, days: tuple[str, str],
                                     told: str) -> None:
    state = state_of(tmp_path)
    file = tmp_path / "tariff.toml" if config else tmp_path / "empty.toml"
    if config:
        configured(file)
    else:
        file.write_text("")
    assert main(["rerate", "--from", days[0], "--to", days[1], "--config.file", str(file), "--state.dir", str(state)]) == 2
    assert told in capsys.readouterr().err


def test_a_price_file_that_does_not_reach_back_takes_no_cost_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(tmp_path)
    (tmp_path / "later.csv").write_text("start,price\n2026-06-01T00:00:00Z,80\n2026-06-01T01:00:00Z,80\n")
    config = tmp_path / "c.toml"
    config.write_text(
        f'[site]\ntariff = "t"\n[tariff.t]\ncurrency = "CNY"\ntimezone = "{ZONE}"\n'
        'rates = { s = { csv = "later.csv", unit = "CNY/MWh", missing = "last" } }\nrule = [{ rate = "s" }]\n')
    assert main(["rerate", "--from", "2026-03-01", "--to", "2026-03-02", "--config.file", str(config),
                 "--state.dir", str(state)]) == 0
    assert "Nothing written." in capsys.readouterr().out


def test_a_rented_device_whose_rent_was_unknown_is_not_billed_electricity(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(state, START_NS)
    book(ledger, Pricing(None, "", Decimal(1), (), None, {}), START_NS, 4)      # energy booked without a price
    ledger.close()
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        rented = Rerating(db, pricing(tariff(tmp_path, "flat = 1")), lambda name: True)
        assert [d for d in rented.write(START_NS, END_NS, END_NS) if d.booked_nano != d.rerated_nano] == []
        owned = Rerating(db, pricing(tariff(tmp_path, "flat = 1")))
        assert sum(d.rerated_nano for d in owned.look(START_NS, END_NS)) > 0
