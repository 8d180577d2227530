"""The simulated source: readings that agree with the truth it knows, the same everywhere."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError, SourceError
from agent.model import IDLE, UNATTRIBUTED, Reading
from agent.sources.simulated import SimulatedSource
from agent.units import NS_PER_S, NS_PER_US
from tests.agent.sources.held_clock import HeldClock

NOON_NS = int(dt.datetime(2026, 11, 18, 12, tzinfo=dt.UTC).timestamp()) * NS_PER_S
ROOT = Path(__file__).resolve().parents[3]


def opened(clock: HeldClock, **options: Any) -> SimulatedSource:
    source = SimulatedSource(options, clock=clock)
    source.open()
    return source


def readings(count: int, step_ns: int = NS_PER_S, **options: Any) -> list[Reading]:
    clock = HeldClock(NOON_NS)
    source = opened(clock, **options)
    seen = []
    for sequence in range(count):
        seen.append(source.read(sequence))
        clock.advance(step_ns)
    return seen


def test_every_reading_and_name_says_that_it_is_simulated() -> None:
    (reading,) = readings(1)
    assert reading.simulated
    assert [device.name for device in reading.devices] == ["NVIDIA H100 80GB HBM3 (simulated)"] * 2
    assert [device.index for device in reading.devices] == [0, 1]
    assert all(re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", d.uuid) for d in reading.devices)


def test_the_counter_and_the_mean_power_are_the_truth() -> None:
    clock = HeldClock(NOON_NS)
    source = opened(clock, seed=3)
    before = source.read(0)
    for sequence in range(1, 90):
        clock.advance(NS_PER_S + 123_457)
        after = source.read(sequence)
        for was, device in zip(before.devices, after.devices, strict=True):
            used_mj = device.energy_mj - was.energy_mj
            assert used_mj == source.true_energy_mj(device.uuid, before.utc_ns, after.utc_ns)
            assert device.power_mw == source.true_energy_mj(device.uuid, after.utc_ns - NS_PER_S, after.utc_ns)
            assert 70_000 <= device.power_instant_mw <= device.power_limit_mw == 700_000
        before = after


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**63), st.integers(1, 5), st.integers(0, 10**16), st.integers(0, 10**13), st.integers(0, 10**13))
def test_workloads_and_idle_sum_to_the_device(seed: int, devices: int, start: int, first: int, second: int) -> None:
    source = SimulatedSource({"seed": seed, "devices": devices}, clock=HeldClock(NOON_NS))
    start_ns, middle_ns, end_ns = NOON_NS + start, NOON_NS + start + first, NOON_NS + start + first + second
    for uuid in source.uuids:
        whole = source.true_energy_by_workload(uuid, start_ns, end_ns)
        assert sum(whole.values()) == source.true_energy_mj(uuid, start_ns, end_ns)
        assert all(part_mj >= 0 for part_mj in whole.values())
        # The counter's two ends are whole mJ, so their difference is less than 1 off; and its split less than 1 more.
        assert abs(whole[IDLE, "", "", ""] * 10**6 - 70 * (end_ns - start_ns)) < 2 * 10**6
        halves = source.true_energy_mj(uuid, start_ns, middle_ns) + source.true_energy_mj(uuid, middle_ns, end_ns)
        assert halves == source.true_energy_mj(uuid, start_ns, end_ns)


def test_the_truth_names_workloads_by_the_tag_keys_asked_for() -> None:
    source = SimulatedSource({}, clock=HeldClock(NOON_NS))
    hour_ns = 3600 * NS_PER_S
    serving, training = source.uuids
    by_model = source.true_energy_by_workload(serving, NOON_NS, NOON_NS + hour_ns)
    assert set(by_model) == {
        (IDLE, "", "", ""), ("kronos", "quant", "kronos-base", "1.0"), ("kronos", "quant", "kronos-base", "1.1"),
    }  # fmt: skip
    by_project = source.true_energy_by_workload(serving, NOON_NS, NOON_NS + hour_ns, keys=("project",))
    assert by_project[("kronos",)] == sum(mj for workload, mj in by_model.items() if workload[0] == "kronos")
    untagged = source.true_energy_by_workload(training, NOON_NS, NOON_NS + hour_ns)
    assert untagged[UNATTRIBUTED, "", "", ""] > 0


def test_seeds_differ_and_the_same_seed_does_not() -> None:
    fixed = {"session": "s", "boot_id": "b"}
    assert readings(30, **fixed, seed=1) == readings(30, **fixed, seed=1)
    one, other = readings(30, **fixed, seed=1), readings(30, **fixed, seed=2)
    assert {d.uuid for d in one[0].devices}.isdisjoint(d.uuid for d in other[0].devices)
    assert [d.power_mw for r in one for d in r.devices] != [d.power_mw for r in other for d in r.devices]


def test_another_process_sees_the_same_bytes() -> None:
    code = (
        "import sys, msgspec\n"
        "from tests.agent.sources.test_simulated import readings\n"
        "sys.stdout.buffer.write(msgspec.json.encode(readings(5, seed=9, session='s', boot_id='b')))\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, check=True).stdout
    assert out == msgspec.json.encode(readings(5, seed=9, session="s", boot_id="b"))


def test_a_source_opened_again_goes_on_where_the_counter_was() -> None:
    clock = HeldClock(NOON_NS)
    first = opened(clock)
    before = first.read(0)
    first.close()
    clock.advance(60 * NS_PER_S)
    second = opened(clock)
    after = second.read(0)
    assert after.session != before.session
    assert after.boot_id == before.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for was, device in zip(before.devices, after.devices, strict=True):
        assert device.energy_mj - was.energy_mj == second.true_energy_mj(device.uuid, before.utc_ns, after.utc_ns)
    assert {(f.pid, f.start_ticks) for f in after.started} == {
        (p.pid, p.start_ticks) for d in after.devices for p in d.processes
    }


def test_a_wall_clock_that_steps_moves_no_energy() -> None:
    clock = HeldClock(NOON_NS)
    source = opened(clock)
    before = source.read(0)
    clock.advance(NS_PER_S)
    clock.utc -= 3600 * NS_PER_S
    after = source.read(1)
    assert after.utc_ns == NOON_NS - 3599 * NS_PER_S
    for was, device in zip(before.devices, after.devices, strict=True):
        assert device.energy_mj - was.energy_mj == source.true_energy_mj(device.uuid, NOON_NS, NOON_NS + NS_PER_S)


def test_a_process_is_told_once_and_before_it_is_needed() -> None:
    told: set[tuple[int, int]] = set()
    ended: set[tuple[int, int]] = set()
    for reading in readings(700, step_ns=3 * NS_PER_S, devices=4):
        new = {(facts.pid, facts.start_ticks) for facts in reading.started}
        present = {(p.pid, p.start_ticks) for d in reading.devices for p in d.processes}
        assert not new & told
        assert new <= present <= told | new
        assert not present & ended
        told |= new
        ended |= told - present
    assert len(ended) > 10                                   # processes came and went


def test_facts_carry_the_tags_in_the_environment_and_some_processes_have_none() -> None:
    started = [facts for reading in readings(300, step_ns=5 * NS_PER_S) for facts in reading.started]
    environs = [dict(facts.environ) for facts in started]
    assert {"FINOPS_PROJECT": "kronos", "FINOPS_TEAM": "quant", "FINOPS_MODEL": "kronos-base",
            "FINOPS_MODEL_VERSION": "1.1"} in environs  # fmt: skip
    assert {} in environs
    assert all(facts.user and facts.command and facts.unit for facts in started)


def test_a_newcomer_sees_work_in_the_first_reading_at_any_hour() -> None:
    for hour in range(7 * 24):
        source = opened(HeldClock(NOON_NS + hour * 3600 * NS_PER_S))
        busy = source.read(0).devices[0]
        assert busy.utilization_ratio > 0.2
        assert busy.power_mw > 200_000
        assert len(busy.processes) == 2


def test_over_an_hour_the_second_gpu_is_active_parked_and_unallocated() -> None:
    seen = {(bool(d.processes), d.utilization_ratio > 0) for r in readings(360, 10 * NS_PER_S) for d in r.devices[1:]}
    assert seen == {(True, True), (True, False), (False, False)}


def test_a_fleet_of_any_size_keeps_its_pattern_and_its_processes_apart() -> None:
    (reading,) = readings(1, devices=200)
    assert len({device.uuid for device in reading.devices}) == 200
    assert all(not device.processes for device in reading.devices[3::4])
    owners: dict[int, set[int]] = {}
    for device in reading.devices:
        for process in device.processes:
            owners.setdefault(process.pid, set()).add(process.start_ticks)
    assert all(len(starts) == 1 for starts in owners.values())


def test_memory_and_temperature_follow_the_processes_and_the_power() -> None:
    for reading in readings(120, 5 * NS_PER_S):
        for device in reading.devices:
            assert device.memory_used_bytes == sum(process.memory_bytes for process in device.processes)
            assert device.memory_used_bytes <= device.memory_total_bytes == 80 * 2**30
            assert device.temperature_celsius == 30 + 45 * device.power_instant_mw // 700_000


STEADY = {"jitter": 0, "devices": 1, "workload": [{"gpus": [0], "busy": 0.333}, {"gpus": [0], "busy": 0.0}]}


def test_utilization_samples_come_six_a_second_once_each_with_the_true_mean() -> None:
    seen = readings(601, scenario=STEADY)
    busy, parked = (process.pid for process in seen[0].devices[0].processes)
    rows = [row for reading in seen[1:] for row in reading.devices[0].utilization_samples]
    assert {row.pid for row in rows} == {busy}
    assert parked != busy
    assert len(rows) == len({row.timestamp_us for row in rows}) == 6 * 600
    assert {row.sm_percent for row in rows} == {33, 34}
    assert sum(row.sm_percent for row in rows) / len(rows) == pytest.approx(33.3, abs=0.05)
    for before, after in itertools.pairwise(seen):
        assert all(
            before.utc_ns // NS_PER_US < row.timestamp_us <= after.utc_ns // NS_PER_US
            for row in after.devices[0].utilization_samples
        )


def test_after_a_long_silence_only_the_drivers_ring_of_ten_seconds_is_left() -> None:
    clock = HeldClock(NOON_NS)
    source = opened(clock, scenario=STEADY)
    source.read(0)
    clock.advance(100 * NS_PER_S)
    rows = source.read(1).devices[0].utilization_samples
    assert len(rows) == 60
    assert rows[0].timestamp_us > (clock.utc - 10 * NS_PER_S) // NS_PER_US


def test_host_disk_counters_grow_with_the_uptime() -> None:
    first, second = readings(2, 10 * NS_PER_S)
    assert second.host.disk_read_bytes - first.host.disk_read_bytes == 20_000_000
    assert 0 < first.host.cpu_utilization_ratio < 1


def test_reading_before_opening_or_after_closing_is_told() -> None:
    source = SimulatedSource({}, clock=HeldClock(NOON_NS))
    with pytest.raises(SourceError, match="before it is opened"):
        source.read(0)
    source.open()
    source.close()
    source.close()
    with pytest.raises(SourceError, match="before it is opened"):
        source.read(0)


@pytest.mark.parametrize("options", [{"sead": 1}, {"seed": "one"}, {"scenario": 5}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="options of the simulated source"):
        SimulatedSource(options)
