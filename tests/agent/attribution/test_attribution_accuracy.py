"""The shares that are promised, on the real source over the driver double: the rows of benchmarks/accuracy."""

from __future__ import annotations

import pytest

from benchmarks.accuracy.attribution import Row, measure

SEEDS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Row]]:
    return {found[0].name: found for found in measure(SEEDS)}


def test_shares_sum_to_the_device_in_every_case(rows: dict[str, list[Row]]) -> None:
    assert {row.off_mj for found in rows.values() for row in found} == {0}


def test_a_process_alone_has_its_dynamic_energy_and_no_more(rows: dict[str, list[Row]]) -> None:
    assert 0.99 <= rows["one process alone"][0].found <= 1.01


def test_a_parked_process_beside_a_busy_one_has_none_of_the_dynamic_energy(rows: dict[str, list[Row]]) -> None:
    assert abs(rows["parked beside busy"][0].found) <= 0.01


@pytest.mark.parametrize("case", ["two equal, 10 minutes", "90 / 10, 10 minutes"])
def test_ten_minutes_of_samples_tell_a_share_within_two_and_a_half_points(rows: dict[str, list[Row]], case: str) -> None:
    assert len(rows[case]) == len(SEEDS)
    assert max(row.found for row in rows[case]) <= 0.025


def test_the_exported_error_is_that_of_3600_looks(rows: dict[str, list[Row]]) -> None:
    assert rows["two equal, 10 minutes"][0].half_width == pytest.approx(1.96 * (0.25 / 3600) ** 0.5, rel=0.01)
    assert rows["90 / 10, 10 minutes"][0].half_width == pytest.approx(1.96 * (0.09 / 3600) ** 0.5, rel=0.05)


def test_processes_of_two_seconds_are_named(rows: dict[str, list[Row]]) -> None:
    assert 0.85 <= rows["200 processes of 2 s each"][0].found <= 1.01


def test_instances_sum_to_their_gpu_and_share_by_use(rows: dict[str, list[Row]]) -> None:
    row = rows["MIG 3g + 4g busy alternately"][0]
    assert (row.found, row.kept, row.methods) == (0, True, ["idle", "mig"])
