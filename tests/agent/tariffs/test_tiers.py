"""Blocks over the kWh of a period."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.units import ATTO, MJ_PER_KWH
from tests.agent.tariffs.price_walk import local_ns, read

TIERS = 'rates = { a = [{ upto = 10, price = 1 }, { upto = 20.5, price = 2 }, { price = 3 }] }\nrule = [{ rate = "a" }]'


def test_the_block_begins_with_the_kwh_at_its_limit(tmp_path: Path) -> None:
    tariff = read(tmp_path, f'timezone = "UTC"\ntier_period = "year"\n{TIERS}')
    limits = (10 * MJ_PER_KWH, 41 * MJ_PER_KWH // 2)
    prices = [tariff.price_at(0, used).atto_per_kwh // ATTO for used in (0, limits[0] - 1, limits[0], limits[1] - 1, limits[1])]
    assert prices == [1, 1, 2, 2, 3]
    assert [tariff.tier_end_mj(0, used) for used in (0, limits[0] - 1, limits[0], limits[1])] == [
        limits[0], limits[0], limits[1], None]


@pytest.mark.parametrize(("period", "start", "end"), [
    ("day", "2026-11-01", "2026-11-02"), ("month", "2026-11-01", "2026-12-01"), ("week", "2026-10-26", "2026-11-02"),
    ("quarter", "2026-10-01", "2027-01-01"), ("year", "2026-01-01", "2027-01-01")])
def test_a_period_is_the_calendars_in_the_tariffs_zone_and_its_end_is_a_change(
        tmp_path: Path, period: str, start: str, end: str) -> None:
    tariff = read(tmp_path, f'timezone = "America/Los_Angeles"\ntier_period = "{period}"\n{TIERS}')
    start_ns, end_ns = (local_ns(day, "America/Los_Angeles") for day in (start, end))
    noon_ns = local_ns("2026-11-01 12:00", "America/Los_Angeles")
    assert tariff.period_start(noon_ns) == start_ns
    assert tariff.period_start(end_ns) == end_ns
    assert tariff.next_change(noon_ns) == end_ns


def test_without_blocks_there_is_no_period(tmp_path: Path) -> None:
    tariff = read(tmp_path, 'timezone = "UTC"\nrates = { a = 1 }\nrule = [{ rate = "a" }]')
    assert (tariff.period_start(0), tariff.tier_end_mj(0, 0)) == (None, None)
