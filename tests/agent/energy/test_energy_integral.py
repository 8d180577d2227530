"""Integrals against closed forms: each sample once, holes and set clocks as gaps and never twice."""

from __future__ import annotations

from agent.energy.metering import EnergyMeter, method_of
from agent.model import EnergyInterval, PowerSample, Reading
from agent.units import NS_PER_MS, NS_PER_S
from tests.agent.records import BOOT_NS, UUID, device, reading

CLOCK_US = 1_782_302_400_000_000         # the driver's timestamps: UTC


def ring(from_s: float, to_s: float, power_mw: int = 200_000, ahead_us: int = 0) -> tuple[PowerSample, ...]:
    """A sample every 100 ms in (from, to], its timestamps ``ahead_us`` of the clock."""
    return tuple(PowerSample(CLOCK_US + n * 100_000 + ahead_us, power_mw)
                 for n in range(round(from_s * 10) + 1, round(to_s * 10) + 1))


def at(second: float, samples: tuple[PowerSample, ...] = (), asleep_s: float = 0, **fields: int | None) -> Reading:
    at_ns = BOOT_NS + round(second * NS_PER_S)
    given = {"power_mw": 200_000} | fields
    return reading(at_ns, device(at_ns, power_samples=samples, **given), asleep_ns=round(asleep_s * NS_PER_S))


def run(*readings: Reading) -> list[EnergyInterval]:
    meter = EnergyMeter()
    return [interval for one in readings for interval in meter.advance(one)]


def summary(intervals: list[EnergyInterval]) -> list[tuple[str, int, float]]:
    return [(i.method, i.energy_mj, i.gap_ns / NS_PER_S) for i in intervals]


def test_a_ring_that_is_silent_for_a_moment_is_waited_for() -> None:
    found = run(at(0, ring(-1, 0)), at(1), at(2, ring(0, 2)))
    assert summary(found) == [("samples", 400_000, 0)]
    assert found[0].elapsed_ns == 2 * NS_PER_S


def test_a_ring_that_stays_silent_gives_way_to_power_and_is_not_counted_twice_when_it_returns() -> None:
    found = run(at(0, ring(-1, 0)), at(1), at(2), at(3), at(4), at(5, ring(0, 5)), at(6, ring(5, 6)))
    assert summary(found) == [("trapezoid", 600_000, 0), ("trapezoid", 200_000, 0), ("trapezoid", 200_000, 0),
                              ("samples", 200_000, 0)]
    assert sum(i.elapsed_ns for i in found) == 6 * NS_PER_S


def test_samples_that_were_used_are_not_used_again() -> None:
    assert sum(i.energy_mj for i in run(at(0, ring(-1, 0)), at(1, ring(-1, 1)), at(2, ring(-1, 2)))) == 400_000


def test_a_hole_in_the_ring_is_a_gap_of_its_length() -> None:
    # Four seconds without a look, and the ring holds the last 2.4 of them.
    found = run(at(0, ring(-1, 0)), at(4, ring(1.6, 4)))
    # The first sample after a hole stands for nothing but the hole.
    assert summary(found) == [("samples", 23 * 20_000, 1.7)]


def test_a_wall_clock_that_is_set_forward_invents_nothing() -> None:
    hour_us = 3_600_000_000
    found = run(at(0, ring(-1, 0)), at(1, ring(0, 1, ahead_us=hour_us)), at(2, ring(1, 2, ahead_us=hour_us)))
    assert summary(found) == [("trapezoid", 200_000, 0), ("samples", 200_000, 0)]


def test_a_wall_clock_that_is_set_back_loses_nothing() -> None:
    back_us = -3_600_000_000
    found = run(at(0, ring(-1, 0)), *[at(n, ring(n - 1, n, ahead_us=back_us)) for n in range(1, 8)])
    assert sum(i.energy_mj for i in found) == 7 * 200_000
    assert found[-1].method == "samples"
    assert not any(i.gap_ns for i in found)


def test_a_night_asleep_is_a_gap_for_samples_too() -> None:
    night_s = 8 * 3_600
    found = run(at(0, ring(-1, 0)), at(night_s + 2, ring(night_s + 1, night_s + 2), asleep_s=night_s),
                at(night_s + 3, ring(night_s + 2, night_s + 3), asleep_s=night_s))
    assert summary(found) == [("trapezoid", 400_000, night_s), ("samples", 200_000, 0)]


def test_readings_beyond_the_power_limit_are_a_gap() -> None:
    assert summary(run(at(0), at(1, power_mw=2**32 - 1))) == [("trapezoid", 0, 1)]
    assert summary(run(at(0, ring(-1, 0)), at(1, ring(0, 1, power_mw=2**32 - 1)))) == [("samples", 0, 1)]


def test_power_that_is_unknown_is_a_gap() -> None:
    found = run(at(0), at(1, power_mw=None), at(2), at(3))
    assert [(i.energy_mj, i.gap_ns) for i in found] == [(0, NS_PER_S), (0, NS_PER_S), (200_000, 0)]


def test_average_power_is_preferred_where_readings_are_as_far_apart_as_its_window() -> None:
    fields = {"power_mw": 1, "power_instant_mw": 2, "power_average_mw": 300_000}
    assert summary(run(at(0, **fields), at(1, **fields))) == [("trapezoid", 300_000, 0)]
    fields = {"power_mw": 1, "power_instant_mw": 300_000, "power_average_mw": 2}
    assert summary(run(at(0, **fields), at(0.1, **fields))) == [("trapezoid_instant", 30_000, 0)]


def test_which_method_a_device_allows() -> None:
    def method(**fields: object) -> str:
        return method_of(device(BOOT_NS, **fields))
    assert method(energy_mj=0, power_mw=1, power_samples=ring(0, 1)) == "counter"
    assert method(power_mw=1, power_samples=ring(0, 1)) == "samples"
    assert method(power_mw=1, power_instant_mw=1) == "trapezoid_instant"
    assert method(power_mw=1, power_instant_mw=1, power_average_mw=1) == method(power_mw=1) == "trapezoid"
    assert method() == "none"


def test_a_counter_that_appears_is_believed_from_then_on() -> None:
    meter = EnergyMeter()
    readings = [at(0), at(1, energy_mj=5_000_000), at(2, energy_mj=5_210_000)]
    assert [i.energy_mj for one in readings for i in meter.advance(one)] == [200_000, 210_000]
    assert meter.states[UUID].energy_mj == 5_210_000


def test_samples_at_odd_steps_lose_no_remainder() -> None:
    # 1 mW for 1,000 steps of 33.333 ms: 33.333 mJ, whatever the ticks cut.
    samples = [PowerSample(CLOCK_US + n * 33_333, 1) for n in range(1_001)]
    found = run(*[at(n * 0.033333, tuple(samples[:n + 1][-3:])) for n in range(1_001)])
    assert sum(i.energy_mj for i in found) == 33
    assert sum(i.elapsed_ns for i in found) == round(33.333 * NS_PER_S) // NS_PER_MS * NS_PER_MS
