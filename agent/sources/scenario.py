"""What the simulated source simulates: a fleet and the work on it, as frozen records, from TOML or a mapping.

``docs/simulated.md`` explains every key with an example. Busy shares are fractions of a GPU, watts and GiB are
what a datasheet says; the waveform turns them into integer permille, milliwatts and bytes once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent.errors import ConfigError
from agent.files.inputs import read_input

GRID_S: Final = 10                   # every change of state falls on this grid, see waveform.py
HOURS: Final = 24
MOST_DEVICES: Final = 100_000
MOST_WATTS: Final = 1_000_000
MOST_GIB: Final = 1_000_000


class SimulatedGpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model of which every GPU of the fleet is one."""

    name: str = "NVIDIA H100 80GB HBM3"
    idle_watts: float = 70.0         # nobody on it
    context_watts: float = 45.0      # more, as soon as a process holds it
    limit_watts: float = 700.0       # all together at a busy share of 1
    memory_gib: float = 80.0


class SimulatedWorkload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of process, on one or several GPUs."""

    gpus: tuple[int, ...]                            # positions: GPU index modulo Scenario.repeat
    tags: dict[str, str] = {}                        # empty: the process says nothing about itself
    user: str = "trainer"
    group: str = "ml"
    command: str = "python train.py"
    memory_gib: float = 8.0
    busy: float | tuple[float, ...] = 0.5            # share of the GPU; or 24 of them, one a local hour
    weekend: float = 1.0                             # times busy, on Saturday and Sunday; 0 = parked
    present_hours: tuple[int, int] = (0, HOURS)      # local, half-open, may wrap midnight
    every_s: int = 0                                 # the process comes back this often (0: it stays) ...
    lasts_s: int = 0                                 # ... and ends after this long
    burst_every_s: int = 0                           # it works in bursts this far apart (0: all the time) ...
    burst_s: int = 0                                 # ... and this long, and is parked in between
    one_process: bool = False                        # one process holds all its GPUs, instead of one process each


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fleet. The same scenario and seed give the same watts at the same instant, everywhere."""

    seed: int = 1
    devices: int = 2
    repeat: int = 0                                  # the pattern of positions repeats every so many GPUs; 0: never
    utc_offset_minutes: int = 0                      # of the local hours
    jitter: float = 0.1                              # busy shares waver by up to this part of themselves
    gpu: SimulatedGpu = SimulatedGpu()
    workload: tuple[SimulatedWorkload, ...] = ()

    @property
    def positions(self) -> int:
        """How many positions ``gpus`` may name."""
        return self.repeat or self.devices


_OFFICE_BUSY: Final = (
    0.34, 0.31, 0.30, 0.30, 0.32, 0.35, 0.40, 0.46, 0.54, 0.60, 0.62, 0.61,
    0.58, 0.61, 0.64, 0.64, 0.62, 0.59, 0.55, 0.51, 0.47, 0.43, 0.39, 0.36,
)  # fmt: skip

DEFAULT_SCENARIO: Final = Scenario(
    repeat=4,                                        # of four GPUs the last is unallocated
    workload=(
        SimulatedWorkload(
            gpus=(0,), user="serving", command="python -m vllm.entrypoints.openai.api_server", memory_gib=40,
            tags={"project": "kronos", "team": "quant", "model": "kronos-base", "model_version": "1.0"},
            busy=_OFFICE_BUSY, weekend=0.8,
        ),
        SimulatedWorkload(
            gpus=(0,), user="serving", command="python serve.py --canary", memory_gib=12,
            tags={"project": "kronos", "team": "quant", "model": "kronos-base", "model_version": "1.1"},
            busy=0.25, burst_every_s=60, burst_s=20,
        ),
        SimulatedWorkload(
            gpus=(1, 2), command="torchrun train.py --resume", memory_gib=48, one_process=True,
            tags={"project": "atlas", "team": "search", "model": "atlas-embed", "model_version": "0.9"},
            busy=0.9, every_s=300, lasts_s=180,
        ),
        SimulatedWorkload(
            gpus=(1,), user="alice", group="research", command="python -m ipykernel_launcher", memory_gib=6,
            busy=0.3, every_s=600, lasts_s=400, burst_every_s=200, burst_s=20,
        ),
    ),
)  # fmt: skip


def load_scenario(
    given: str | Path | Mapping[str, Any] | None, seed: int | None, devices: int | None
) -> Scenario:
    """The scenario of a TOML file or of a mapping with the same keys; none: the one a newcomer sees. ``seed`` and
    ``devices``, where given, stand in for the scenario's own. Raises ConfigError."""
    where = "scenario"
    if given is None:
        scenario = DEFAULT_SCENARIO
    elif isinstance(given, Mapping):
        scenario = _convert(where, given)
    else:
        where = str(given)
        scenario = _convert(where, _parse(Path(given)))
    if seed is not None:
        scenario = msgspec.structs.replace(scenario, seed=seed)
    if devices is not None:
        scenario = msgspec.structs.replace(scenario, devices=devices)
    faults = [f"{where}: {fault}" for fault in _faults(scenario)]
    if faults:
        raise ConfigError(faults)
    return scenario


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_input(path).decode())
    except OSError as error:
        raise ConfigError([f"{path}: the scenario cannot be read ({error.strerror}); name a readable TOML file"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: the scenario is not TOML: {error}"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: the scenario holds what cannot be read ({error}); write it as docs/simulated.md "
                           "does"]) from None


def _convert(where: str, given: Mapping[str, Any]) -> Scenario:
    try:
        return msgspec.convert(given, Scenario)
    except msgspec.ValidationError as error:
        raise ConfigError([f"{where}: {error}; docs/simulated.md lists the keys of a scenario"]) from None


def _faults(scenario: Scenario) -> list[str]:
    """Each fault of a scenario whose types are right, as ``KEY: sentence``."""
    faults = []
    if scenario.devices < 1:
        faults.append(f"devices: {scenario.devices} GPUs are too few, write 1 or more")
    elif scenario.devices > MOST_DEVICES:
        return [f"devices: {scenario.devices} GPUs are too many, write {MOST_DEVICES} or fewer"]
    if scenario.repeat < 0:
        faults.append(f"repeat: {scenario.repeat} is negative, write 0 for a pattern that does not repeat")
    if not 0 <= scenario.jitter <= 0.5:
        faults.append(f"jitter: {scenario.jitter:g} is outside 0 to 0.5")
    if abs(scenario.utc_offset_minutes) > 14 * 60:
        faults.append(f"utc_offset_minutes: {scenario.utc_offset_minutes} is further than 14 hours from UTC")
    gpu = scenario.gpu
    static_watts = gpu.idle_watts + gpu.context_watts
    if not (gpu.idle_watts >= 0 and gpu.context_watts >= 0 and static_watts < gpu.limit_watts <= MOST_WATTS):
        faults.append("gpu: idle_watts + context_watts must be under limit_watts, none of them negative, and "
                      f"limit_watts at most {MOST_WATTS}")
    if not 0 <= gpu.memory_gib <= MOST_GIB:
        faults.append(f"gpu: memory_gib: {gpu.memory_gib:g} is outside 0 to {MOST_GIB}")
    for number, workload in enumerate(scenario.workload):
        faults += [f"workload {number + 1}: {fault}" for fault in _workload_faults(workload, scenario.positions)]
    for position in range(scenario.positions):
        held = sum(workload.memory_gib for workload in scenario.workload if position in workload.gpus)
        if held > gpu.memory_gib:
            faults.append(f"gpu: memory_gib: the workloads at position {position} hold {held:g} of {gpu.memory_gib:g} GiB")
    return faults


def _workload_faults(workload: SimulatedWorkload, positions: int) -> list[str]:
    faults = []
    outside = [position for position in workload.gpus if not 0 <= position < positions]
    if outside:
        faults.append(f"gpus: {outside[0]} is not one of the positions 0 to {positions - 1}")
    busy = workload.busy if isinstance(workload.busy, tuple) else (workload.busy,)
    if len(busy) not in (1, HOURS):
        faults.append(f"busy: has {len(busy)} values, write one or 24, one a local hour")
    if not all(0 <= share <= 1 for share in busy):
        faults.append("busy: a share of a GPU is from 0 to 1")
    if not 0 <= workload.weekend <= 1:
        faults.append(f"weekend: {workload.weekend:g} is outside 0 to 1")
    if workload.memory_gib < 0:
        faults.append(f"memory_gib: {workload.memory_gib:g} is negative")
    first, last = workload.present_hours
    if not (0 <= first < HOURS and 0 < last <= HOURS and first != last):
        faults.append(f"present_hours: [{first}, {last}] is not two different hours of a day, such as [8, 20]")
    for every, lasts, names in (
        (workload.every_s, workload.lasts_s, ("every_s", "lasts_s")),
        (workload.burst_every_s, workload.burst_s, ("burst_every_s", "burst_s")),
    ):
        if every == lasts == 0:
            continue
        if every <= 0 or 3600 % every or every % GRID_S:
            faults.append(f"{names[0]}: {every} s neither divides the hour nor is a multiple of {GRID_S} s")
        elif not 0 < lasts < every or lasts % GRID_S:
            faults.append(f"{names[1]}: {lasts} s is not a multiple of {GRID_S} s under {names[0]} ({every} s)")
    return faults
