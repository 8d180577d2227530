"""The driver as a whole: devices that come and go, MIG, faults, hangs, and the file that says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pynvml
import pytest

from tests.driver.build import LIBRARY, build, driver_environ
from tests.driver.client import Client, World
from tests.driver.scenario import (
    GIB,
    SECOND_NS,
    ClockFile,
    Constant,
    Device,
    Fault,
    Instance,
    Process,
    Scenario,
    Square,
    boottime_ns,
    ns,
)

LOST, ODD = pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN
UUIDS = "[n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(i)) for i in range(n.nvmlDeviceGetCount())]"


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come true within 10 s")


def test_identity(world: World, clock: ClockFile) -> None:
    world.use(Scenario([
        Device("GPU-a"),
        Device("GPU-b", name="NVIDIA A100", pci="00000001:1B:00.0", minor=5, temperature_c=61, pstate=8,
               persistence=False, architecture=7, cuda_capability=(8, 0), serial="123", memory_total_bytes=40 * GIB,
               memory_reserved_bytes=GIB, processes=[Process(1, memory_bytes=2 * GIB), Process(2, memory_bytes=GIB)])],
        clock=clock, driver="999.1", nvml="13.2", cuda=13000))
    asked = {name: world.ask(f"Get{name}", device=1) for name in (
        "Name", "UUID", "Index", "MinorNumber", "Architecture", "CudaComputeCapability", "PersistenceMode",
        "PerformanceState", "Brand", "Serial")}
    assert asked == {"Name": "NVIDIA A100", "UUID": "GPU-b", "Index": 1, "MinorNumber": 5, "Architecture": 7,
                     "CudaComputeCapability": [8, 0], "PersistenceMode": 0, "PerformanceState": 8, "Brand": 14,
                     "Serial": "123"}
    assert world.ask("GetTemperature", "0", device=1) == world.ask("GetTemperatureV", "0", device=1) == 61
    assert world.client("[n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion(),"
                        " n.nvmlSystemGetCudaDriverVersion_v2()]") == ["999.1", "13.2", 13000]
    handle = "n.nvmlDeviceGetHandleByIndex(1)"
    pci = "(lambda p: [str(p.busId), str(p.busIdLegacy), p.domain, p.bus])"
    assert world.client(f"{pci}(n.nvmlDeviceGetPciInfo({handle}))") == ["00000001:1B:00.0", "0001:1B:00.0", 1, 27]
    assert world.client("n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByPciBusId(b'0001:1b:00.0'))") == "GPU-b"
    memory = "(lambda m: [m.total, m.used, m.free])"
    assert world.client(f"{memory}(n.nvmlDeviceGetMemoryInfo({handle}))") == [40 * GIB, 4 * GIB, 36 * GIB]
    assert world.client(f"{memory}(n.nvmlDeviceGetMemoryInfo({handle}, n.nvmlMemory_v2))") == [40 * GIB, 3 * GIB, 36 * GIB]
    assert world.error("GetGpuFabricInfo", "0") == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND


def test_devices_lost_and_absent(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a", absent=[(10, 20)]), Device("GPU-b", lost=[(12, None)]), Device("GPU-c")],
                       clock=clock))
    clock.set_ns(ns(5))
    assert world.client(UUIDS) == ["GPU-a", "GPU-b", "GPU-c"]
    world.client("[globals().__setitem__(u, n.nvmlDeviceGetHandleByUUID(u.encode())) for u in ('GPU-a', 'GPU-b')]")
    power = "n.nvmlDeviceGetPowerUsage(globals()[{!r}])"
    clock.set_ns(ns(11))
    assert world.client(UUIDS) == ["GPU-b", "GPU-c"]
    assert world.client.error(power.format("GPU-a")) == LOST
    assert world.client.error("n.nvmlDeviceGetHandleByUUID(b'GPU-a')") == pynvml.NVML_ERROR_NOT_FOUND
    clock.set_ns(ns(13))
    assert world.client("n.nvmlDeviceGetCount()") == 2
    assert world.error("GetUUID", device=0) == LOST and world.error("GetUUID", device=1) == 0
    clock.set_ns(ns(20))
    assert world.client(power.format("GPU-a")) == 100_000
    assert world.client.error(power.format("GPU-b")) == LOST


def test_rewritten_world_keeps_handles_with_their_uuid(world: World, clock: ClockFile) -> None:
    first, second = Device("GPU-a", power=Constant(100)), Device("GPU-b", power=Constant(200))
    world.use(Scenario([first, second], clock=clock))
    world.client("globals().__setitem__('kept', n.nvmlDeviceGetHandleByIndex(0))")
    Scenario([Device("GPU-new"), second, Device("GPU-a", power=Constant(111))], clock=clock).write(world.path)
    assert world.client(UUIDS) == ["GPU-new", "GPU-b", "GPU-a"]
    assert world.client("[n.nvmlDeviceGetIndex(kept), n.nvmlDeviceGetPowerUsage(kept)]") == [2, 111_000]
    Scenario([second], clock=clock).write(world.path)
    assert world.client(UUIDS) == ["GPU-b"]
    assert world.client.error("n.nvmlDeviceGetPowerUsage(kept)") == LOST
    Scenario([second, first], clock=clock, enumerate_at_init=True).write(world.path)
    assert world.client("n.nvmlDeviceGetPowerUsage(kept) if n.nvmlDeviceGetCount() else 0") == 100_000


def test_enumeration_frozen_at_init(world: World, clock: ClockFile) -> None:
    devices = [Device("GPU-a"), Device("GPU-b")]
    world.use(Scenario(devices, clock=clock, enumerate_at_init=True))
    Scenario([devices[1], Device("GPU-c")], clock=clock, enumerate_at_init=True).write(world.path)
    assert world.client("n.nvmlDeviceGetCount()") == 2
    assert world.error("GetUUID", device=0) == LOST and world.ask("GetUUID", device=1) == "GPU-b"
    world.client("[n.nvmlShutdown(), n.nvmlInit()]")
    assert world.client(UUIDS) == ["GPU-b", "GPU-c"]


def test_mig(world: World, clock: ClockFile) -> None:
    three = Instance("MIG-a", "3g.40gb", gpu_instance=1, gpu_slices=3, compute_slices=3, memory_total_bytes=40 * GIB)
    four = Instance("MIG-b", "4g.40gb", gpu_instance=2, gpu_slices=4, compute_slices=4, windows=[(50, None)])
    processes = [Process(11, memory_bytes=GIB, gpu_instance=1), Process(12, memory_bytes=2 * GIB, gpu_instance=2)]
    world.use(Scenario([Device("GPU-a", mig=True, instances=[three, four], processes=processes),
                        Device("GPU-b", mig_max=0), Device("GPU-c")], clock=clock))
    parent = "n.nvmlDeviceGetHandleByIndex(0)"
    mig = f"n.nvmlDeviceGetMigDeviceHandleByIndex({parent}, {{}})"
    clock.set_ns(ns(10))
    assert world.client.error(mig.format(1)) == pynvml.NVML_ERROR_NOT_FOUND
    clock.set_ns(ns(60))
    assert [world.client(f"n.nvmlDeviceGetUUID({mig.format(i)})") for i in (0, 1)] == ["MIG-a", "MIG-b"]
    assert world.client.error(mig.format(7)) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert world.ask("GetMigMode") == [1, 1] and world.ask("GetMigMode", device=2) == [0, 0]
    assert world.error("GetMigMode", device=1) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert [world.ask("GetMaxMigDeviceCount", device=i) for i in (0, 1)] == [7, 0]
    attributes = world.client("(lambda a: [a.gpuInstanceSliceCount, a.computeInstanceSliceCount, a.memorySizeMB])"
                              f"(n.nvmlDeviceGetAttributes({mig.format(0)}))")
    assert attributes == [3, 3, 40 * 1024]
    assert world.client(f"[n.nvmlDeviceGetGpuInstanceId({mig.format(1)}), n.nvmlDeviceGetComputeInstanceId({mig.format(1)}),"
                        f" n.nvmlDeviceIsMigDeviceHandle({mig.format(1)}).value, n.nvmlDeviceGetIndex({mig.format(1)}),"
                        f" n.nvmlDeviceGetName({mig.format(1)})]") == [2, 0, 1, 1, "NVIDIA H100 80GB HBM3 MIG 4g.40gb"]
    assert world.client(f"n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle({mig.format(1)}))") == "GPU-a"
    assert world.client("n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(b'MIG-b'))") == "MIG-b"
    lists = [world.client(f"[[p.pid, p.gpuInstanceId] for p in n.nvmlDeviceGetComputeRunningProcesses({handle})]")
             for handle in (parent, mig.format(0), mig.format(1))]
    assert lists == [[[11, 1], [12, 2]], [[11, 1]], [[12, 2]]]
    assert world.client(f"n.nvmlDeviceGetMemoryInfo({mig.format(1)}).used") == 2 * GIB
    for function in ("GetPowerUsage", "GetTotalEnergyConsumption", "GetUtilizationRates"):
        assert world.client.error(f"n.nvmlDevice{function}({mig.format(0)})") == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert world.error("GetProcessUtilization", "0") == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert world.ask("GetPowerUsage") == 100_000


def test_mig_trap_and_reconfiguration(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a", mig=True, mig_repeats_parent=True, instances=[Instance("MIG-a")])], clock=clock))
    world.client("globals().__setitem__('kept', n.nvmlDeviceGetHandleByUUID(b'MIG-a'))")
    assert world.client("n.nvmlDeviceGetPowerUsage(kept)") == 100_000
    Scenario([Device("GPU-a", mig=True, instances=[Instance("MIG-z")])], clock=clock).write(world.path)
    assert world.client("n.nvmlDeviceGetCount()") == 1
    assert world.client.error("n.nvmlDeviceGetUUID(kept)") == pynvml.NVML_ERROR_NOT_FOUND


def test_faults(world: World, clock: ClockFile) -> None:
    world.use(Scenario([Device("GPU-a"), Device("GPU-b")], clock=clock, faults=[
        Fault("nvmlDeviceGetPowerUsage", error=ODD, device="GPU-b"),
        Fault("nvmlDeviceGetUUID", error=10, from_s=10, to_s=20),
        Fault("nvmlDeviceGetName", error=4, skip_calls=1, max_calls=2),
        Fault("nvmlDeviceGetComputeRunningProcesses_v3", error=3),
        Fault("nvmlDeviceGetMemoryInfo", error=20),
        Fault("nvmlDeviceGetFieldValues:186", error=21),
        Fault("nvmlDeviceGetHandleByIndex", error=17, device="GPU-b", from_s=500),
        Fault("nvmlDeviceGetCount", error=27, from_s=1000)]))
    assert [world.error("GetPowerUsage", device=i) for i in (0, 1)] == [0, ODD]
    codes = []
    for at_s in (9, 10, 20):
        clock.set_ns(ns(at_s))
        codes.append(world.error("GetUUID"))
    assert codes == [0, 10, 0]
    assert [world.error("GetName") for _ in range(4)] == [0, 4, 4, 0]
    assert world.error("GetComputeRunningProcesses") == 3 and world.error("GetComputeRunningProcesses_v2") == 0
    assert [world.error("GetMemoryInfo"), world.error("GetMemoryInfo", "n.nvmlMemory_v2")] == [20, 20]
    handle = "n.nvmlDeviceGetHandleByIndex(0)"
    assert world.client(f"[v.nvmlReturn for v in n.nvmlDeviceGetFieldValues({handle}, [185, 186])]") == [0, 21]
    clock.set_ns(ns(500))
    assert [world.client.error(f"n.nvmlDeviceGetHandleByIndex({i}) and 0") for i in (0, 1)] == [0, 17]
    clock.set_ns(ns(1000))
    assert world.client.error("n.nvmlDeviceGetCount()") == 27


@pytest.mark.parametrize(("code", "text"), [
    (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"),
    (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "Driver/library version mismatch"),
    (pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions")])
def test_init_that_fails(world: World, code: int, text: str) -> None:
    Scenario([Device("GPU-a")], faults=[Fault("nvmlInit", error=code, max_calls=1)]).write(world.path)
    assert world.client.error(f"use({str(world.path)!r})") == code
    assert world.client.error("n.nvmlDeviceGetCount()") == pynvml.NVML_ERROR_UNINITIALIZED
    assert world.client("n.nvmlInit() or n.nvmlDeviceGetCount()") == 1
    assert world.client(f"n.nvmlErrorString({code})") == text


def test_delay(world: World) -> None:
    world.use(Scenario([Device("GPU-a")], faults=[Fault("nvmlDeviceGetName", delay_s=0.05, error=10)]))
    before_ns = boottime_ns()
    assert world.error("GetName") == 10
    assert boottime_ns() - before_ns >= 50_000_000


SIGTERM = 1 << (signal.SIGTERM - 1)


def signals(client: Client, which: str) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{client.process.pid}/status").read_text().splitlines())
    return int(status[which], 16)


def test_hang_ends_by_sigkill_only_and_holds_no_lock(tmp_path: Path) -> None:
    faults = [Fault("nvmlDeviceGetPowerUsage", hang=True, device="GPU-b")]
    path = Scenario([Device("GPU-a"), Device("GPU-b")], faults=faults).write(tmp_path / "scenario")
    hanging = "n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetHandleByIndex(1))"
    with Client(path) as others:
        others("n.nvmlInit()")
        others(f"__import__('threading').Thread(target=lambda: {hanging}, daemon=True).start()")
        assert others("n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetHandleByIndex(0))") == 100_000
    with Client(path) as alone:
        alone("n.nvmlInit()")
        alone.start(hanging)
        eventually(lambda: signals(alone, "SigBlk") & SIGTERM != 0)
        alone.process.send_signal(signal.SIGTERM)
        eventually(lambda: signals(alone, "ShdPnd") & SIGTERM != 0)
        assert alone.process.poll() is None
        alone.process.kill()
        assert alone.process.wait(timeout=10) == -signal.SIGKILL


def test_bad_scenario_says_where(tmp_path: Path) -> None:
    path = tmp_path / "scenario"
    path.write_text("driver 1\ndevice GPU-a\npower sawtooth 1 2\n")
    script = "import pynvml as n\ntry: n.nvmlInit()\nexcept n.NVMLError as e: print(e.value)"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **driver_environ(path)},
                          capture_output=True, text=True, check=True)
    assert done.stdout == f"{ODD}\n"
    assert done.stderr == f"nvml double: {path}:3: 'sawtooth' is no waveform: constant, square, sine or points\n"
    environ = {**os.environ, **driver_environ(path)}
    del environ["NVML_DOUBLE_SCENARIO"]
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == f"{pynvml.NVML_ERROR_DRIVER_NOT_LOADED}\n"


@pytest.mark.parametrize("line", ["power", "power constant x", "power constant 1 2", "sparkle 1", "junk 1 2 3 0",
                                  "power points 5:1 4:1", "fault f * - - 0 - explode", "present 0 1"])
def test_bad_line_spoils_the_world_until_mended(world: World, line: str) -> None:
    good = Scenario([Device("GPU-a")])
    world.use(good)
    world.path.write_text("\n".join([*good.lines(), line]))
    assert world.client.error("n.nvmlDeviceGetCount()") == ODD
    good.write(world.path)
    assert world.client("n.nvmlDeviceGetCount()") == 1


def test_many_devices_and_processes(world: World, clock: ClockFile) -> None:
    processes = [Process(pid, sm=Constant(1)) for pid in range(1, 101)]
    world.use(Scenario([Device(f"GPU-{i}", processes=processes if i < 8 else ()) for i in range(64)], clock=clock))
    assert world.client(UUIDS) == [f"GPU-{i}" for i in range(64)]
    count = "len(n.nvmlDeviceGetComputeRunningProcesses(n.nvmlDeviceGetHandleByIndex({})))"
    assert [world.client(count.format(i)) for i in (0, 7, 8, 63)] == [100, 100, 0, 0]


HAMMER = """
import sys, threading, pynvml as n
n.nvmlInit()
failures = []
def reads():
    last = {}
    for _ in range(3000):
        for i in range(n.nvmlDeviceGetCount()):
            try:
                h = n.nvmlDeviceGetHandleByIndex(i)
                uuid, shown = n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetTotalEnergyConsumption(h)
                n.nvmlDeviceGetComputeRunningProcesses(h)
            except n.NVMLError as e:
                if e.value not in (n.NVML_ERROR_INVALID_ARGUMENT, n.NVML_ERROR_GPU_IS_LOST): failures.append(e.value)
                continue
            if shown < last.get(uuid, 0): failures.append((uuid, shown, last[uuid]))
            last[uuid] = shown
threads = [threading.Thread(target=reads) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(failures)
"""


def test_threads_while_the_world_changes(tmp_path: Path) -> None:
    square = Square(100, 700, period_s=0.2)
    devices = [Device(f"GPU-{i}", power=square, processes=[Process(1)] * i) for i in range(4)]
    epoch_ns = boottime_ns() - SECOND_NS
    path = Scenario(devices, epoch_ns=epoch_ns).write(tmp_path / "scenario")
    with subprocess.Popen([sys.executable, "-c", HAMMER], env={**os.environ, **driver_environ(path)}, text=True,
                          stdout=subprocess.PIPE) as process:
        turn = 0
        while process.poll() is None:
            turn += 1
            Scenario(devices[turn % 2:], epoch_ns=epoch_ns).write(path)
            threading.Event().wait(0.005)
        assert process.stdout is not None and process.stdout.read() == "[]\n"
    assert process.returncode == 0 and turn > 5


def test_builds_at_the_same_moment(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(build, [tmp_path] * 3))
    assert len(set(folders)) == 1
    assert [file.name for file in folders[0].iterdir()] == [LIBRARY]
