"""What a scenario is made of: devices, their counters and samples, processes, MIG slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.driver.waveform import SECOND_NS, Constant, Wave, ns

Window = tuple[float, float | None]             # seconds, half open; None: for ever
KINDS = {"compute": 0, "graphics": 1, "mps": 2}
MILLI = 1000
GIB = 1 << 30


def span(window: Window) -> str:
    return f"{ns(window[0])} {'-' if window[1] is None else ns(window[1])}"


def or_dash(number: int | None) -> str:
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
        yield f"memory_bytes {or_dash(self.memory_bytes)}"
        yield f"accounting {int(self.accounting)}"
        if self.gpu_instance is not None:
            yield f"gpu_instance {self.gpu_instance}"
            yield f"compute_instance {self.compute_instance or 0}"
        yield from (f"present {span(window)}" for window in self.windows)
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
        yield from (f"counter_freeze {span(window)}" for window in self.freezes)
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
            yield f"{key} {or_dash(getattr(self, key))}"
        yield from (f"present {span(window)}" for window in self.windows)


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
    gpm: bool = True
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
            yield f"{key} {or_dash(getattr(self, key))}"
        for key in ("use_empty_success", "use_summary", "accounting", "gpm", "mig", "mig_repeats_parent", "persistence"):
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
        yield from (f"absent {span(window)}" for window in self.absent)
        yield from (f"lost {span(window)}" for window in self.lost)
        yield from (f"junk {junk.pid} {junk.sm} {ns(junk.age_s)} {junk.every}" for junk in self.junk)
        for part in (*self.instances, *self.processes):
            yield from part.lines()
