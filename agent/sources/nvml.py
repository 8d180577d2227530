"""NVML through its C ABI: the only module that imports pynvml, and the one boundary where its errors become ours.

pynvml loads the library and names its functions; the calls below go to the C functions themselves with arrays that stay
allocated, because pynvml builds a Python object of every field of every process, several milliseconds a tick.
Numbers, layouts and error codes are those of nvml.h.
"""

from __future__ import annotations

import os
import struct
from ctypes import Array, byref, c_char, c_uint, c_ulonglong, c_void_p, create_string_buffer
from typing import Any

import pynvml

from agent.errors import SourceError
from agent.model import PowerSample, UtilizationSample

Handle = c_void_p

SUCCESS = pynvml.NVML_SUCCESS
UNINITIALIZED = pynvml.NVML_ERROR_UNINITIALIZED
INVALID_ARGUMENT = pynvml.NVML_ERROR_INVALID_ARGUMENT
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND
INSUFFICIENT_SIZE = pynvml.NVML_ERROR_INSUFFICIENT_SIZE
FUNCTION_NOT_FOUND = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST
LACKING = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND})           # this device or library will not answer soon

_NOT_AVAILABLE = 2**64 - 1                                         # NVML_VALUE_NOT_AVAILABLE
_PROCESS = struct.Struct("=I4xQII")                                # nvmlProcessInfo_t, second and third version
_PROCESS_V1 = struct.Struct("=I4xQ")
_UTILIZATION = struct.Struct("=I4xQIIII")                          # nvmlProcessUtilizationSample_t
_SAMPLE = struct.Struct("=QI4x")                                   # nvmlSample_t, its value read as unsigned int
_UUID_BYTES, _NAME_BYTES, _VERSION_BYTES = 96, 96, 80
_LISTS = (("compute", "nvmlDeviceGetComputeRunningProcesses"),
          ("mps", "nvmlDeviceGetMPSComputeRunningProcesses"),
          ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"))


class Fault(Exception):
    """One NVML call that failed: its code, and NVML's own text for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return str(pynvml.NVMLError(self.code))


class Nvml:
    """The library. Every method is one question to the driver and raises Fault where the driver does not answer it."""

    def __init__(self) -> None:
        self.driver_version = ""
        self._uint = c_uint()
        self._uint_ref = byref(self._uint)
        self._long = c_ulonglong()
        self._long_ref = byref(self._long)
        self._rates = pynvml.c_nvmlUtilization_t()
        self._memory = pynvml.c_nvmlMemory_t()
        self._memory_v2 = pynvml.c_nvmlMemory_v2_t()
        self._fields = (pynvml.c_nvmlFieldValue_t * 2)()
        self._gpm: Array[c_char] | None = None
        self._buffer: Array[c_char] = create_string_buffer(64 * _UTILIZATION.size)
        self._process_versions = {name: ["_v3", "_v2", ""] for _, name in _LISTS}

    def open(self) -> None:
        """Load the library and connect to the driver. Raises SourceError with the sentence for the operator."""
        try:
            pynvml.nvmlInit()
            version = create_string_buffer(_VERSION_BYTES)
            self.call("nvmlSystemGetDriverVersion", version, c_uint(_VERSION_BYTES))
        except pynvml.NVMLError as error:
            raise SourceError(_why_closed(error.value)) from None
        except Fault as fault:
            raise SourceError(_why_closed(fault.code)) from None
        self.driver_version = version.value.decode("utf-8", "replace")
        if self.driver_version.startswith("535."):
            # The first releases of this branch return a longer row from the third version; the second has ever been right.
            for versions in self._process_versions.values():
                versions[:] = ["_v2", ""]

    def close(self) -> None:
        """Disconnect from the driver. Never raises: there is nobody to tell."""
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return

    def count(self) -> int:
        return self._unsigned("nvmlDeviceGetCount_v2")

    def handle(self, index: int) -> Handle:
        found = c_void_p()
        self.call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(found))
        return found

    def uuid(self, handle: Handle) -> str:
        return self._text("nvmlDeviceGetUUID", handle, _UUID_BYTES)

    def name(self, handle: Handle) -> str:
        return self._text("nvmlDeviceGetName", handle, _NAME_BYTES)

    def pci_address(self, handle: Handle) -> str:
        """As sysfs writes it: 0000:3b:00.0."""
        info = pynvml.nvmlPciInfo_t()
        self.call("nvmlDeviceGetPciInfo_v3", handle, byref(info))
        domain, _, rest = info.busId.lower().partition(":")
        return f"{domain[-4:]}:{rest}"

    def energy_mj(self, handle: Handle) -> int:
        self.call("nvmlDeviceGetTotalEnergyConsumption", handle, self._long_ref)
        return self._long.value

    def power_mw(self, handle: Handle) -> int:
        return self._unsigned("nvmlDeviceGetPowerUsage", handle)

    def power_limit_mw(self, handle: Handle) -> int:
        return self._unsigned("nvmlDeviceGetEnforcedPowerLimit", handle)

    def power_fields_mw(self, handle: Handle) -> tuple[int | Fault, int | Fault]:
        """(average of the last second, instantaneous), by one question."""
        for field, number in zip(self._fields, (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT),
                                 strict=True):
            field.fieldId, field.scopeId = number, 0
        self.call("nvmlDeviceGetFieldValues", handle, 2, self._fields)
        average, instant = (
            int(field.value.uiVal) if field.nvmlReturn == SUCCESS else Fault(field.nvmlReturn) for field in self._fields)
        return average, instant

    def utilization_percent(self, handle: Handle) -> int:
        self.call("nvmlDeviceGetUtilizationRates", handle, byref(self._rates))
        return int(self._rates.gpu)

    def temperature_celsius(self, handle: Handle) -> int:
        return self._unsigned("nvmlDeviceGetTemperature", handle, pynvml.NVML_TEMPERATURE_GPU)

    def memory_bytes(self, handle: Handle) -> tuple[int, int]:
        """(used, total), without what the driver keeps for itself where the second version tells it apart."""
        self._memory_v2.version = pynvml.nvmlMemory_v2
        try:
            self.call("nvmlDeviceGetMemoryInfo_v2", handle, byref(self._memory_v2))
        except Fault as fault:
            if fault.code not in LACKING and fault.code != INVALID_ARGUMENT:
                raise
        else:
            return self._memory_v2.used, self._memory_v2.total
        self.call("nvmlDeviceGetMemoryInfo", handle, byref(self._memory))
        return self._memory.used, self._memory.total

    def processes(self, handle: Handle) -> dict[int, tuple[int | None, str]]:
        """PID to (memory in bytes or None, kind). Who is on several lists is on the first: compute, mps, graphics.

        A list that the device does not have is empty; Fault where it has none of them, or any fails otherwise.
        """
        found: dict[int, tuple[int | None, str]] = {}
        lacking: Fault | None = None
        answered = False
        for kind, name in _LISTS:
            try:
                rows = self._process_rows(name, handle)
            except Fault as fault:
                if fault.code not in LACKING:
                    raise
                lacking = fault
                continue
            answered = True
            for pid, memory, *_ in rows:
                if pid and pid not in found:
                    found[pid] = (None if memory == _NOT_AVAILABLE else memory, kind)
        if lacking is not None and not answered:
            raise lacking
        return found

    def utilization_samples(self, handle: Handle, newer_than_us: int) -> tuple[UtilizationSample, ...]:
        """Rows newer than that. The driver fills unused rows with leftovers: those past 100 % or older are none."""
        try:
            size = self._rows("nvmlDeviceGetProcessUtilization", _UTILIZATION.size,
                              lambda fn, rows, count: fn(handle, rows, count, c_ulonglong(newer_than_us)))
        except Fault as fault:
            if fault.code == NOT_FOUND:
                return ()
            raise
        return tuple(UtilizationSample(pid, at_us, sm)
                     for pid, at_us, sm, *_ in _UTILIZATION.iter_unpack(memoryview(self._buffer)[:size])
                     if pid and at_us > newer_than_us and sm <= 100)

    def power_samples(self, handle: Handle, newer_than_us: int) -> tuple[PowerSample, ...]:
        """The driver's power ring, oldest first, each time once."""
        kind = c_uint()
        arguments = (handle, pynvml.NVML_TOTAL_POWER_SAMPLES, c_ulonglong(newer_than_us), byref(kind), self._uint_ref)
        try:
            self.call("nvmlDeviceGetSamples", *arguments, None)           # the ring's size: a short buffer is an error
            rows = create_string_buffer(max(1, self._uint.value) * _SAMPLE.size)
            self.call("nvmlDeviceGetSamples", *arguments, rows)
        except Fault as fault:
            if fault.code == NOT_FOUND:
                return ()
            raise
        size = min(self._uint.value * _SAMPLE.size, len(rows))
        by_time = {at_us: mw for at_us, mw in _SAMPLE.iter_unpack(memoryview(rows)[:size])
                   if at_us > newer_than_us}
        return tuple(PowerSample(at_us, by_time[at_us]) for at_us in sorted(by_time))

    def mig_enabled(self, handle: Handle) -> bool:
        pending = c_uint()
        self.call("nvmlDeviceGetMigMode", handle, self._uint_ref, byref(pending))
        return bool(self._uint.value == pynvml.NVML_DEVICE_MIG_ENABLE)

    def mig_most(self, handle: Handle) -> int:
        """How many instances there can be: of one compute slice each, so also how many slices the GPU has."""
        return self._unsigned("nvmlDeviceGetMaxMigDeviceCount", handle)

    def mig_handles(self, handle: Handle) -> list[Handle]:
        """The instances that exist now."""
        handles = []
        for index in range(self.mig_most(handle)):
            found = c_void_p()
            try:
                self.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, c_uint(index), byref(found))
            except Fault as fault:
                if fault.code not in (NOT_FOUND, INVALID_ARGUMENT):
                    raise
            else:
                handles.append(found)
        return handles

    def mig_gpu_instance(self, handle: Handle) -> int:
        """The id by which the parent knows an instance."""
        return self._unsigned("nvmlDeviceGetGpuInstanceId", handle)

    def accounting_enabled(self, handle: Handle) -> bool:
        return self._unsigned("nvmlDeviceGetAccountingMode", handle) == 1

    def gpm_buffer(self, size: int) -> Array[c_char]:
        """Room for one question about GPM, shared by all devices."""
        if self._gpm is None:
            self._gpm = create_string_buffer(size)
        return self._gpm

    def mig_slices(self, handle: Handle) -> int:
        attributes = pynvml.c_nvmlDeviceAttributes()
        self.call("nvmlDeviceGetAttributes_v2", handle, byref(attributes))
        return int(attributes.computeInstanceSliceCount)

    def _process_rows(self, name: str, handle: Handle) -> Any:
        versions = self._process_versions[name]
        while True:
            layout = _PROCESS if versions[0] else _PROCESS_V1
            try:
                size = self._rows(name + versions[0], layout.size, lambda fn, rows, count: fn(handle, count, rows))
            except Fault as fault:
                if fault.code != FUNCTION_NOT_FOUND or len(versions) == 1:
                    raise
                del versions[0]                            # an older library: it stays so while it is loaded
            else:
                return layout.iter_unpack(memoryview(self._buffer)[:size])

    def _rows(self, name: str, row_bytes: int, ask: Any) -> int:
        """Bytes of rows put into the buffer, which grows to what the driver says it needs."""
        fn = _function(name)
        for _ in range(5):
            room = len(self._buffer) // row_bytes
            self._uint.value = room
            code = ask(fn, self._buffer, self._uint_ref)
            if code == SUCCESS:
                return min(self._uint.value, room) * row_bytes
            if code != INSUFFICIENT_SIZE:
                raise Fault(code)
            needed = max(self._uint.value + 16, 2 * room)  # more may come between the two calls
            self._buffer = create_string_buffer(needed * row_bytes)
        raise Fault(INSUFFICIENT_SIZE)

    def _unsigned(self, name: str, *arguments: Any) -> int:
        code = _function(name)(*arguments, self._uint_ref)
        if code != SUCCESS:
            raise Fault(code)
        return self._uint.value

    def _text(self, name: str, handle: Handle, size: int) -> str:
        buffer = create_string_buffer(size)
        self.call(name, handle, buffer, c_uint(size))
        return buffer.value.decode("utf-8", "replace")

    def call(self, name: str, *arguments: Any) -> None:
        """One C function by its name; raises Fault unless it succeeds."""
        code = _function(name)(*arguments)
        if code != SUCCESS:
            raise Fault(code)


def _function(name: str) -> Any:
    try:
        return pynvml._nvmlGetFunctionPointer(name)
    except pynvml.NVMLError as error:
        raise Fault(error.value) from None


def _why_closed(code: int) -> str:
    """One sentence for the operator: what is wrong, and what to do."""
    if code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return ("no NVIDIA driver found: libnvidia-ml.so.1 cannot be loaded; install the NVIDIA driver, or start with "
                "--source simulated to see the agent work on simulated GPUs")
    if code == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return ("the NVIDIA kernel driver is not loaded: load it with 'modprobe nvidia' and see 'dmesg' if that fails, or "
                "start with --source simulated to see the agent work on simulated GPUs")
    if code == pynvml.NVML_ERROR_NO_PERMISSION:
        return (f"no permission to talk to the NVIDIA driver as user {os.geteuid()}: let that user read and write "
                "/dev/nvidiactl and /dev/nvidia* (their group, or DeviceAllow= in the systemd unit)")
    if code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return ("the NVIDIA library and the loaded kernel module have different versions, as after a driver upgrade: "
                "reboot, or stop every GPU program and reload the module with 'rmmod nvidia' and 'modprobe nvidia'")
    return (f"NVML cannot be opened: {Fault(code)} (code {code}); see whether 'nvidia-smi' works on this machine, or start "
            "with --source simulated")

