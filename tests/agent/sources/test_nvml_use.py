"""Who used a GPU between two looks, through the real C ABI: samples, accounting, and those that came and went."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from agent.model import AccountingUse, ProcessUse
from agent.sources.procfs import Procfs
from tests.agent.driver_probe import Driver, devices, look
from tests.driver.scenario import Constant, Device, Fault, Instance, Junk, Points, Process, Turn

GIB = 1 << 30
UNSEEN = 4_000_000                       # no PID of this machine: as of another PID namespace, or of one that is gone


@pytest.fixture
def pid() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"], env={"FINOPS_PROJECT": "kronos"})
    yield process.pid
    process.kill()
    process.wait()


def utc(driver: Driver) -> int:
    """An offset by which the driver's timestamps are UTC, as real ones are, while its clock is the test's."""
    return time.time_ns() - driver.clock.now_ns


def test_a_process_that_left_the_device_between_two_looks_is_still_known(driver: Driver, pid: int) -> None:
    driver.show(Device("GPU-a", processes=[Process(pid=pid, sm=Constant(80), windows=[(0, 110.5)])]))
    probe = driver.probe()
    driver.clock.advance_s(10)
    (use,) = devices(probe)["GPU-a"].processes or ()
    driver.clock.advance_s(1)
    left = devices(probe)["GPU-a"]
    assert left.processes == ()
    assert left.passed == (ProcessUse(pid, use.start_ticks, None),)
    assert {sample.pid for sample in left.utilization_samples} == {pid}
    driver.clock.advance_s(1)
    assert devices(probe)["GPU-a"].passed == ()


def test_a_process_that_came_and_went_but_lives_on_is_found_with_its_facts(driver: Driver, pid: int) -> None:
    process = Process(pid=pid, sm=Constant(80), windows=[(110.2, 110.7)])
    driver.show(Device("GPU-a", processes=[process]), timestamp_offset_ns=utc(driver))
    probe = driver.probe()
    driver.clock.advance_s(10)
    look(probe)
    driver.clock.advance_s(1)
    reading = look(probe)
    assert reading.devices[0].passed == (ProcessUse(pid, Procfs().start_ticks(pid), None),)
    assert [(facts.pid, facts.environ) for facts in reading.started] == [(pid, {"FINOPS_PROJECT": "kronos"})]


def test_a_pid_that_somebody_else_has_by_now_is_not_blamed(driver: Driver, pid: int) -> None:
    # The sample is an hour older than the process that has its PID today.
    process = Process(pid=pid, sm=Constant(80), windows=[(110.2, 110.7)])
    driver.show(Device("GPU-a", processes=[process]), timestamp_offset_ns=utc(driver) - 3_600 * 10**9)
    probe = driver.probe()
    driver.clock.advance_s(10)
    look(probe)
    driver.clock.advance_s(1)
    reading = look(probe)
    assert (reading.devices[0].passed, reading.started) == ((ProcessUse(pid, 0, None),), ())


def test_accounting_tells_of_a_process_between_two_looks_once(driver: Driver) -> None:
    brief = Process(pid=UNSEEN, sm=Constant(0), memory_bytes=3 * GIB, windows=[(110.2, 110.7)], accounting=True)
    old = Process(pid=UNSEEN + 1, windows=[(50, 60)], accounting=True)
    driver.show(Device("GPU-a", accounting=True, processes=[brief, old]))
    probe = driver.probe()
    driver.clock.advance_s(10)
    assert devices(probe)["GPU-a"].accounting == ()            # who had ended before the first look is not told
    driver.clock.advance_s(1)
    seen = devices(probe)["GPU-a"]
    assert seen.accounting == (AccountingUse(UNSEEN, 0, 110_200_000, 500, 0, 3 * GIB),)
    assert seen.passed == (ProcessUse(UNSEEN, 0, 3 * GIB),)
    driver.clock.advance_s(1)
    assert devices(probe)["GPU-a"].accounting == ()


def test_accounting_tells_of_a_process_that_was_watched_when_it_ends(driver: Driver, pid: int) -> None:
    process = Process(pid=pid, sm=Constant(60), windows=[(101, 111.25)], accounting=True)
    driver.show(Device("GPU-a", accounting=True, processes=[process]))
    probe = driver.probe()
    seen = []
    for _ in range(14):
        seen.append(devices(probe)["GPU-a"])
        driver.clock.advance_s(1)
    told = [(i, use) for i, one in enumerate(seen) for use in one.accounting]
    assert told == [(12, AccountingUse(pid, Procfs().start_ticks(pid), 101_000_000, 10_250, 60, GIB))]


def test_accounting_that_is_switched_off_is_not_asked(driver: Driver) -> None:
    process = Process(pid=UNSEEN, sm=Constant(0), windows=[(110.2, 110.7)], accounting=True)
    driver.show(Device("GPU-a", accounting=False, processes=[process]),
                faults=(Fault("nvmlDeviceGetAccountingPids", error=15),))          # would make the device fail
    probe = driver.probe()
    driver.clock.advance_s(11)
    seen = devices(probe)["GPU-a"]
    assert (seen.failed, seen.accounting, seen.errors) == (None, (), {})


def test_more_accounted_processes_than_the_first_buffer_holds(driver: Driver) -> None:
    several = [Process(pid=UNSEEN + n, windows=[(110, 110.5)], accounting=True) for n in range(700)]
    driver.show(Device("GPU-a", accounting=True, processes=several))
    probe = driver.probe()
    devices(probe)
    driver.clock.advance_s(11)
    told = [use.pid for _ in range(4) for use in devices(probe)["GPU-a"].accounting]
    assert sorted(told) == [UNSEEN + n for n in range(700)]


def test_a_sample_from_the_future_does_not_hide_those_that_follow(driver: Driver, pid: int) -> None:
    future = Junk(pid=9, sm=50, age_s=-86_400 * 365 * 200)
    driver.show(Device("GPU-a", processes=[Process(pid=pid, sm=Constant(80))], junk=[future]))
    probe = driver.probe()
    devices(probe)
    found = []
    for _ in range(3):
        driver.clock.advance_s(1)
        found += devices(probe)["GPU-a"].utilization_samples
    assert len(found) == 18                                    # six a second
    assert {sample.pid for sample in found} == {pid}


def test_gpm_tells_how_busy_the_device_was_between_two_looks(driver: Driver) -> None:
    driver.show(Device("GPU-a", utilization=Constant(42)), Device("GPU-b", gpm=False))
    probe = driver.probe()
    first = devices(probe)
    driver.clock.advance_s(1)
    second = devices(probe)
    assert (first["GPU-a"].gpm_sm_ratio, second["GPU-a"].gpm_sm_ratio) == (None, 0.42)
    assert second["GPU-a"].errors == {}
    assert (second["GPU-b"].gpm_sm_ratio, second["GPU-b"].errors) == (None, {"gpm_sm_ratio": "Not Supported"})


def test_gpm_follows_a_load_and_each_look_begins_where_the_last_ended(driver: Driver) -> None:
    driver.show(Device("GPU-a", utilization=Points((0, 10), (101, 80), (102, 30))))
    probe = driver.probe()
    devices(probe)
    ratios = []
    for _ in range(3):
        driver.clock.advance_s(1)
        ratios.append(devices(probe)["GPU-a"].gpm_sm_ratio)
    assert ratios == [0.1, 0.8, 0.3]


def test_gpm_of_mig_instances(driver: Driver) -> None:
    busy = Process(pid=UNSEEN, sm=Constant(90), gpu_instance=1)
    other = Process(pid=UNSEEN + 1, sm=Constant(20), gpu_instance=2)
    instances = [Instance("MIG-1", gpu_instance=1, compute_slices=3), Instance("MIG-2", gpu_instance=2, compute_slices=4)]
    driver.show(Device("GPU-a", mig=True, instances=instances, processes=[busy, other]))
    probe = driver.probe()
    devices(probe)
    driver.clock.advance_s(1)
    seen = devices(probe)
    assert [seen[uuid].gpm_sm_ratio for uuid in ("MIG-1", "MIG-2", "GPU-a")] == [0.9, 0.2, None]
    # Made anew under the same id: what was sampled of the old one does not count for the new one.
    driver.show(Device("GPU-a", mig=True, instances=[Instance("MIG-3", gpu_instance=1)], processes=[busy]))
    driver.clock.advance_s(1)
    assert devices(probe)["MIG-3"].gpm_sm_ratio is None
    driver.clock.advance_s(1)
    assert devices(probe)["MIG-3"].gpm_sm_ratio == 0.9


def test_a_library_without_gpm_is_asked_no_further(driver: Driver) -> None:
    driver.show(Device("GPU-a"), faults=(Fault("nvmlGpmQueryDeviceSupport", error=13, max_calls=1),))
    probe = driver.probe()
    for _ in range(3):
        driver.clock.advance_s(1)
        seen = devices(probe)["GPU-a"]
        assert (seen.gpm_sm_ratio, seen.errors) == (None, {"gpm_sm_ratio": "Function Not Found"})


def test_the_power_ring_is_read_beside_a_counter_only_without_average_power(driver: Driver) -> None:
    driver.show(Device("GPU-a"))
    probe = driver.probe()
    seen = devices(probe)["GPU-a"]
    assert (seen.power_samples, seen.power_average_mw) == ((), 100_000)
    driver.show(Device("GPU-a"), faults=(Fault("nvmlDeviceGetFieldValues:185", error=3),))
    seen = devices(driver.probe())["GPU-a"]
    assert seen.errors == {"power_average_mw": "Not Supported"}
    assert len(seen.power_samples) == 10                       # the last second's
    assert (seen.power_instant_mw, seen.energy_mj) == (100_000, 10_000_000)


def test_turns_of_two_processes_are_each_ones_own(driver: Driver, pid: int) -> None:
    driver.show(Device("GPU-a", processes=[Process(pid=pid, sm=Turn(0, 0.5)), Process(pid=UNSEEN, sm=Turn(0.5, 1))]))
    probe = driver.probe()
    devices(probe)
    driver.clock.advance_s(10)
    seen = devices(probe)["GPU-a"]
    assert (seen.passed, len(seen.utilization_samples)) == ((), 60)
    assert [use.start_ticks == 0 for use in seen.processes or ()] == [False, True]       # one is not visible
