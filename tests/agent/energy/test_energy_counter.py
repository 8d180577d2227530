"""A counter that falls, leaps, stands still or does not answer, in any order: what it vouches for is booked once."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.energy.metering import EnergyMeter
from agent.model import EnergyInterval, Reading
from agent.units import NS_PER_S
from tests.agent.records import BOOT_NS, UUID, device, reading

START_MJ = 10**9
WATTS_300 = 300_000
MODES = ("true", "frozen", "fallen", "leapt", "silent", "lost")


def shown(modes: list[str], powers_mw: list[int]) -> tuple[list[int], list[Reading]]:
    """True counter values, and the readings of a device whose counter is in such a mode at each tick. ``powers_mw[i]``
    is drawn between tick i and the next, and read as power at tick i."""
    truth = [START_MJ]
    for power_mw in powers_mw[:-1]:
        truth.append(truth[-1] + power_mw)
    readings, last, base, zero = [], START_MJ, 0, 0
    for i, mode in enumerate(modes):
        at_ns = BOOT_NS + i * NS_PER_S
        if mode == "fallen" and (i == 0 or modes[i - 1] != "fallen"):
            base = truth[i] - 1_000
        zero = truth[i] - 120 if mode == "reset" else zero             # began anew a moment before
        value = {"true": truth[i] - zero, "reset": truth[i] - zero, "frozen": last, "fallen": truth[i] - base,
                 "leapt": truth[i] - zero + 10**10}.get(mode)
        last = last if value is None else value
        errors = {"energy_mj": "Unknown Error"} if value is None else {}
        power_mw = None if mode == "lost" else powers_mw[i]
        readings.append(reading(at_ns, device(at_ns, energy_mj=value, power_mw=power_mw, errors=errors), sequence=i))
    return truth, readings


def run(readings: list[Reading], meter: EnergyMeter | None = None) -> list[EnergyInterval]:
    meter = meter or EnergyMeter()
    return [interval for one in readings for interval in meter.advance(one)]


def booked(intervals: list[EnergyInterval]) -> int:
    return sum(interval.energy_mj for interval in intervals)


@settings(max_examples=400)
@given(st.data())
def test_a_counter_that_comes_back_has_everything_booked_once(data: st.DataObject) -> None:
    modes = data.draw(st.lists(st.sampled_from(MODES), max_size=40))
    # At the end it is itself for long enough to pay back what was lent too much.
    modes = ["true", *modes, *["true"] * 120]
    powers = data.draw(st.lists(st.integers(50_000, 700_000), min_size=len(modes) - 120, max_size=len(modes) - 120))
    truth, readings = shown(modes, [*powers, *[700_000] * 120])
    intervals = run(readings)
    assert booked(intervals) == truth[-1] - truth[0]
    assert all(interval.energy_mj >= 0 for interval in intervals)
    assert sum(interval.elapsed_ns for interval in intervals) == (len(modes) - 1) * NS_PER_S
    assert all(a.end_utc_ns == b.start_utc_ns for a, b in pairwise(intervals))


@settings(max_examples=400)
@given(st.lists(st.sampled_from([*MODES, "reset"]), min_size=1, max_size=60))
@example(["reset", "true", "frozen", "fallen", "fallen", "true", "fallen", "true"])      # back from two places at once
def test_at_no_moment_is_more_booked_than_was_drawn(modes: list[str]) -> None:
    """Also with resets, after which the counter never comes back. At a steady 300 W, so that loans are the truth."""
    truth, readings = shown(["true", *modes], [WATTS_300] * (len(modes) + 1))
    meter, total_mj = EnergyMeter(), 0
    for true_mj, one in zip(truth, readings, strict=True):
        total_mj += booked(run([one], meter))
        assert total_mj <= true_mj - truth[0]


def test_a_loan_that_is_open_at_a_fall_is_settled_when_the_counter_comes_back() -> None:
    # Frozen for 3 s, low for 2, then back: 10 s at 300 W are 3 MJ, whoever counted them.
    modes = ["true"] * 3 + ["frozen"] * 3 + ["fallen"] * 2 + ["true"] * 3
    truth, readings = shown(modes, [WATTS_300] * len(modes))
    assert booked(run(readings)) == truth[-1] - truth[0] == 10 * WATTS_300


def test_a_second_fall_does_not_forget_what_was_booked_since_the_first() -> None:
    counter = [START_MJ, 1_000, 301_000, 100, 300_100, START_MJ + 5 * WATTS_300]
    readings = [reading(BOOT_NS + i * NS_PER_S, device(BOOT_NS + i * NS_PER_S, energy_mj=mj, power_mw=WATTS_300), sequence=i)
                for i, mj in enumerate(counter)]
    assert booked(run(readings)) == 5 * WATTS_300


def test_a_loan_that_was_too_high_is_still_owed_after_a_fall() -> None:
    # Read as 700 W while 300 W were drawn: 400 J too much for each of 3 s, paid back from the ticks after the counter's return.
    modes = ["true"] * 2 + ["fallen"] + ["frozen"] * 3 + ["true"] * 8
    truth, readings = shown(modes, [WATTS_300] * len(modes))
    for i in range(2, 6):
        one = readings[i].devices[0]
        readings[i] = reading(one.boottime_ns, device(one.boottime_ns, energy_mj=one.energy_mj, power_mw=700_000), sequence=i)
    intervals = run(readings)
    assert booked(intervals) == truth[-1] - truth[0]
    assert [i.energy_mj for i in intervals if i.energy_mj == 0]         # so some ticks paid


def test_a_driver_reload_is_told_from_a_glitch_by_the_session() -> None:
    def after(session: str) -> int:
        meter = EnergyMeter()
        run([reading(BOOT_NS, device(BOOT_NS, energy_mj=START_MJ, power_mw=WATTS_300))], meter)
        at_ns = BOOT_NS + 30 * NS_PER_S
        return booked(run([reading(at_ns, device(at_ns, energy_mj=6_000_000, power_mw=WATTS_300), session=session)], meter))
    assert after("s") == 0                                     # the same connection: nothing is known of a low value
    assert after("t") == 6_000_000                             # the driver was let go of: used since it was loaded


def test_a_reloaded_counter_that_shows_too_much_is_not_believed() -> None:
    meter = EnergyMeter()
    run([reading(BOOT_NS, device(BOOT_NS, energy_mj=START_MJ))], meter)
    at_ns = BOOT_NS + 10 * NS_PER_S
    (interval,) = run([reading(at_ns, device(at_ns, energy_mj=900_000_000), session="t")], meter)     # 90 kW
    assert (interval.energy_mj, interval.gap_ns) == (0, 10 * NS_PER_S)


def test_a_repeated_reading_changes_nothing() -> None:
    _, readings = shown(["true"] * 4, [WATTS_300] * 4)
    meter = EnergyMeter()
    run(readings, meter)
    before = dict(meter.states)
    assert run([readings[-1]], meter) == []
    assert meter.states == before
    assert before[UUID].energy_mj == START_MJ + 3 * WATTS_300
