"""Charge periods of tariffs that change off the quarter of an hour: none overlaps another of its kind, and sums are the
ledger's, as it was written, rated again and rolled up."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.api.focus import account_of
from agent.config.config import Config, load
from agent.ledger.file import FILE_NAME
from agent.ledger.focus import charge_rows
from agent.ledger.rerate import Rerating
from agent.ledger.rollup import roll_up
from agent.pricing.pricing import Pricing
from agent.units import NS_PER_HOUR
from exporters.focus import focus_rows
from tests.exporters.focus import books

DAY_NS = 24 * NS_PER_HOUR
END_NS = books.START_NS + 12 * NS_PER_HOUR
CONFIG = """
[site]
name = "odd"
tariff = "spot"
pue = 1.37
[tariff.spot]
currency = "EUR"
timezone = "ZONE"
rates = { day = 0.31, night = 0.2113, dusk = 0.27 }
rule = [{ rate = "night", hours = ["00:04-06:11"] }, { rate = "dusk", hours = ["06:11-06:13", "20:07-23:59"] },
        { rate = "day" }]
[[hardware]]
gpu = "NVIDIA H100*"
price = 30001
years = 4
[[hardware]]
gpu = "NVIDIA A100*"
rent_per_gpu_hour = { csv = "rent.csv", missing = "last" }
[host]
idle_watts = 200
max_watts = 500
"""


def configured(directory: Path, zone: str) -> Config:
    (directory / "rent.csv").write_text("start,price\n2026-06-30T00:00:00Z,1.79\n2026-06-30T23:23:00Z,2.13\n")
    file = directory / "gpu-finops.toml"
    file.write_text(CONFIG.replace("ZONE", zone))
    return load(file, {"state_dir": directory / "state"}, environ={"HOME": "/"})


def exported(config: Config) -> list[dict[str, Any]]:
    rows = charge_rows(config.state_dir, None, None, ZoneInfo(config.timezone))
    return list(focus_rows(rows, account_of(config, END_NS)))


def hold(config: Config) -> list[dict[str, Any]]:
    rows = exported(config)
    kinds: dict[tuple[Any, ...], list[tuple[Any, Any]]] = defaultdict(list)
    for row in rows:
        assert 0 < (row["ChargePeriodEnd"] - row["ChargePeriodStart"]).total_seconds() <= 3600
        if row["x_PriceStatus"] != "corrected":  # a correction stands beside what it corrects
            # The host's two rates of one price tell how its cost was split, from tick to tick.
            kind = (row["ResourceId"], row["Tags"], row["x_Component"], row["x_Rate"] if row["x_Component"] == "host" else "")
            kinds[kind].append((row["ChargePeriodStart"], row["ChargePeriodEnd"]))
    assert len(kinds) > 10
    for periods in kinds.values():
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(sorted(periods)))
    with closing(sqlite3.connect(config.state_dir / FILE_NAME)) as db:
        (booked_nano,) = db.execute("SELECT SUM(cost_nano) - SUM(credit_nano) FROM cost_total").fetchone()
        energy_mj, gpu_ns = db.execute("SELECT SUM(energy_mj), SUM(gpu_ns) FROM workload_total").fetchone()
    assert sum(row["BilledCost"] for row in rows) == Decimal(booked_nano).scaleb(-9) > 0
    assert sum(row["x_EnergyJoules"] for row in rows) == Decimal(energy_mj).scaleb(-3)
    assert sum(row["x_GpuSeconds"] for row in rows) == Decimal(gpu_ns).scaleb(-9)
    return rows


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_no_period_overlaps_another_of_its_kind(tmp_path: Path, zone: str) -> None:
    config = configured(tmp_path, zone)
    books.fill(config, minutes=12 * 60)
    hold(config)
    with closing(sqlite3.connect(config.state_dir / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, ZoneInfo(zone), 0, 1_000 * DAY_NS, END_NS + DAY_NS)
    hold(config)


def test_the_periods_around_eleven_past_six(tmp_path: Path) -> None:
    config = configured(tmp_path, "Europe/Berlin")           # two hours ahead of UTC then
    books.fill(config, minutes=9 * 60)
    rows = [row for row in hold(config) if row["ResourceId"] == books.MIG and row["x_Component"] == "energy"]
    periods = [(f"{row['ChargePeriodStart']:%H:%M}", f"{row['ChargePeriodEnd']:%H:%M}", row["x_Rate"]) for row in rows]
    assert [period for period in periods if period[0][:2] in {"21", "22", "04"}] == [
        ("21:00", "21:59", "dusk"), ("21:59", "22:00", "day"), ("22:00", "22:04", "day"), ("22:04", "23:00", "night"),
        ("04:00", "04:11", "night"), ("04:11", "04:13", "dusk"), ("04:13", "05:00", "day")]


def test_a_re_rating_leaves_the_periods_and_the_sums_right(tmp_path: Path) -> None:
    config = configured(tmp_path, "Europe/Berlin")
    books.fill(config, minutes=9 * 60)
    before = exported(config)
    config.file.write_text(config.file.read_text().replace("dusk = 0.27", "dusk = 0.29"))
    new = load(config.file, {"state_dir": config.state_dir}, environ={"HOME": "/"})
    with closing(sqlite3.connect(new.state_dir / FILE_NAME, isolation_level=None)) as db:
        rented = "NVIDIA A100".__eq__
        Rerating(db, Pricing(new.tariff, "spot", new.site.pue, (), None, {}), rented).write(books.START_NS, END_NS, END_NS)
    rows = hold(new)
    assert [row for row in rows if row["x_PriceStatus"] != "corrected"] == before
    dusk_kwh = sum(row["x_EnergyJoules"] for row in before if row["x_Rate"] == "dusk" and row["x_Component"] == "energy"
                   and row["ResourceId"] != books.RENTED) / 3_600_000
    dusk_kwh += sum(row["BilledCost"] / row["x_UnitPrice"] for row in before                 # of the host: cost over price
                    if row["x_Component"] == "host" and row["x_Rate"].startswith("dusk"))
    added = sum(row["BilledCost"] for row in rows) - sum(row["BilledCost"] for row in before)
    assert abs(added - dusk_kwh * Decimal("0.02") * Decimal("1.37")) < Decimal("1e-7")
    assert {row["x_Rate"].split(",")[0] for row in rows if row["x_PriceStatus"] == "corrected"} == {"dusk"}
