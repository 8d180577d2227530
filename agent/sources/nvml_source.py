"""The machine's NVIDIA GPUs as a source of readings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.clock import Clock, SystemClock
from agent.errors import SourceError
from agent.model import DeviceReading, ProcessCpu, Reading
from agent.sources import nvml
from agent.sources.host import Host
from agent.sources.nvml import Fault, Nvml
from agent.sources.nvml_device import Gpu, RuntimeStatus
from agent.sources.processes import ProcessTable
from agent.sources.procfs import DEFAULT_ENVIRON, Procfs
from agent.units import NS_PER_S

CPU_PERIOD_NS = 10 * NS_PER_S            # between two looks at the CPU time of the processes on devices


class NvmlSource:
    """Reads every GPU through NVML, matched by UUID whatever its index.

    Options: ``environ``, variable names or prefixes* that may be read of processes; ``procfs`` and ``sysfs``, where they
    are mounted; ``look_s``, how often lost GPUs are looked for, and sysfs for new ones; ``reconnect_s``, how often NVML
    is closed and opened again while a GPU is missing, for only then does it look for new ones.
    """

    def __init__(self, options: Mapping[str, Any], clock: Clock | None = None,
                 warn: Callable[[str], None] | None = None) -> None:
        procfs = Path(options.get("procfs", "/proc"))
        self._sysfs = Path(options.get("sysfs", "/sys"))
        self._look_period_ns = int(float(options.get("look_s", 5)) * NS_PER_S)
        self._reconnect_ns = int(float(options.get("reconnect_s", 60)) * NS_PER_S)
        self._clock = clock or SystemClock()
        self._warn = warn or _to_stderr
        self._driver = Nvml()
        self._processes = ProcessTable(Procfs(procfs, options.get("environ", DEFAULT_ENVIRON)))
        self._host = Host(self._sysfs)
        self._boot_id = (procfs / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._session = ""
        self._open = False
        self._gpus: dict[str, Gpu] = {}
        self._silent: dict[int, str] = {}                  # index -> why a GPU that never told its UUID does not
        self._count = 0
        self._bound: frozenset[str] = frozenset()
        self._look_ns = self._connected_ns = self._cpu_ns = 0

    def open(self) -> None:
        self._driver.open()
        self._open = True
        self._session = os.urandom(8).hex()
        self._connected_ns = self._look_ns = self._clock.monotonic_ns()
        self._bound = self._bound_devices()
        self._enumerate()
        if not self._count:
            self._warn("the NVIDIA driver is loaded but shows no GPU; waiting for one")

    def read(self, sequence: int) -> Reading:
        self._follow_changes()
        self._processes.begin()
        devices: list[DeviceReading] = []
        for gpu in self._gpus.values():
            devices += gpu.read(self._processes)
        for index, why in self._silent.items():
            devices.append(DeviceReading(uuid=f"GPU-unknown-{index}", index=index, name="",
                                         boottime_ns=self._clock.boottime_ns(), failed=why))
        started = self._processes.finish()
        cpu: tuple[ProcessCpu, ...] = ()
        if self._clock.monotonic_ns() - self._cpu_ns >= CPU_PERIOD_NS:
            self._cpu_ns, cpu = self._clock.monotonic_ns(), self._processes.cpu()
        return Reading(
            session=self._session, sequence=sequence, boot_id=self._boot_id, boottime_ns=self._clock.boottime_ns(),
            monotonic_ns=self._clock.monotonic_ns(), utc_ns=self._clock.utc_ns(),
            driver_version=self._driver.driver_version, devices=tuple(devices), started=started,
            host=self._host.read(), process_cpu=cpu)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._driver.close()
            self._processes.close()
            for gpu in self._gpus.values():
                gpu.close()
            self._gpus.clear()

    def _follow_changes(self) -> None:
        """Enumerate again when the count has changed or a GPU is lost; reconnect where only that can show new ones."""
        now_ns = self._clock.monotonic_ns()
        try:
            changed = self._driver.count() != self._count
        except Fault as fault:
            if fault.code == nvml.UNINITIALIZED:
                raise SourceError("the NVIDIA driver has dropped the connection") from None
            changed = False                                # the GPUs that are known may answer all the same
        if now_ns - self._look_ns >= self._look_period_ns:
            self._look_ns = now_ns
            bound = self._bound_devices()
            missing = not self._gpus or self._silent or any(g.lost or g.handle is None for g in self._gpus.values())
            if bound != self._bound or (missing and now_ns - self._connected_ns >= self._reconnect_ns):
                self._bound, self._connected_ns = bound, now_ns
                self._driver.close()
                self._driver.open()
                changed = True
            changed = changed or bool(missing)
        if changed:
            self._enumerate()

    def _enumerate(self) -> None:
        """Ask for every index anew: the UUID says which GPU it is, a changed index or handle is taken over."""
        try:
            self._count = self._driver.count()
        except Fault as fault:
            raise SourceError(f"NVML does not tell how many GPUs there are: {fault}") from None
        silent: dict[int, str] = {}
        absent = set(self._gpus)
        for index in range(self._count):
            try:
                handle = self._driver.handle(index)
                uuid = self._driver.uuid(handle)
            except Fault as fault:
                silent[index] = str(fault)
                continue
            absent.discard(uuid)
            gpu = self._gpus.get(uuid)
            if gpu is None:
                gpu = self._gpus[uuid] = self._new_gpu(uuid, handle)
            gpu.attach(handle, index)
        for uuid in absent:                                # lost: its index, if it still has one, tells why
            gpu = self._gpus[uuid]
            gpu.detach(silent.pop(gpu.index, "") or "the driver does not list this GPU any more")
        for index, why in silent.items():
            if index not in self._silent:
                self._warn(f"the GPU at index {index} does not tell its UUID: {why}")
        self._silent = silent
        self._gpus = dict(sorted(self._gpus.items(), key=lambda item: (item[1].handle is None, item[1].index)))

    def _new_gpu(self, uuid: str, handle: nvml.Handle) -> Gpu:
        try:
            name = self._driver.name(handle)
        except Fault:
            name = ""
        try:
            address = self._driver.pci_address(handle)
        except Fault:
            address = "unknown"
        return Gpu(self._driver, self._clock, uuid, name, RuntimeStatus(self._sysfs, address))

    def _bound_devices(self) -> frozenset[str]:
        """PCI addresses that the kernel driver holds: a new one is a GPU that NVML does not show until it is reopened."""
        try:
            return frozenset(path.name for path in (self._sysfs / "bus/pci/drivers/nvidia").iterdir()
                             if ":" in path.name)
        except OSError:
            return frozenset()


def _to_stderr(sentence: str) -> None:
    print(f'level=warning component=probe msg="{sentence}"', file=sys.stderr, flush=True)
