"""Counter against integral over the last minute: shown, flagged past a tenth, and silent where it cannot be known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.energy.check import EnergyCheck
from agent.energy.metering import EnergyMeter
from agent.model import PowerSample
from agent.units import NS_PER_S
from tests.agent.records import BOOT_NS, UUID, device, reading


def watch(seconds: int, fields: Callable[[int], dict[str, object]], start: int = 0) -> EnergyCheck:
    meter = EnergyMeter()
    for i in range(start, start + seconds + 1):
        at_ns = BOOT_NS + i * NS_PER_S
        meter.advance(reading(at_ns, device(at_ns, **fields(i)), sequence=i))
    check = meter.check(UUID)
    assert check is not None
    return check


def counter_at(watts: int, **fields: object) -> Callable[[int], dict[str, object]]:
    return lambda i: {"energy_mj": 10**9 + i * watts * 1_000, "power_mw": 300_000, **fields}


@pytest.mark.parametrize(("watts", "ratio", "suspect"), [(300, 0.0, False), (327, 0.09, False), (333, 0.11, True),
                                                         (267, -0.11, True)])
def test_the_relative_difference_and_its_flag(watts: int, ratio: float, suspect: bool) -> None:
    check = watch(60, counter_at(watts))
    assert check.ratio == pytest.approx(ratio)
    assert check.suspect is suspect


def test_nothing_is_said_before_a_minute_is_full() -> None:
    assert (watch(59, counter_at(400)).ratio, watch(59, counter_at(400)).suspect) == (None, None)


def test_only_the_last_minute_counts() -> None:
    check = watch(300, lambda i: {"energy_mj": i * 300_000, "power_mw": 900_000 if i < 235 else 300_000})
    assert check.ratio == pytest.approx(0)


def test_the_average_is_compared_where_there_is_one() -> None:
    assert watch(60, counter_at(300, power_mw=1, power_average_mw=300_000)).ratio == pytest.approx(0)


def test_buffered_samples_are_compared_where_there_is_no_average() -> None:
    def fields(i: int) -> dict[str, object]:
        samples = tuple(PowerSample(n * 100_000, 100_000 if n % 10 < 5 else 500_000) for n in range(i * 10 - 19, i * 10 + 1))
        return {"energy_mj": i * 300_000, "power_mw": 700_000, "power_samples": samples if i % 2 == 0 else ()}
    assert watch(62, fields, start=100).ratio == pytest.approx(0, abs=0.01)


def test_a_ring_that_is_gone_gives_way_to_power() -> None:
    def fields(i: int) -> dict[str, object]:
        samples = tuple(PowerSample(n * 100_000, 300_000) for n in range(i * 10 - 9, i * 10 + 1))
        return {"energy_mj": i * 300_000, "power_mw": 300_000, "power_samples": samples if i < 110 else ()}
    assert watch(100, fields, start=100).ratio == pytest.approx(0, abs=0.01)


def test_a_counter_that_stands_still_is_suspect_and_one_that_was_reset_is_not_judged() -> None:
    frozen = watch(90, lambda i: {"energy_mj": min(i, 60) * 300_000, "power_mw": 300_000})
    assert frozen.ratio == pytest.approx(-0.5)
    assert frozen.suspect is True
    reset = watch(90, lambda i: {"energy_mj": (i if i < 60 else i - 60) * 300_000, "power_mw": 300_000})
    assert reset.ratio is None


def test_without_counter_or_power_there_is_nothing_to_compare() -> None:
    assert watch(90, lambda i: {"power_mw": 300_000}).ratio is None
    assert watch(90, lambda i: {"energy_mj": i * 300_000}).ratio is None
    assert watch(90, lambda i: {"energy_mj": 5, "power_mw": 0}).ratio is None


def test_a_minute_at_ten_ticks_a_second_is_remembered_in_as_many_points_as_at_one() -> None:
    check = EnergyCheck()
    for i in range(3_000):
        at_ns = BOOT_NS + i * NS_PER_S // 10
        check.observe(device(at_ns, energy_mj=i * 30_000, power_mw=300_000), at_ns)
    assert check.ratio == pytest.approx(0)
    assert len(check._points) <= 62
