"""The meter against closed forms: what the counter vouches for is booked once, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.energy.metering import EnergyMeter
from agent.model import EnergyInterval, PowerSample, Reading
from agent.units import NS_PER_MS, NS_PER_S
from tests.agent.records import BOOT_NS, UUID, device, reading

WATTS_300 = 300_000                      # mW; at a tick a second, 300 000 mJ a tick


def run(meter: EnergyMeter, readings: Iterable[Reading]) -> list[EnergyInterval]:
    return [interval for one in readings for interval in meter.advance(one)]


def ticks(count: int, counter: Callable[[int], int | None], power_mw: int | None = WATTS_300) -> list[Reading]:
    """A tick a second; ``counter`` gives the counter's mJ at each."""
    return [
        reading(BOOT_NS + i * NS_PER_S, device(BOOT_NS + i * NS_PER_S, energy_mj=counter(i), power_mw=power_mw), sequence=i)
        for i in range(count)]


def booked(intervals: list[EnergyInterval]) -> int:
    return sum(interval.energy_mj for interval in intervals)


def test_the_first_reading_books_nothing_and_the_next_the_difference() -> None:
    intervals = run(EnergyMeter(), ticks(3, lambda i: 7_000_000 + i * WATTS_300))
    assert [i.energy_mj for i in intervals] == [WATTS_300, WATTS_300]
    assert all(i.method == "counter" and i.gap_ns == 0 and i.elapsed_ns == NS_PER_S for i in intervals)
    assert intervals[0].end_utc_ns == intervals[1].start_utc_ns


@settings(max_examples=200)
@given(st.lists(st.integers(0, 840_000), min_size=1, max_size=60))
def test_without_a_reset_the_ticks_sum_to_the_counter(deltas_mj: list[int]) -> None:
    # 840 000 mJ is 1.2 x 700 W x 1 s. No power reading: so a counter that stands still has no fallback either.
    counter = [0]
    for delta_mj in deltas_mj:
        counter.append(counter[-1] + delta_mj)
    assert booked(run(EnergyMeter(), ticks(len(counter), counter.__getitem__, power_mw=None))) == counter[-1]


def test_a_fall_is_a_reset_and_books_nothing() -> None:
    counter = [9_000_000, 9_300_000, 50_000, 350_000, 650_000]
    intervals = run(EnergyMeter(), ticks(5, counter.__getitem__))
    assert [i.energy_mj for i in intervals] == [300_000, 0, 300_000, 300_000]
    assert [i.gap_ns for i in intervals] == [0, NS_PER_S, 0, 0]


def test_a_counter_that_fell_and_recovers_is_booked_once() -> None:
    counter = [9_000_000, 9_300_000, 100, 200, 10_200_000, 10_500_000]
    # After the fall it shows 100 mJ of its own; back, it vouches for 10.2 - 9.3 MJ, less those 100 booked meanwhile.
    assert booked(run(EnergyMeter(), ticks(6, counter.__getitem__))) == 10_500_000 - 9_000_000


def test_a_reset_counter_that_passes_its_old_value_goes_on_counting() -> None:
    counter = [250_000, 400_000, 0, 300_000, 600_000, 900_000]
    assert booked(run(EnergyMeter(), ticks(6, counter.__getitem__))) == 150_000 + 900_000


def test_a_frozen_counter_is_lent_for_and_pays_back_what_it_catches_up() -> None:
    def counter(i: int) -> int:
        return WATTS_300 * (i if i <= 10 or i > 40 else 10)
    intervals = run(EnergyMeter(), ticks(60, counter))
    assert booked(intervals) == 59 * WATTS_300
    assert booked(intervals[:35]) == 35 * WATTS_300        # visible while it happens
    assert all(i.energy_mj >= 0 for i in intervals)


def test_a_counter_that_stays_behind_after_a_freeze_does_not_pay_out_twice() -> None:
    # Frozen for 5 s, then on from the frozen value: the counter vouches for 10 + 20 s, and the sum comes back to that.
    def counter(i: int) -> int:
        return WATTS_300 * (i if i <= 10 else 10 if i <= 15 else i - 5)
    assert booked(run(EnergyMeter(), ticks(36, counter))) == counter(35)


def test_a_jump_past_the_power_limit_is_a_gap() -> None:
    counter = [0, 300_000, 300_000 + 2_000_000_000, 600_000 + 2_000_000_000]
    intervals = run(EnergyMeter(), ticks(4, counter.__getitem__))
    assert [i.energy_mj for i in intervals] == [300_000, 0, 300_000]
    assert intervals[1].gap_ns == NS_PER_S


def test_a_counter_that_fails_for_a_moment_loses_nothing() -> None:
    readings = ticks(6, lambda i: i * WATTS_300)
    failed = device(BOOT_NS + 3 * NS_PER_S, power_mw=WATTS_300, errors={"energy_mj": "Unknown Error"})
    readings[3] = reading(BOOT_NS + 3 * NS_PER_S, failed, sequence=3)
    intervals = run(EnergyMeter(), readings)
    assert [i.energy_mj for i in intervals] == [300_000] * 5           # lent meanwhile, and taken back


def test_a_counter_and_a_power_that_fail_for_a_moment_lose_nothing() -> None:
    readings = ticks(6, lambda i: i * WATTS_300)
    failed = device(BOOT_NS + 3 * NS_PER_S, errors={"energy_mj": "Unknown Error", "power_mw": "Unknown Error"})
    readings[3] = reading(BOOT_NS + 3 * NS_PER_S, failed, sequence=3)
    intervals = run(EnergyMeter(), readings)
    assert [i.energy_mj for i in intervals] == [300_000, 300_000, 600_000, 300_000]


def test_time_without_an_answer_is_vouched_for_by_the_counter_and_names_nobody() -> None:
    readings = ticks(100, lambda i: i * WATTS_300)
    intervals = run(EnergyMeter(), readings[:3] + readings[60:])
    long = [i for i in intervals if i.elapsed_ns > NS_PER_S]
    assert [(i.energy_mj, i.bridged, i.gap_ns) for i in long] == [(58 * WATTS_300, True, 0)]
    assert booked(intervals) == 99 * WATTS_300


def test_a_device_that_failed_is_passed_over() -> None:
    lost = reading(BOOT_NS + NS_PER_S, device(BOOT_NS + NS_PER_S, failed="GPU is lost"), sequence=1)
    readings = ticks(3, lambda i: i * WATTS_300)
    assert booked(run(EnergyMeter(), [readings[0], lost, readings[2]])) == 2 * WATTS_300


def test_suspend_is_a_gap_and_invents_nothing() -> None:
    night_ns = 8 * 3_600 * NS_PER_S
    before = reading(BOOT_NS, device(BOOT_NS, energy_mj=1_000_000, power_mw=WATTS_300))
    after_ns = BOOT_NS + night_ns
    after = reading(after_ns, device(after_ns, energy_mj=1_400_000, power_mw=WATTS_300), sequence=1,
                    asleep_ns=night_ns - 2 * NS_PER_S)
    (interval,) = run(EnergyMeter(), [before, after])
    assert interval.energy_mj == 400_000
    assert interval.gap_ns == night_ns - 2 * NS_PER_S
    assert interval.elapsed_ns == night_ns


def test_a_counter_that_jumped_during_suspend_is_not_believed() -> None:
    night_ns = 8 * 3_600 * NS_PER_S
    before = reading(BOOT_NS, device(BOOT_NS, energy_mj=0, power_mw=WATTS_300))
    after_ns = BOOT_NS + night_ns
    after = reading(after_ns, device(after_ns, energy_mj=10**9, power_mw=WATTS_300), sequence=1, asleep_ns=night_ns - NS_PER_S)
    (interval,) = run(EnergyMeter(), [before, after])
    assert (interval.energy_mj, interval.gap_ns) == (0, night_ns)


def test_trapezoid_over_a_ramp_is_exact() -> None:
    # p(t) = 100 W + 10 W/s x t: the integral from 0 to 20 s is 2000 + 2000 = 4000 J
    readings = [
        reading(BOOT_NS + i * NS_PER_S, device(BOOT_NS + i * NS_PER_S, power_mw=100_000 + 10_000 * i), sequence=i)
        for i in range(21)]
    intervals = run(EnergyMeter(), readings)
    assert booked(intervals) == 4_000_000
    assert {i.method for i in intervals} == {"trapezoid"}


def test_odd_ticks_lose_no_remainder() -> None:
    # 333 ms ticks at 1 mW: half millijoules and less each, and 333 mJ after 1000 ticks of 0.333 s x 1 mW x 1000
    step_ns = 333 * NS_PER_MS
    readings = [reading(BOOT_NS + i * step_ns, device(BOOT_NS + i * step_ns, power_mw=1), sequence=i) for i in range(1_001)]
    assert booked(run(EnergyMeter(), readings)) == 333


def test_without_a_counter_a_long_silence_is_a_gap() -> None:
    readings = ticks(30, lambda i: None)
    intervals = run(EnergyMeter(), readings[:2] + readings[20:])
    assert booked(intervals) == 10 * WATTS_300
    assert sum(i.gap_ns for i in intervals) == 19 * NS_PER_S


def test_instant_power_is_preferred_to_averaged() -> None:
    readings = [
        reading(BOOT_NS + i * NS_PER_S, device(BOOT_NS + i * NS_PER_S, power_mw=1, power_instant_mw=WATTS_300), sequence=i)
        for i in range(3)]
    intervals = run(EnergyMeter(), readings)
    assert (booked(intervals), intervals[0].method) == (2 * WATTS_300, "trapezoid_instant")


def test_buffered_samples_are_used_once_each() -> None:
    # A sample each 100 ms at 100 W for 1 s, then 300 W; each reading repeats the ring's last two seconds.
    def ring(second: int) -> tuple[PowerSample, ...]:
        first = max(0, second * 10 - 20)
        return tuple(
            PowerSample(timestamp_us=n * 100_000, power_mw=100_000 if n < 10 else 300_000)
            for n in range(first, second * 10 + 1))
    readings = [
        reading(BOOT_NS + i * NS_PER_S, device(BOOT_NS + i * NS_PER_S, power_mw=1, power_samples=ring(i)), sequence=i)
        for i in range(5)]
    intervals = run(EnergyMeter(), readings)
    # Each sample stands for the 0.1 s before it: 9 of them at 100 W, 31 at 300 W.
    assert booked(intervals) == 90_000 + 930_000
    assert {i.method for i in intervals} == {"samples"}


def test_after_a_reboot_the_meter_starts_anew() -> None:
    meter = EnergyMeter()
    run(meter, ticks(3, lambda i: 5_000_000 + i * WATTS_300))
    again = reading(9 * NS_PER_S, device(9 * NS_PER_S, energy_mj=10), boot_id="boot-2")
    assert booked(run(meter, [again])) == 10             # the counter began with the machine, nine seconds ago
    later = reading(10 * NS_PER_S, device(10 * NS_PER_S, energy_mj=200_010), boot_id="boot-2", sequence=1)
    assert booked(run(meter, [later])) == 200_000


def test_a_restarted_agent_goes_on_from_the_committed_meter() -> None:
    readings = ticks(100, lambda i: i * WATTS_300)
    first = EnergyMeter()
    run(first, readings[:50])
    second = EnergyMeter(dict(first.states))
    assert booked(run(second, readings[80:])) == (99 - 49) * WATTS_300
    assert second.states[UUID].energy_mj == 99 * WATTS_300


def test_a_power_limit_that_was_raised_or_lowered_throws_no_energy_away() -> None:
    def at(i: int, counter_mj: int, limit_mw: int) -> Reading:
        at_ns = BOOT_NS + i * NS_PER_S
        return reading(at_ns, device(at_ns, energy_mj=counter_mj, power_limit_mw=limit_mw), sequence=i)
    lowered = [at(0, 0, 700_000), at(1, 650_000, 200_000), at(2, 800_000, 200_000)]
    assert booked(run(EnergyMeter(), lowered)) == 800_000


def test_an_interval_is_watched_as_long_as_readings_come_when_they_should() -> None:
    minute_ns = 60 * NS_PER_S
    readings = [reading(BOOT_NS + i * minute_ns, device(BOOT_NS + i * minute_ns, energy_mj=i * 60 * WATTS_300), sequence=i)
                for i in range(3)]
    meter = EnergyMeter()
    slow = [one for each in readings for one in meter.advance(each, unwatched_ns=minute_ns * 5 // 2)]
    assert [one.bridged for one in slow] == [False, False]
    assert [one.bridged for one in run(EnergyMeter(), readings)] == [True, True]
