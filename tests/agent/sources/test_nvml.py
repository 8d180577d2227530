"""The NVML source through the real C ABI: the probe process, pynvml and the driver double."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SourceError
from agent.model import ProcessUse
from agent.sources.procfs import Procfs
from tests.agent.driver_probe import Driver, descriptors, devices, look
from tests.driver.scenario import Chance, Constant, Counter, Device, Fault, Instance, Junk, Process, Square

GIB = 1 << 30
SILENT = Fault("*", error=999, device="GPU-b")


@pytest.fixture
def pids() -> Iterator[list[int]]:
    running = [subprocess.Popen(["sleep", "600"], env={"FINOPS_PROJECT": f"p{i}", "SECRET": "no"}) for i in range(3)]
    yield [process.pid for process in running]
    for process in running:
        process.kill()
        process.wait()


def test_every_field_of_a_device(driver: Driver) -> None:
    power = Constant(80) + Square(0, 500, period_s=1.7, duty=0.3)
    scenario = driver.show(Device("GPU-a", power=power, utilization=Constant(37), memory_used_bytes=5 * GIB,
                                  memory_reserved_bytes=GIB, temperature_c=61, limit_w=650, power_window_s=0))
    probe = driver.probe()
    first = devices(probe)["GPU-a"]
    before_ns = driver.clock.now_ns
    driver.clock.advance_s(123.45)
    second = devices(probe)["GPU-a"]
    assert (first.name, first.index, first.failed, first.errors) == ("NVIDIA H100 80GB HBM3", 0, None, {})
    assert first.energy_mj is not None
    assert second.energy_mj is not None
    # The counter moves every 100 ms, and both instants are multiples of 50 ms.
    truth_mj = scenario.true_energy_mj("GPU-a", before_ns, driver.clock.now_ns)
    assert abs(second.energy_mj - first.energy_mj - truth_mj) <= 0.1 * 580_000
    on = (driver.clock.now_ns % 1_700_000_000) < 510_000_000
    assert second.power_mw == second.power_instant_mw == (580_000 if on else 80_000)
    assert (second.power_limit_mw, second.utilization_ratio, second.temperature_celsius) == (650_000, 0.37, 61)
    assert (second.memory_used_bytes, second.memory_total_bytes) == (5 * GIB, 80 * GIB)
    assert (second.processes, second.power_samples, second.mig_slices, second.parent_uuid) == ((), (), None, None)


def test_the_reading_names_its_boot_and_driver(driver: Driver) -> None:
    driver.show(Device("GPU-a"))
    probe = driver.probe()
    first, second = look(probe), look(probe)
    assert first.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (first.driver_version, first.simulated) == ("570.133.20", False)
    assert (first.sequence, second.sequence) == (0, 1)
    assert first.session == second.session != look(driver.probe()).session
    assert first.devices[0].boottime_ns <= first.boottime_ns < second.devices[0].boottime_ns
    assert first.host is not None


def test_what_a_device_lacks_is_named_and_the_rest_is_there(driver: Driver) -> None:
    driver.show(Device("GPU-a", power=Constant(100), counter=None, instant_power=False, limit_w=None, use_period_s=0))
    probe = driver.probe()
    for _ in range(2):                                        # remembered, and still named
        device = devices(probe)["GPU-a"]
        assert device.errors == dict.fromkeys(
            ("energy_mj", "power_instant_mw", "power_limit_mw", "utilization_samples"), "Not Supported")
        assert (device.energy_mj, device.power_instant_mw, device.power_mw) == (None, None, 100_000)


def test_power_samples_come_once_each_where_there_is_no_counter(driver: Driver) -> None:
    scenario = driver.show(Device("GPU-a", power=Square(100, 300, period_s=2, duty=0.5), counter=None))
    probe = driver.probe()
    devices(probe)
    seen = []
    for _ in range(6):
        driver.clock.advance_s(0.55)
        seen += devices(probe)["GPU-a"].power_samples
    times_us = [sample.timestamp_us for sample in seen]
    assert times_us == sorted(set(times_us))
    assert len(times_us) == 33                                # 3.3 s at ten a second
    for sample in seen:
        on = sample.timestamp_us % 2_000_000 < 1_000_000
        assert sample.power_mw == (300_000 if on else 100_000)
    assert scenario.device("GPU-a").counter is None


def test_a_device_that_fails_alone_fails_alone(driver: Driver) -> None:
    driver.show(Device("GPU-a", power=Constant(100)), Device("GPU-b", power=Constant(200)))
    probe = driver.probe()
    assert devices(probe)["GPU-b"].power_mw == 200_000
    driver.show(Device("GPU-a", power=Constant(100)), Device("GPU-b", power=Constant(200)), faults=(SILENT,))
    driver.clock.advance_s(1)
    seen = devices(probe)
    assert (seen["GPU-a"].failed, seen["GPU-a"].power_mw) == (None, 100_000)
    failed = seen["GPU-b"]
    assert (failed.failed, failed.index, failed.power_mw, failed.energy_mj, failed.processes) == (
        "Unknown Error", 1, None, None, None)
    driver.show(Device("GPU-a", power=Constant(100)), Device("GPU-b", power=Constant(200)))
    assert devices(probe)["GPU-b"].power_mw == 200_000


def test_a_field_that_fails_is_named_alone(driver: Driver) -> None:
    driver.show(Device("GPU-a", power=Constant(100), temperature_c=50),
                faults=(Fault("nvmlDeviceGetTemperature", error=999),))
    device = devices(driver.probe())["GPU-a"]
    assert (device.failed, device.temperature_celsius, device.power_mw) == (None, None, 100_000)
    assert device.errors == {"temperature_celsius": "Unknown Error"}


def test_a_lost_device_says_so_and_comes_back(driver: Driver) -> None:
    driver.show(Device("GPU-a"), Device("GPU-b", power=Constant(200), lost=[(110, 120)]))
    probe = driver.probe()
    assert devices(probe)["GPU-b"].failed is None
    driver.clock.advance_s(15)
    for _ in range(3):
        seen = devices(probe)
        assert (seen["GPU-a"].failed, seen["GPU-b"].failed, seen["GPU-b"].power_mw) == (None, "GPU is lost", None)
    driver.clock.advance_s(15)
    devices(probe)
    assert devices(probe)["GPU-b"].power_mw == 200_000


def test_devices_are_matched_by_uuid_when_indices_move(driver: Driver) -> None:
    a, b = Device("GPU-a", power=Constant(100), absent=[(110, 120)]), Device("GPU-b", power=Constant(200))
    driver.show(a, b)
    probe = driver.probe()
    assert {u: (d.index, d.power_mw) for u, d in devices(probe).items()} == {"GPU-a": (0, 100_000), "GPU-b": (1, 200_000)}
    driver.clock.advance_s(15)
    seen = devices(probe)
    assert (seen["GPU-b"].index, seen["GPU-b"].power_mw) == (0, 200_000)
    assert seen["GPU-a"].failed == "the driver does not list this GPU any more"
    driver.clock.advance_s(15)
    assert {u: (d.index, d.power_mw) for u, d in devices(probe).items()} == {"GPU-a": (0, 100_000), "GPU-b": (1, 200_000)}


def test_a_hot_plugged_device_is_seen_at_once(driver: Driver) -> None:
    driver.show(Device("GPU-a"), Device("GPU-b", power=Constant(200), absent=[(0, 110)]))
    probe = driver.probe()
    assert set(devices(probe)) == {"GPU-a"}
    driver.clock.advance_s(15)
    assert devices(probe)["GPU-b"].power_mw == 200_000


def test_a_library_that_counts_once_is_reopened_when_the_kernel_driver_takes_a_device(driver: Driver) -> None:
    bound = driver.sysfs / "bus/pci/drivers/nvidia"
    (bound / "0000:1a:00.0").mkdir(parents=True)
    driver.show(Device("GPU-a", power=Constant(100)), Device("GPU-b", power=Constant(200), absent=[(0, 110)]),
                enumerate_at_init=True)
    probe = driver.probe(reconnect_s=3600)
    assert set(devices(probe)) == {"GPU-a"}
    driver.clock.advance_s(15)
    assert set(devices(probe)) == {"GPU-a"}
    (bound / "0000:1b:00.0").mkdir()
    seen = devices(probe)
    assert (seen["GPU-a"].power_mw, seen["GPU-b"].power_mw) == (100_000, 200_000)


def test_no_device_is_waited_for(driver: Driver) -> None:
    driver.show(Device("GPU-a", absent=[(0, 110)]), enumerate_at_init=True)
    probe = driver.probe()
    assert devices(probe) == {}
    driver.clock.advance_s(15)
    assert set(devices(probe)) == {"GPU-a"}


def test_a_device_that_is_lost_from_the_start_is_shown_by_its_index(driver: Driver) -> None:
    driver.show(Device("GPU-a", lost=[(0, 110)]), Device("GPU-b"))
    probe = driver.probe()
    seen = devices(probe)
    assert seen["GPU-unknown-0"].failed == "GPU is lost"
    assert seen["GPU-b"].failed is None
    driver.clock.advance_s(15)
    assert set(devices(probe)) == {"GPU-a", "GPU-b"}


def test_processes_with_memory_identity_and_facts(driver: Driver, pids: list[int]) -> None:
    driver.show(Device("GPU-a", processes=[
        Process(pids[0], memory_bytes=3 * GIB), Process(pids[1], memory_bytes=None, kind="mps"),
        Process(pids[2], kind="graphics"), Process(pids[0], memory_bytes=3 * GIB, kind="graphics")]),
        Device("GPU-b", processes=[Process(pids[0], memory_bytes=GIB)]))
    probe = driver.probe()
    reading = look(probe)
    ticks = [Procfs().start_ticks(pid) for pid in pids]
    assert set(reading.devices[0].processes or ()) == {
        ProcessUse(pids[0], ticks[0], 3 * GIB, "compute"), ProcessUse(pids[1], ticks[1], None, "mps"),
        ProcessUse(pids[2], ticks[2], GIB, "graphics")}
    assert reading.devices[1].processes == (ProcessUse(pids[0], ticks[0], GIB, "compute"),)
    assert {facts.pid: facts.environ for facts in reading.started} == {
        pid: {"FINOPS_PROJECT": f"p{i}"} for i, pid in enumerate(pids)}
    assert {facts.command for facts in reading.started} == {"sleep 600"}
    assert look(probe).started == ()


def test_the_environment_that_is_read_is_configured(driver: Driver, pids: list[int]) -> None:
    driver.show(Device("GPU-a", processes=[Process(pids[0])]))
    assert look(driver.probe(environ=["NOTHING_*"])).started[0].environ == {}


def test_a_process_that_is_not_visible_is_listed_without_identity(driver: Driver) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    driver.show(Device("GPU-a", processes=[Process(ended.pid, memory_bytes=GIB)]))
    reading = look(driver.probe())
    assert reading.devices[0].processes == (ProcessUse(ended.pid, 0, GIB, "compute"),)
    assert reading.started[0].hidden is not None


def test_more_processes_than_the_first_buffer_holds(driver: Driver) -> None:
    wanted = {4_000_000 + i: i << 20 for i in range(900)}
    driver.show(*[Device(f"GPU-{d}", processes=[Process(pid, memory_bytes=size) for pid, size in wanted.items()])
                  for d in range(2)])
    for device in look(driver.probe()).devices:
        assert {use.pid: use.memory_bytes for use in device.processes or ()} == wanted


@pytest.mark.parametrize("missing", [("_v3",), ("_v3", "_v2")])
def test_an_older_library_lists_processes_by_its_own_version(driver: Driver, pids: list[int],
                                                             missing: tuple[str, ...]) -> None:
    faults = tuple(Fault(f"nvmlDeviceGet{kind}RunningProcesses{version}", error=13)
                   for kind in ("Compute", "Graphics", "MPSCompute") for version in missing)
    driver.show(Device("GPU-a", processes=[Process(pids[0], memory_bytes=5), Process(pids[1], memory_bytes=7)]),
                faults=faults)
    uses = look(driver.probe()).devices[0].processes or ()
    assert {use.pid: use.memory_bytes for use in uses} == {pids[0]: 5, pids[1]: 7}


def test_the_branch_with_a_longer_third_version_is_asked_by_the_second(driver: Driver, pids: list[int]) -> None:
    driver.show(Device("GPU-a", processes=[Process(pids[0])]), driver="535.54.03",
                faults=(Fault("nvmlDeviceGetComputeRunningProcesses_v3", error=999),))
    assert len(look(driver.probe()).devices[0].processes or ()) == 1


def test_utilization_samples_come_once_each_and_without_junk(driver: Driver, pids: list[int]) -> None:
    driver.show(Device("GPU-a", use_period_s=0.25, processes=[Process(pids[0], sm=Constant(80))],
                       junk=[Junk(pids[1]), Junk(pids[2], sm=50, age_s=30)]))
    probe = driver.probe()
    devices(probe)
    seen = []
    for _ in range(4):
        driver.clock.advance_s(1)
        seen += devices(probe)["GPU-a"].utilization_samples
    assert [(row.pid, row.sm_percent) for row in seen] == [(pids[0], 80)] * 16
    assert [row.timestamp_us for row in seen] == [100_000_000 + 250_000 * i for i in range(1, 17)]
    assert devices(probe)["GPU-a"].utilization_samples == ()


def test_the_first_look_takes_the_last_second_of_a_buffer_only(driver: Driver, pids: list[int]) -> None:
    driver.show(Device("GPU-a", counter=None, use_period_s=0.25, processes=[Process(pids[0], sm=Constant(80))]))
    device = devices(driver.probe())["GPU-a"]
    assert [row.timestamp_us for row in device.utilization_samples] == [99_250_000, 99_500_000, 99_750_000, 100_000_000]
    assert [row.timestamp_us for row in device.power_samples] == [99_100_000 + 100_000 * i for i in range(10)]


@pytest.mark.parametrize("empty_success", [False, True])
def test_no_utilization_is_no_error(driver: Driver, pids: list[int], empty_success: bool) -> None:
    driver.show(Device("GPU-a", use_empty_success=empty_success, processes=[Process(pids[0], sm=Chance(0))]))
    device = devices(driver.probe())["GPU-a"]
    assert (device.utilization_samples, device.errors) == ((), {})


def test_a_driver_clock_that_is_set_back_is_followed(driver: Driver, pids: list[int]) -> None:
    shown = Device("GPU-a", use_period_s=0.25, use_depth=8, processes=[Process(pids[0], sm=Constant(80))])
    driver.show(shown, timestamp_offset_ns=3600 * 10**9)
    probe = driver.probe()
    devices(probe)
    driver.show(shown, timestamp_offset_ns=0)
    counts = []
    for _ in range(20):
        driver.clock.advance_s(1)
        counts.append(len(devices(probe)["GPU-a"].utilization_samples))
    assert counts[-1] == 4                                    # blind for a while, and not for the hour


def test_mig_instances_have_memory_and_processes_and_no_energy(driver: Driver, pids: list[int]) -> None:
    instances = [Instance("MIG-1", "1g.10gb", gpu_instance=1, memory_total_bytes=10 * GIB),
                 Instance("MIG-3", "3g.40gb", gpu_instance=2, gpu_slices=3, compute_slices=3, memory_total_bytes=40 * GIB,
                          windows=[(0, 110)])]
    driver.show(Device("GPU-a", power=Constant(300), mig=True, mig_repeats_parent=True, instances=instances, processes=[
        Process(pids[0], memory_bytes=2 * GIB, gpu_instance=1), Process(pids[1], memory_bytes=GIB, gpu_instance=2)]))
    probe = driver.probe()
    seen = devices(probe)
    assert list(seen) == ["GPU-a", "MIG-1", "MIG-3"]
    whole, small, large = seen.values()
    assert whole.energy_mj is not None
    assert (whole.power_mw, whole.processes, whole.utilization_samples) == (300_000, (), ())
    for slice_, slices, pid, used in ((small, 1, pids[0], 2 * GIB), (large, 3, pids[1], GIB)):
        assert (slice_.parent_uuid, slice_.mig_slices, slice_.energy_mj, slice_.power_mw) == ("GPU-a", slices, None, None)
        assert [use.pid for use in slice_.processes or ()] == [pid]
        assert (slice_.memory_used_bytes, slice_.failed) == (used, None)
    assert large.memory_total_bytes == 40 * GIB
    assert len(look(probe).started) == 0
    driver.clock.advance_s(15)
    assert list(devices(probe)) == ["GPU-a", "MIG-1"]


def test_a_sleeping_device_is_not_woken(driver: Driver) -> None:
    power = driver.sysfs / "bus/pci/devices/0000:1b:00.0/power"
    power.mkdir(parents=True)
    (power / "runtime_status").write_text("active\n")
    device = Device("GPU-a", power=Constant(20), pci="00000000:1B:00.0")
    driver.show(device)
    probe = driver.probe()
    assert devices(probe)["GPU-a"].power_mw == 20_000
    (power / "runtime_status").write_text("suspended\n")
    driver.show(device, faults=(Fault("*", hang=True, device="GPU-a"),))      # any call about it would hang
    asleep = devices(probe)["GPU-a"]
    assert (asleep.failed, asleep.power_mw, asleep.energy_mj, asleep.processes) == (None, None, None, ())
    assert "suspended" in asleep.errors["energy_mj"]
    (power / "runtime_status").write_text("active\n")
    driver.show(device)
    assert devices(probe)["GPU-a"].power_mw == 20_000


def test_a_counter_that_is_reset_is_passed_on_as_it_is(driver: Driver) -> None:
    driver.show(Device("GPU-a", power=Constant(100), counter=Counter(resets=[110])))
    probe = driver.probe()
    assert devices(probe)["GPU-a"].energy_mj == 100 * 100_000
    driver.clock.advance_s(12)
    assert devices(probe)["GPU-a"].energy_mj == 2 * 100_000


@pytest.mark.parametrize(("code", "words"), [
    (4, ("no permission", "/dev/nvidiactl")),
    (9, ("kernel driver is not loaded", "modprobe nvidia", "--source simulated")),
    (18, ("different versions", "reboot")),
    (999, ("NVML cannot be opened: Unknown Error (code 999)", "nvidia-smi")),
])
def test_why_nvml_cannot_be_opened(driver: Driver, code: int, words: tuple[str, ...]) -> None:
    driver.show(Device("GPU-a"), faults=(Fault("nvmlInit", error=code),))
    with pytest.raises(SourceError) as caught:
        driver.probe().read()
    sentence = str(caught.value)
    assert all(word in sentence for word in words)
    assert "\n" not in sentence


def test_a_machine_without_the_library_names_the_simulated_source(driver: Driver, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")         # found before any that this machine has
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"no NVIDIA driver found: .*--source simulated"):
        driver.probe().read()


def test_descriptors_do_not_grow(driver: Driver, pids: list[int]) -> None:
    driver.show(Device("GPU-a", processes=[Process(pid) for pid in pids]), Device("GPU-b", absent=[(0, 110), (120, 130)]))
    probe = driver.probe()
    look(probe)
    before = len(descriptors(probe.pid or 0))
    for _ in range(40):
        driver.clock.advance_s(1)
        look(probe)
    assert len(descriptors(probe.pid or 0)) == before


def test_a_gpu_that_is_divided_while_it_works_is_followed_at_the_next_look(driver: Driver, pids: list[int]) -> None:
    whole = Device("GPU-a", processes=[Process(pids[0])])
    parts = Device("GPU-a", mig=True, instances=[Instance("MIG-3", gpu_instance=1, compute_slices=3)],
                   processes=[Process(pids[0], gpu_instance=1)])
    driver.show(whole)
    probe = driver.probe()
    undivided, divided = {"GPU-a": (None, 1)}, {"GPU-a": (7, 0), "MIG-3": (3, 1)}
    for shown, seen in ((whole, undivided), (parts, divided), (whole, undivided)):
        driver.show(shown)
        assert {uuid: (one.mig_slices, len(one.processes or ())) for uuid, one in devices(probe).items()} == seen


def test_a_power_limit_is_asked_for_again_as_soon_as_more_is_drawn(driver: Driver) -> None:
    """It is asked once a minute; one that was raised meanwhile would make real energy look impossible."""
    driver.show(Device("GPU-a", power=Constant(290), limit_w=300))
    probe = driver.probe()
    assert devices(probe)["GPU-a"].power_limit_mw == 300_000
    driver.show(Device("GPU-a", power=Constant(290), limit_w=650))
    driver.clock.advance_s(1)
    assert devices(probe)["GPU-a"].power_limit_mw == 300_000         # nothing says otherwise yet
    driver.show(Device("GPU-a", power=Constant(600), limit_w=650))
    driver.clock.advance_s(1)
    assert devices(probe)["GPU-a"].power_limit_mw == 650_000
