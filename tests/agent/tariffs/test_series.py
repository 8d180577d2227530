"""Rates from a file: each row until the next, the last one as long as the one before, and what ``missing`` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model import FOREVER_NS
from agent.tariffs.ruled import RuledTariff
from agent.units import ATTO, NS_PER_HOUR
from tests.agent.tariffs.price_walk import local_ns, read

START_NS = local_ns("2026-01-01", "UTC")
HALF_NS = NS_PER_HOUR // 2


def spot(directory: Path, missing: str, unit: str = "EUR/MWh", more: str = "") -> RuledTariff:
    (directory / "p.csv").write_text(
        "start,price\n2026-01-01T01:00:00+01:00,80\n2026-01-01T00:30:00Z,-12.345\n2026-01-01T01:00:00Z,100.5\n")
    spot = f'{{ csv = "p.csv", unit = "{unit}", missing = "{missing}" }}'
    return read(directory, f'timezone = "UTC"\nrates = {{ s = {spot}{more} }}\n'
                           'rule = [{ rate = "s" }]')


def steps(tariff: RuledTariff, from_ns: int) -> list[tuple[float, str, float | None]]:
    """(hours after the first row, rate, price or None) at each change."""
    found, at_ns = [], from_ns
    while at_ns != FOREVER_NS:
        price = tariff.price_at(at_ns)
        found.append(((at_ns - START_NS) / NS_PER_HOUR, price.rate, price.atto_per_kwh / ATTO if price.known else None))
        at_ns = tariff.next_change(at_ns)
    return found


ROWS = [(0.0, "s", 0.08), (0.5, "s", -0.012345), (1.0, "s", 0.1005)]


@pytest.mark.parametrize(("missing", "more", "before", "after"), [
    ("last", "", (-1.0, "s", None), []),
    ("error", "", (-1.0, "s", None), [(1.5, "s", None)]),
    ("other", ", other = 0.3", (-1.0, "other", 0.3), [(1.5, "other", 0.3)]),
])
def test_rows_and_what_is_missing_around_them(
        tmp_path: Path, missing: str, more: str, before: tuple[float, str, float | None],
        after: list[tuple[float, str, float | None]]) -> None:
    assert steps(spot(tmp_path, missing, more=more), START_NS - NS_PER_HOUR) == [before, *ROWS, *after]


def test_prices_per_kwh_and_per_mwh(tmp_path: Path) -> None:
    assert spot(tmp_path, "last", "EUR/kWh").price_at(START_NS).atto_per_kwh == 80 * ATTO
    assert spot(tmp_path, "last", "EUR/MWh").price_at(START_NS).atto_per_kwh == 80 * ATTO // 1000


def test_a_stand_in_may_be_a_series_too_and_its_own_changes_show(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("start,price\n2026-01-01T00:00:00Z,1\n2026-01-01T01:45:00Z,2\n2026-01-01T02:00:00Z,3\n")
    tariff = spot(tmp_path, "q", more=', q = { csv = "q.csv", unit = "EUR/kWh", missing = "last" }')
    assert steps(tariff, START_NS)[3:] == [(1.5, "q", 1.0), (1.75, "q", 2.0), (2.0, "q", 3.0)]


def test_an_unknown_price_is_never_zero_and_known(tmp_path: Path) -> None:
    price = spot(tmp_path, "error").price_at(START_NS + 3 * HALF_NS)
    assert not price.known
