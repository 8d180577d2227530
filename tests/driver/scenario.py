"""Scenarios for the driver double: written as records, and asked for the truth afterwards.

    scenario = Scenario(devices=[Device("GPU-a", power=Square(100, 700, period_s=1.7, duty=0.3),
                                        processes=[Process(pid=child.pid, sm=Constant(80))])])
    scenario.write(path)                            # atomic: a running agent sees the old or the new one
    env = {**os.environ, **driver_environ(path)}
    scenario.true_energy_mj("GPU-a", t0_ns, t1_ns)  # in closed form, on the driver's clock

Seconds (``_s``) count from ``epoch_ns`` on the driver's clock: CLOCK_BOOTTIME, or the ``clock_file`` of a ``ClockFile``.
Integer nanoseconds (``_ns``) are instants of that clock itself.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.driver.build import build, driver_environ
from tests.driver.records import GIB, Chance, Counter, Device, Instance, Junk, Process, Samples, Turn, or_dash
from tests.driver.waveform import SECOND_NS, Constant, Points, Sine, Square, Sum, Wave, ns

__all__ = [
    "GIB", "SECOND_NS", "Chance", "ClockFile", "Constant", "Counter", "Device", "Fault", "Instance",
    "Junk", "Points", "Process", "Samples", "Scenario", "Sine", "Square", "Sum", "Turn", "Wave",
    "boottime_ns", "build", "driver_environ", "ns", "true_energy_mj",
]

def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Fault:
    """What befalls calls of ``function``: an NVML error code, a hang for ever, or a delay. Delay and error may go together.

    ``nvmlX`` means every version of it, ``nvmlX_v3`` that one, ``nvmlInit`` each way to open, ``*`` all of them,
    ``nvmlDeviceGetFieldValues:186`` one field's own code. Calls are counted afresh when the file is rewritten.
    """

    function: str
    error: int | None = None
    hang: bool = False
    delay_s: float | None = None
    device: str = "*"                           # a UUID
    from_s: float | None = None                 # None: from the beginning
    to_s: float | None = None
    skip_calls: int = 0
    max_calls: int | None = None                # None: all further calls

    def lines(self) -> Iterator[str]:
        start = "-" if self.from_s is None else ns(self.from_s)
        end = "-" if self.to_s is None else ns(self.to_s)
        which = f"fault {self.function} {self.device} {start} {end} {self.skip_calls} {or_dash(self.max_calls)}"
        if self.delay_s is not None:
            yield f"{which} delay_ns {ns(self.delay_s)}"
        if self.hang:
            yield f"{which} hang"
        if self.error is not None:
            yield f"{which} error {self.error}"


class ClockFile:
    """A driver's clock that the test turns: eight bytes of nanoseconds, read by the double at each call."""

    def __init__(self, path: Path, start_ns: int = 0) -> None:
        self.path = path
        path.write_bytes(struct.pack("=q", start_ns))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    @property
    def now_ns(self) -> int:
        return int(struct.unpack("=q", self._map[:8])[0])

    def set_ns(self, instant_ns: int) -> None:
        self._map[:8] = struct.pack("=q", instant_ns)

    def advance_s(self, seconds: float) -> int:
        self.set_ns(self.now_ns + ns(seconds))
        return self.now_ns


@dataclass(frozen=True)
class Scenario:
    """A driver and its devices, in order of index."""

    devices: Sequence[Device] = ()
    faults: Sequence[Fault] = ()
    epoch_ns: int = 0                           # the waveforms' time zero; boottime_ns() for "from now on"
    clock: ClockFile | None = None              # None: CLOCK_BOOTTIME
    timestamp_offset_ns: int | None = None      # the driver's timestamps less its clock; None: makes UTC, or 0 with a clock
    enumerate_at_init: bool = False             # devices are counted once, at nvmlInit, as the real library does
    driver: str = "570.133.20"
    nvml: str = "12.570.133.20"
    cuda: int = 12080

    def lines(self) -> Iterator[str]:
        yield f"driver {self.driver}"
        yield f"nvml {self.nvml}"
        yield f"cuda {self.cuda}"
        yield f"epoch_ns {self.epoch_ns}"
        yield f"timestamp_offset_ns {or_dash(self.timestamp_offset_ns)}"
        yield f"enumerate_at_init {int(self.enumerate_at_init)}"
        if self.clock is not None:
            yield f"clock_file {self.clock.path}"
        for part in (*self.faults, *self.devices):
            yield from part.lines()

    def write(self, path: Path) -> Path:
        """Puts the scenario in force, whole: a double that reads meanwhile sees the old one or the new one."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text("\n".join(self.lines()) + "\n")
        return draft.rename(path)

    def device(self, uuid: str) -> Device:
        return next(device for device in self.devices if device.uuid == uuid)

    def true_energy_mj(self, device: Device | str, t0_ns: int, t1_ns: int) -> int:
        """Millijoules that ``device`` drew over [t0, t1) of the driver's clock."""
        found = self.device(device) if isinstance(device, str) else device
        return found.true_energy_mj(t0_ns - self.epoch_ns, t1_ns - self.epoch_ns)


def true_energy_mj(device: Device, t0_ns: int, t1_ns: int) -> int:
    """Millijoules over [t0, t1), nanoseconds after the scenario's epoch."""
    return device.true_energy_mj(t0_ns, t1_ns)
