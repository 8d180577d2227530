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
from dataclasses import dataclass, field
from pathlib import Path

from tests.driver.build import build, driver_environ
from tests.driver.waveform import SECOND_NS, Constant, Points, Sine, Square, Sum, Wave, ns

__all__ = [
    "SECOND_NS", "Chance", "ClockFile", "Constant", "Counter", "Device", "Fault", "Instance", "Junk", "Points", "Process",
    "Samples", "Scenario", "Sine", "Square", "Sum", "Turn", "Wave", "boottime_ns", "build", "driver_environ",
    "true_energy_mj",
]

Window = tuple[float, float | None]             # seconds, half open; None: for ever
KINDS = {"compute": 0, "graphics": 1, "mps": 2}
MILLI = 1000
GIB = 1 << 30


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _span(window: Window) -> str:
    return f"{ns(window[0])} {'-' if window[1] is None else ns(window[1])}"


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


@dataclass(frozen=True)
class Chance:
    """Busy (100 %) in each sample with probability ``p``, drawn for this process alone; same seed, same samples."""

    p: float


@dataclass(frozen=True)
class Turn:
    """Busy in samples whose one draw per device falls in [low, high): turns of one device never overlap."""

    low: float
    high: float


@dataclass(frozen=True)
class Process:
    """A process on a device, there in its ``windows`` (always, when there are none)."""

    pid: int
    sm: Wave | Chance | Turn = field(default_factory=lambda: Constant(0))
    memory_bytes: int | None = GIB              # None: the driver cannot say
    kind: str = "compute"                       # compute, graphics, mps
    windows: Sequence[Window] = ()
    mem: Wave | None = None
    enc: Wave | None = None
    dec: Wave | None = None
    gpu_instance: int | None = None             # under MIG
    compute_instance: int | None = None
    accounting: bool = False

    def lines(self) -> Iterator[str]:
        yield f"process {self.pid}"
        yield f"kind {KINDS[self.kind]}"
        yield f"memory_bytes {_or_dash(self.memory_bytes)}"
        yield f"accounting {int(self.accounting)}"
        if self.gpu_instance is not None:
            yield f"gpu_instance {self.gpu_instance}"
            yield f"compute_instance {self.compute_instance or 0}"
        yield from (f"present {_span(window)}" for window in self.windows)
        if isinstance(self.sm, Chance):
            yield f"chance {self.pid} 0 {round(self.sm.p * 1e6)}"
        elif isinstance(self.sm, Turn):
            yield f"chance 0 {round(self.sm.low * 1e6)} {round(self.sm.high * 1e6)}"
        for key, wave in (("sm", self.sm), ("mem", self.mem), ("enc", self.enc), ("dec", self.dec)):
            if isinstance(wave, Wave):
                yield from (f"{key} {text}" for text in wave.texts(1))


@dataclass(frozen=True)
class Counter:
    """The energy counter: what it shows moves at multiples of ``update_s`` only."""

    update_s: float = 0.1
    offset_mj: int = 0
    resets: Sequence[float] = ()                            # back to 0 at these instants
    jumps: Sequence[tuple[float, int]] = ()                 # from an instant on, so many mJ more (or less)
    freezes: Sequence[Window] = ()                          # stands still, then catches up
    falls: Sequence[tuple[float, float, int]] = ()          # in [from, to) counts from a lower mJ value, then recovers

    def lines(self) -> Iterator[str]:
        yield "counter 1"
        yield f"counter_update_ns {ns(self.update_s)}"
        yield f"counter_offset_mj {self.offset_mj}"
        yield from (line for _, line in sorted([
            *((at_s, f"counter_reset {ns(at_s)}") for at_s in self.resets),
            *((at_s, f"counter_jump {ns(at_s)} {add_mj}") for at_s, add_mj in self.jumps)]))
        yield from (f"counter_freeze {_span(window)}" for window in self.freezes)
        yield from (f"counter_fall {ns(a)} {ns(b)} {level}" for a, b, level in self.falls)


@dataclass(frozen=True)
class Samples:
    """The driver's buffered power samples: every ``period_s``, the last ``depth``; mean over ``window_s``, 0 = instant."""

    period_s: float = 0.1
    depth: int = 100
    window_s: float = 0.0


@dataclass(frozen=True)
class Junk:
    """Beside every ``every``-th sample of process utilization: a row that no one should believe."""

    pid: int
    sm: int = 4_294_967_295
    age_s: float = 0.0                          # how far its timestamp lies behind the sample's
    every: int = 1


@dataclass(frozen=True)
class Instance:
    """A MIG slice (GPU instance and compute instance) with a device handle of its own."""

    uuid: str
    profile: str = "1g.10gb"
    gpu_instance: int = 1
    compute_instance: int = 0
    gpu_slices: int = 1
    compute_slices: int = 1
    multiprocessors: int = 16
    memory_total_bytes: int = 10 * GIB
    memory_used_bytes: int | None = None        # None: the sum over its processes
    windows: Sequence[Window] = ()

    def lines(self) -> Iterator[str]:
        yield f"instance {self.uuid}"
        yield f"name {self.profile}"
        for key in ("gpu_instance", "compute_instance", "gpu_slices", "compute_slices", "multiprocessors",
                    "memory_total_bytes", "memory_used_bytes"):
            yield f"{key} {_or_dash(getattr(self, key))}"
        yield from (f"present {_span(window)}" for window in self.windows)


@dataclass(frozen=True)
class Device:
    """One GPU. ``None`` for ``power``, ``counter``, ``samples`` or ``limit_w``: the driver does not support it."""

    uuid: str
    power: Wave | None = field(default_factory=lambda: Constant(100))
    processes: Sequence[Process] = ()
    name: str = "NVIDIA H100 80GB HBM3"
    counter: Counter | None = field(default_factory=Counter)
    samples: Samples | None = field(default_factory=Samples)
    power_window_s: float = 1.0                 # nvmlDeviceGetPowerUsage is the mean over this; 0 = instant
    power_update_s: float = 0.0                 # power readings move at multiples of this
    instant_power: bool = True                  # NVML_FI_DEV_POWER_INSTANT
    limit_w: float | None = 700.0
    utilization: Wave = field(default_factory=lambda: Constant(0))
    memory_utilization: Wave = field(default_factory=lambda: Constant(0))
    memory_total_bytes: int = 80 * GIB
    memory_used_bytes: int | None = None        # None: the sum over its processes
    memory_reserved_bytes: int = 0
    temperature_c: int = 40
    use_period_s: float = 1 / 6                 # of per-process utilization samples; 0 = not supported
    use_depth: int = 96
    use_empty_success: bool = False             # nothing newer: an empty success instead of NOT_FOUND
    use_summary: bool = False                   # one row a process: its newest busy sample
    junk: Sequence[Junk] = ()
    accounting: bool = False
    mig: bool = False
    mig_max: int = 7                            # 0: MIG is not supported
    mig_repeats_parent: bool = False            # power and energy of a slice answer with the whole GPU's
    instances: Sequence[Instance] = ()
    absent: Sequence[Window] = ()               # off the count, its handles lost
    lost: Sequence[Window] = ()                 # counted, every call NVML_ERROR_GPU_IS_LOST
    pci: str | None = None                      # 00000000:1B:00.0; default from the place in the list
    minor: int | None = None
    serial: str | None = None
    architecture: int = 9
    brand: int = 14
    cuda_capability: tuple[int, int] = (9, 0)
    persistence: bool = True
    pstate: int = 0
    seed: int = 0

    def true_energy_mj(self, t0_ns: int, t1_ns: int) -> int:
        """Millijoules over [t0, t1), nanoseconds after the epoch. Adjoining intervals add up without loss."""
        if self.power is None:
            return 0
        return (self.power.between(0, t1_ns, MILLI) // SECOND_NS) - (self.power.between(0, t0_ns, MILLI) // SECOND_NS)

    def lines(self) -> Iterator[str]:
        yield f"device {self.uuid}"
        yield f"name {self.name}"
        for key in ("memory_total_bytes", "memory_used_bytes", "memory_reserved_bytes", "temperature_c", "use_depth",
                    "mig_max", "architecture", "brand", "pstate", "seed"):
            yield f"{key} {_or_dash(getattr(self, key))}"
        for key in ("use_empty_success", "use_summary", "accounting", "mig", "mig_repeats_parent", "persistence"):
            yield f"{key} {int(getattr(self, key))}"
        for key in ("power_window", "power_update", "use_period"):
            yield f"{key}_ns {ns(getattr(self, key + '_s'))}"
        for key, optional in (("pci", self.pci), ("minor", self.minor), ("serial", self.serial)):
            if optional is not None:
                yield f"{key} {optional}"
        yield f"instant {int(self.instant_power)}"
        yield f"cuda_major {self.cuda_capability[0]}"
        yield f"cuda_minor {self.cuda_capability[1]}"
        if self.limit_w is not None:
            yield f"limit_mw {round(self.limit_w * MILLI)}"
            yield f"limit_max_mw {round(self.limit_w * MILLI)}"
        for key, wave, scale in (("power", self.power, MILLI), ("utilization", self.utilization, 1),
                                 ("memory_utilization", self.memory_utilization, 1)):
            if wave is not None:
                yield from (f"{key} {text}" for text in wave.texts(scale))
        if self.counter is not None:
            yield from self.counter.lines()
        if self.samples is not None:
            yield f"samples_period_ns {ns(self.samples.period_s)}"
            yield f"samples_depth {self.samples.depth}"
            yield f"samples_window_ns {ns(self.samples.window_s)}"
        yield from (f"absent {_span(window)}" for window in self.absent)
        yield from (f"lost {_span(window)}" for window in self.lost)
        yield from (f"junk {junk.pid} {junk.sm} {ns(junk.age_s)} {junk.every}" for junk in self.junk)
        for part in (*self.instances, *self.processes):
            yield from part.lines()


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
        which = f"fault {self.function} {self.device} {start} {end} {self.skip_calls} {_or_dash(self.max_calls)}"
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
        yield f"timestamp_offset_ns {_or_dash(self.timestamp_offset_ns)}"
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
