"""The simulated GPU against sums done by hand and against step-by-step integration of its power."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources.scenario import Scenario, load_scenario
from agent.sources.splitmix import mix
from agent.sources.waveform import Waveform
from agent.units import NS_PER_HOUR, NS_PER_S

MONDAY_NS = int(dt.datetime(2026, 11, 16, tzinfo=dt.UTC).timestamp()) * NS_PER_S
DAY_NS = 24 * NS_PER_HOUR
HALF_NS = 5 * NS_PER_S
IDLE_MW, CONTEXT_MW, PERMILLE_MW = 70_000, 45_000, 585           # (700 - 70 - 45) W over 1000


def wave(index: int = 0, **given: Any) -> Waveform:
    return Waveform(load_scenario({"devices": 4, "repeat": 2, **given}, None, None), index)


def energy_mj(wave: Waveform, start_ns: int, end_ns: int) -> list[int]:
    """By cause; whole stretches only, on which energies are whole millijoules."""
    parts = [after - before for before, after in zip(wave.energy_pj(start_ns), wave.energy_pj(end_ns), strict=True)]
    assert all(part % NS_PER_S == 0 for part in parts)
    return [part // NS_PER_S for part in parts]


def test_an_unallocated_gpu_draws_its_idle_power() -> None:
    empty = wave(index=1, workload=[{"gpus": [0]}])
    assert energy_mj(empty, MONDAY_NS, MONDAY_NS + DAY_NS) == [IDLE_MW * 86_400]
    assert empty.occupants(MONDAY_NS) == []


def test_a_steady_process_draws_context_and_its_share() -> None:
    steady = wave(jitter=0, workload=[{"gpus": [0], "busy": 0.5}])
    assert steady.power_mw(MONDAY_NS) == IDLE_MW + CONTEXT_MW + 500 * PERMILLE_MW == 407_500
    assert energy_mj(steady, MONDAY_NS, MONDAY_NS + NS_PER_HOUR) == [IDLE_MW * 3600, 337_500 * 3600]


def test_jitter_moves_power_and_leaves_the_energy_of_whole_stretches() -> None:
    steady = wave(jitter=0.2, workload=[{"gpus": [0], "busy": 0.5}])
    powers = {steady.power_mw(MONDAY_NS + i * HALF_NS) for i in range(100)}
    assert len(powers) > 20
    for i in range(100):
        (busy,) = steady.busy_permille(MONDAY_NS + i * HALF_NS)
        assert steady.power_mw(MONDAY_NS + i * HALF_NS) == 115_000 + busy * PERMILLE_MW
    assert min(powers) >= 115_000 + 400 * PERMILLE_MW
    assert max(powers) <= 115_000 + 600 * PERMILLE_MW
    assert energy_mj(steady, MONDAY_NS, MONDAY_NS + 730 * NS_PER_S) == [IDLE_MW * 730, 337_500 * 730]


def test_bursts_add_up_to_their_duty_and_park_the_process_in_between() -> None:
    bursts = wave(jitter=0, workload=[{"gpus": [0], "busy": 0.6, "burst_every_s": 60, "burst_s": 20}])
    assert energy_mj(bursts, MONDAY_NS, MONDAY_NS + NS_PER_HOUR)[1] == CONTEXT_MW * 3600 + 600 * PERMILLE_MW * 1200
    shares = [bursts.busy_permille(MONDAY_NS + i * 10 * NS_PER_S)[0] for i in range(6)]
    assert sorted(shares) == [0, 0, 0, 0, 600, 600]
    assert len({o.start_ticks for i in range(12) for o in bursts.occupants(MONDAY_NS + i * 10 * NS_PER_S)}) == 1


def test_a_job_that_comes_back_is_another_process_each_time() -> None:
    jobs = wave(jitter=0, workload=[{"gpus": [0], "busy": 1, "every_s": 300, "lasts_s": 180}])
    seen = [jobs.occupants(MONDAY_NS + i * 10 * NS_PER_S) for i in range(360)]
    assert sum(bool(occupants) for occupants in seen) == 12 * 18
    runs = {(o.pid, o.start_ticks) for occupants in seen for o in occupants}
    assert len(runs) in (12, 13)                   # the hour may begin in the middle of a run
    assert energy_mj(jobs, MONDAY_NS, MONDAY_NS + NS_PER_HOUR) == [IDLE_MW * 3600, (CONTEXT_MW + 585_000) * 2160]


def test_local_hours_weekends_and_windows_over_midnight() -> None:
    nights = wave(jitter=0, utc_offset_minutes=480, workload=[
        {"gpus": [0], "busy": 0.4, "weekend": 0.5, "present_hours": [22, 6]}])  # fmt: skip
    present = [bool(nights.occupants(MONDAY_NS + hour * NS_PER_HOUR)) for hour in range(24)]
    assert [hour for hour in range(24) if present[hour]] == [14, 15, 16, 17, 18, 19, 20, 21]     # 22:00 to 06:00 at UTC+8
    week_mj = energy_mj(nights, MONDAY_NS, MONDAY_NS + 7 * DAY_NS)[1]
    weekend_hours, hours = 2 * 8, 7 * 8                                  # Saturday and Sunday, local days
    assert week_mj == 3600 * (hours * CONTEXT_MW + (hours - weekend_hours) * 400 * PERMILLE_MW
                              + weekend_hours * 200 * PERMILLE_MW)  # fmt: skip
    before, after = nights.occupants(MONDAY_NS + 15 * NS_PER_HOUR), nights.occupants(MONDAY_NS + 17 * NS_PER_HOUR)
    assert before == after                                               # one process through local midnight


def test_a_daily_curve_has_each_hour_its_own_energy() -> None:
    curve = [hour / 100 for hour in range(24)]
    daily = wave(jitter=0.1, workload=[{"gpus": [0], "busy": curve}])
    for hour in range(24):
        start_ns = MONDAY_NS + hour * NS_PER_HOUR
        assert energy_mj(daily, start_ns, start_ns + NS_PER_HOUR)[1] == (CONTEXT_MW + hour * 10 * PERMILLE_MW) * 3600


def test_processes_that_want_more_than_a_gpu_share_it_within_its_limit() -> None:
    crowd = wave(jitter=0.1, workload=[{"gpus": [0], "busy": 0.9}, {"gpus": [0], "busy": 0.9}, {"gpus": [0], "busy": 0.3}])
    for i in range(200):
        shares = crowd.busy_permille(MONDAY_NS + i * HALF_NS)
        assert sum(shares) <= 1000
        assert crowd.power_mw(MONDAY_NS + i * HALF_NS) <= crowd.limit_mw
    _, first, second, third = energy_mj(crowd, MONDAY_NS, MONDAY_NS + NS_PER_HOUR)
    assert first == second
    assert (first - CONTEXT_MW * 1200) / (third - CONTEXT_MW * 1200) == pytest.approx(3, rel=0.01)


def test_one_process_on_several_gpus_is_the_same_process() -> None:
    given = {"workload": [{"gpus": [0, 1], "one_process": True, "every_s": 600, "lasts_s": 300}]}
    for i in range(60):
        first, second = (wave(index, **given).occupants(MONDAY_NS + i * 60 * NS_PER_S) for index in (0, 1))
        assert [(o.pid, o.start_ticks) for o in first] == [(o.pid, o.start_ticks) for o in second]
    apart = [wave(index, workload=[{"gpus": [0, 1]}]).occupants(MONDAY_NS)[0].pid for index in (0, 1)]
    assert apart[0] != apart[1]


scenarios = st.builds(
    lambda seed, jitter, offset, workloads: load_scenario(
        {"seed": seed, "jitter": jitter, "utc_offset_minutes": offset, "workload": workloads}, None, None),
    st.integers(0, 2**32),
    st.sampled_from([0, 0.1, 0.5]),
    st.sampled_from([-210, 0, 345, 480]),
    st.lists(
        st.fixed_dictionaries({
            "gpus": st.just([0]),
            "busy": st.floats(0, 1),
            "weekend": st.floats(0, 1),
            "present_hours": st.sampled_from([(0, 24), (8, 20), (22, 6)]),
        }).flatmap(lambda workload: st.sampled_from([
            workload,
            {**workload, "every_s": 720, "lasts_s": 190},
            {**workload, "burst_every_s": 50, "burst_s": 30},
            {**workload, "every_s": 3600, "lasts_s": 1800, "burst_every_s": 90, "burst_s": 10},
        ])),
        max_size=4,
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(scenarios, st.integers(0, 21 * DAY_NS), st.integers(1, 90 * 60 * NS_PER_S))
def test_energy_is_the_integral_of_power(scenario: Scenario, offset_ns: int, duration_ns: int) -> None:
    simulated = Waveform(scenario, 0)
    start_ns, end_ns = MONDAY_NS + offset_ns, MONDAY_NS + offset_ns + duration_ns
    integral_pj, at_ns = 0, start_ns
    while at_ns < end_ns:
        next_ns = min(at_ns - at_ns % HALF_NS + HALF_NS, end_ns)
        integral_pj += simulated.power_mw(at_ns) * (next_ns - at_ns)
        at_ns = next_ns
    assert sum(simulated.energy_pj(end_ns)) - sum(simulated.energy_pj(start_ns)) == integral_pj


@settings(max_examples=60, deadline=None)
@given(scenarios, st.lists(st.integers(0, 100_000 * NS_PER_HOUR), min_size=2, max_size=12))
def test_no_part_of_the_counter_ever_falls(scenario: Scenario, instants: list[int]) -> None:
    simulated = Waveform(scenario, 0)
    energies = [simulated.energy_pj(MONDAY_NS + instant) for instant in sorted(instants)]
    for before, after in itertools.pairwise(energies):
        assert all(later >= earlier >= 0 for earlier, later in zip(before, after, strict=True))


def test_the_hash_is_the_published_one() -> None:
    # Steele, Lea, Flood: SplitMix64 from seed 1234567 gives this first output
    assert mix(1234567) == 6457827717110365317
