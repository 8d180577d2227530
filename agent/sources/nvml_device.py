"""One GPU, or one MIG instance, as NVML shows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.clock import Clock
from agent.model import AccountingUse, DeviceReading, PowerSample, ProcessUse, UtilizationSample
from agent.sources import nvml
from agent.sources.nvml import Fault, Handle, Nvml
from agent.sources.nvml_gpm import Gpm
from agent.sources.nvml_use import Fresh, Passing, uses
from agent.sources.processes import ProcessTable
from agent.units import NS_PER_S

LACKING_RETRY_NS = 300 * NS_PER_S      # what a device does not support is asked again after so long
SLOW_PERIOD_NS = 60 * NS_PER_S         # the power limit changes by an administrator's hand only
RING_PERIOD_NS = 19 * NS_PER_S // 10   # to check a counter by, without average power; the shortest ring known has 2.4 s

_T = TypeVar("_T")


class Gpu:
    """A GPU, known by its UUID: its handle and index may change under it. Remembers what it lacks, so that a tick asks
    only what is answered."""

    def __init__(self, driver: Nvml, clock: Clock, uuid: str, name: str, runtime: RuntimeStatus) -> None:
        self.uuid, self.name, self.index = uuid, name, -1
        self.handle: Handle | None = None
        self.mig = False
        self.lost = False                                  # the last read says so
        self._driver, self._clock, self._runtime = driver, clock, runtime
        self._lacking: dict[str, tuple[int, str]] = {}     # field -> when to ask again, NVML's text
        self._limit_mw: int | None = None
        self._limit_error: dict[str, str] = {}
        self._slow_until_ns = self._mig_retry_ns = -1
        self._ring_ns = -1
        self._utilization, self._power = Fresh(clock), Fresh(clock)
        self._passing = Passing(driver, clock)
        self._gpm = Gpm(driver)
        self._instance_gpm: dict[str, Gpm] = {}
        self._away = ""

    def attach(self, handle: Handle, index: int) -> None:
        """The driver shows this GPU under that handle now."""
        self.handle, self.index, self.lost = handle, index, False
        self._slow_until_ns = self._mig_retry_ns = -1
        self._gpm.forget()
        for gpm in self._instance_gpm.values():
            gpm.forget()

    def detach(self, why: str) -> None:
        """The driver does not show this GPU now, and why."""
        self.handle, self._away = None, why

    def close(self) -> None:
        self._runtime.close()
        for gpm in (self._gpm, *self._instance_gpm.values()):
            gpm.close()

    def read(self, processes: ProcessTable) -> list[DeviceReading]:
        """This GPU and, where it is divided, each of its instances. Never raises Fault: a failure is in the reading."""
        if self.handle is None:
            return [self._failed(self._away)]
        if self._runtime.suspended():
            asleep = "suspended by runtime power management, and not woken"
            return [DeviceReading(
                uuid=self.uuid, index=self.index, name=self.name, boottime_ns=self._clock.boottime_ns(),
                power_limit_mw=self._limit_mw, processes=(), errors={"energy_mj": asleep, "power_mw": asleep})]
        try:
            return [self._whole(self.handle, processes), *self._instances(self.handle, processes)]
        except Fault as fault:
            self.lost = fault.code != nvml.NOT_SUPPORTED
            return [self._failed(str(fault))]

    def _failed(self, why: str) -> DeviceReading:
        return DeviceReading(uuid=self.uuid, index=self.index, name=self.name,
                             boottime_ns=self._clock.boottime_ns(), failed=why)

    def _whole(self, handle: Handle, processes: ProcessTable) -> DeviceReading:
        """Raises Fault when the GPU is lost, or answers nothing at all."""
        driver, asked = self._driver, _Asked(self._lacking, self._clock.monotonic_ns())
        if asked.now_ns >= self._slow_until_ns:
            self._slow_until_ns = asked.now_ns + SLOW_PERIOD_NS
            self._limit_mw = asked("power_limit_mw", driver.power_limit_mw, handle)
            self._passing.look(handle)
            self._limit_error = asked.errors.copy()
        asked.errors.update(self._limit_error)
        self.mig = self._divided(handle, asked.now_ns)
        before_ns = self._clock.boottime_ns()
        energy_mj = asked("energy_mj", driver.energy_mj, handle)
        power_mw = asked("power_mw", driver.power_mw, handle)
        after_ns = self._clock.boottime_ns()
        if power_mw is not None and self._limit_mw is not None and power_mw > self._limit_mw:
            self._limit_mw = asked("power_limit_mw", driver.power_limit_mw, handle)      # it has been raised
        fields = _PowerFields(driver)
        average_mw = asked("power_average_mw", fields.average_mw, handle)
        instant_mw = asked("power_instant_mw", fields.instant_mw, handle)
        percent = asked("utilization_ratio", driver.utilization_percent, handle)
        memory = asked("memory_used_bytes", driver.memory_bytes, handle)
        celsius = asked("temperature_celsius", driver.temperature_celsius, handle)
        listed: tuple[ProcessUse, ...] | None = ()         # a divided GPU's processes are on its instances
        utilization: tuple[UtilizationSample, ...] = ()
        passed: tuple[ProcessUse, ...] = ()
        accounting: tuple[AccountingUse, ...] = ()
        sm_ratio: float | None = None
        if not self.mig:
            listed = asked("processes", lambda h: uses(driver.processes(h), processes), handle)
            utilization = asked(
                "utilization_samples", lambda h: self._utilization.of(driver.utilization_samples, h), handle) or ()
            passed, accounting = self._passing.of(handle, listed or (), utilization, processes)
            sm_ratio = asked("gpm_sm_ratio", self._gpm.sm_ratio, handle)
        power_samples: tuple[PowerSample, ...] = ()
        if "energy_mj" in self._lacking or ("power_average_mw" in self._lacking and asked.now_ns >= self._ring_ns):
            self._ring_ns = asked.now_ns + RING_PERIOD_NS
            power_samples = asked("power_samples", lambda h: self._power.of(driver.power_samples, h), handle) or ()
        asked.raise_if_dead()
        return DeviceReading(
            uuid=self.uuid, index=self.index, name=self.name, boottime_ns=(before_ns + after_ns) // 2,
            energy_mj=energy_mj, power_mw=power_mw, power_average_mw=average_mw, power_instant_mw=instant_mw,
            power_limit_mw=self._limit_mw,
            utilization_ratio=None if percent is None else percent / 100,
            memory_used_bytes=memory[0] if memory else None, memory_total_bytes=memory[1] if memory else None,
            temperature_celsius=celsius, processes=listed, power_samples=power_samples,
            mig_slices=asked("mig_slices", driver.mig_most, handle) if self.mig else None,
            utilization_samples=utilization, passed=passed, accounting=accounting, gpm_sm_ratio=sm_ratio,
            errors=asked.errors)

    def _divided(self, handle: Handle, now_ns: int) -> bool:
        """Whether the GPU is in MIG mode now. Asked in every look: from Hopper on that may change while work goes on."""
        if now_ns < self._mig_retry_ns:
            return False
        try:
            return self._driver.mig_enabled(handle)
        except Fault as fault:
            if fault.code == nvml.GPU_IS_LOST:
                raise
            if fault.code not in nvml.LACKING:
                return self.mig                            # it failed to say so, this once
            self._mig_retry_ns = now_ns + LACKING_RETRY_NS
            return False

    def _instances(self, handle: Handle, processes: ProcessTable) -> list[DeviceReading]:
        """MIG instances: memory and processes of their own. Their energy is the whole GPU's, and is not repeated."""
        if not self.mig:
            return []
        readings: list[DeviceReading] = []
        known, self._instance_gpm = self._instance_gpm, {}
        for instance in self._driver.mig_handles(handle):
            asked = _Asked({}, 0)
            uuid = asked("uuid", self._driver.uuid, instance)
            if uuid is None:                               # destroyed since it was listed
                continue
            name = asked("name", self._driver.name, instance)
            memory = asked("memory_used_bytes", self._driver.memory_bytes, instance)
            gpm = self._instance_gpm[uuid] = known.pop(uuid) if uuid in known else Gpm(self._driver)
            readings.append(DeviceReading(
                uuid=uuid, index=self.index, name=name or self.name, boottime_ns=self._clock.boottime_ns(),
                parent_uuid=self.uuid, mig_slices=asked("mig_slices", self._driver.mig_slices, instance),
                memory_used_bytes=memory[0] if memory else None, memory_total_bytes=memory[1] if memory else None,
                processes=asked("processes", lambda h: uses(self._driver.processes(h), processes), instance),
                gpm_sm_ratio=self._instance_sm_ratio(handle, instance, gpm), errors=asked.errors))
        for gpm in known.values():                         # instances that are no more
            gpm.close()
        return readings

    def _instance_sm_ratio(self, handle: Handle, instance: Handle, gpm: Gpm) -> float | None:
        """None also where the GPU has no GPM: the shared lack is remembered for all of its instances."""
        asked = _Asked(self._lacking, self._clock.monotonic_ns())
        return asked("mig_gpm", lambda h: gpm.sm_ratio(h, self._driver.mig_gpu_instance(instance)), handle)


class _PowerFields:
    """Average and instantaneous power: both by one question, asked when the first of them is wanted."""

    def __init__(self, driver: Nvml) -> None:
        self._driver = driver
        self._found: tuple[int | Fault, int | Fault] | None = None

    def average_mw(self, handle: Handle) -> int:
        return self._field(handle, 0)

    def instant_mw(self, handle: Handle) -> int:
        return self._field(handle, 1)

    def _field(self, handle: Handle, place: int) -> int:
        if self._found is None:
            self._found = self._driver.power_fields_mw(handle)
        found = self._found[place]
        if isinstance(found, Fault):
            raise found
        return found


class _Asked:
    """The questions of one look at one device, and what became of them."""

    def __init__(self, lacking: dict[str, tuple[int, str]], now_ns: int) -> None:
        self.errors: dict[str, str] = {}
        self.now_ns = now_ns
        self._lacking = lacking
        self._answers = 0
        self._hard: Fault | None = None

    def __call__(self, field: str, question: Callable[[Handle], _T], handle: Handle) -> _T | None:
        known = self._lacking.get(field)
        if known is not None and self.now_ns < known[0]:
            self.errors[field] = known[1]
            return None
        try:
            answer = question(handle)
        except Fault as fault:
            if fault.code == nvml.GPU_IS_LOST:
                raise
            self.errors[field] = str(fault)
            if fault.code in nvml.LACKING:
                self._lacking[field] = (self.now_ns + LACKING_RETRY_NS, str(fault))
            else:
                self._hard = self._hard or fault
            return None
        if known is not None:
            del self._lacking[field]
        self._answers += 1
        return answer

    def raise_if_dead(self) -> None:
        """Raises the first hard Fault when nothing at all was answered."""
        if self._answers == 0 and self._hard is not None:
            raise self._hard


class RuntimeStatus:
    """Whether the kernel has put a PCI device to sleep (power/runtime_status): any NVML call would wake it."""

    def __init__(self, sysfs: Path, address: str) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.open(sysfs / "bus/pci/devices" / address / "power/runtime_status",
                                       os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return                                         # no such file: it does not sleep

    def suspended(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            return os.pread(self._descriptor, 32, 0).startswith(b"suspended")
        except OSError:
            return False                                   # the device is gone; NVML will say so

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
