"""GPUs that are not there, for laptops, demonstrations and tests. They know their own truth.

Everything is a pure function of the scenario, its seed and the time (``waveform.py``); ``docs/simulated.md`` tells
how a scenario is written. Every name ends in "(simulated)" and every reading says so.

Options, all of them optional: ``scenario`` (path of a TOML file, or a mapping with the same keys), ``seed`` and
``devices`` (in place of the scenario's), ``session`` and ``boot_id`` (fixed words, so that two runs give equal bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from agent.clock import Clock, SystemClock
from agent.errors import ConfigError, SourceError
from agent.model import (
    IDLE,
    UNATTRIBUTED,
    DeviceReading,
    HostReading,
    ProcessFacts,
    ProcessUse,
    Reading,
    UtilizationSample,
    Workload,
)
from agent.sources.scenario import load_scenario
from agent.sources.splitmix import mix
from agent.sources.tenants import GIB
from agent.sources.waveform import Waveform
from agent.units import NS_PER_S, NS_PER_US, split_integer

SAMPLES_PER_S: Final = 6
_RING_S: Final = 10                  # how far back the driver's ring of utilization samples reaches
_DRIVER: Final = "simulated"
_DEFAULT_KEYS: Final = ("project", "team", "model", "model_version")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class _Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scenario: str | dict[str, Any] | None = None
    seed: int | None = None
    devices: int | None = None
    session: str | None = None
    boot_id: str | None = None


class SimulatedSource:
    """A Source over simulated GPUs. Raises ConfigError for a scenario that cannot be.

    Energy follows BOOTTIME, tied to UTC when the source is opened, as a real counter does: a wall clock that steps
    moves the readings' ``utc_ns`` and not the energy.
    """

    def __init__(self, options: Mapping[str, Any], *, clock: Clock | None = None) -> None:
        try:
            self._options = msgspec.convert(dict(options), _Options)
        except msgspec.ValidationError as error:
            raise ConfigError([f"options of the simulated source: {error}"]) from None
        self._clock = clock or SystemClock()
        self.scenario = load_scenario(self._options.scenario, self._options.seed, self._options.devices)
        self._waves = {_uuid(self.scenario.seed, i): Waveform(self.scenario, i) for i in range(self.scenario.devices)}
        self._session: str | None = None
        self._boot_id = ""
        self._utc_offset_ns = 0
        self._told: set[tuple[int, int]] = set()
        self._sampled_to = 0

    @property
    def uuids(self) -> tuple[str, ...]:
        """The simulated GPUs, by index."""
        return tuple(self._waves)

    def open(self) -> None:
        self._session = self._options.session or uuid4().hex
        self._boot_id = self._options.boot_id or _BOOT_ID.read_text().strip()
        self._utc_offset_ns = self._clock.utc_ns() - self._clock.boottime_ns()
        self._told = set()
        self._sampled_to = self._sample_number(self.simulated_utc_ns(self._clock.boottime_ns())) - SAMPLES_PER_S

    def simulated_utc_ns(self, boottime_ns: int) -> int:
        """The instant, for the ``true_`` functions, that a reading's BOOTTIME stands for."""
        return boottime_ns + self._utc_offset_ns

    def read(self, sequence: int) -> Reading:
        if self._session is None:
            raise SourceError("the simulated source is read before it is opened; open it first")
        boottime_ns = self._clock.boottime_ns()
        now_ns = self.simulated_utc_ns(boottime_ns)
        newest = self._sample_number(now_ns)
        oldest = max(self._sampled_to + 1, newest - _RING_S * SAMPLES_PER_S + 1)
        facts: dict[tuple[int, int], ProcessFacts] = {}
        present: set[tuple[int, int]] = set()
        devices = []
        for index, (uuid, wave) in enumerate(self._waves.items()):
            occupants = wave.occupants(now_ns)
            for occupant in occupants:
                key = (occupant.pid, occupant.start_ticks)
                present.add(key)
                if key not in self._told and key not in facts:
                    facts[key] = occupant.facts()
            energy_mj = self._energy_mj(wave, now_ns)
            second_ago_mj = self._energy_mj(wave, max(now_ns - NS_PER_S, 0))
            held_bytes = sum(occupant.tenant.memory_bytes for occupant in occupants)
            devices.append(DeviceReading(
                uuid=uuid, index=index, name=f"{self.scenario.gpu.name} (simulated)", boottime_ns=boottime_ns,
                energy_mj=energy_mj,
                power_mw=energy_mj - second_ago_mj,          # a 1 s average, as the driver's: mJ over 1 s
                power_instant_mw=wave.power_mw(now_ns),
                power_limit_mw=wave.limit_mw,
                utilization_ratio=sum(occupant.busy_permille for occupant in occupants) / 1000,
                memory_used_bytes=held_bytes,
                memory_total_bytes=wave.memory_total_bytes,
                temperature_celsius=30 + 45 * wave.power_mw(now_ns) // wave.limit_mw,
                processes=tuple([
                    ProcessUse(occupant.pid, occupant.start_ticks, occupant.tenant.memory_bytes) for occupant in occupants
                ]),
                utilization_samples=tuple(self._samples(wave, oldest, newest)),
            ))  # fmt: skip
        self._sampled_to = max(self._sampled_to, newest)
        self._told = present
        return Reading(
            session=self._session, sequence=sequence, boot_id=self._boot_id, boottime_ns=boottime_ns,
            monotonic_ns=self._clock.monotonic_ns(), utc_ns=self._clock.utc_ns(), driver_version=_DRIVER,
            devices=tuple(devices), started=tuple(facts.values()), host=self._host(devices, boottime_ns), simulated=True,
        )  # fmt: skip

    def close(self) -> None:
        self._session = None

    def true_energy_mj(self, uuid: str, start_utc_ns: int, end_utc_ns: int) -> int:
        """What one GPU used between two instants: by construction what its counter says."""
        wave = self._waves[uuid]
        return self._energy_mj(wave, end_utc_ns) - self._energy_mj(wave, start_utc_ns)

    def true_energy_by_workload(
        self, uuid: str, start_utc_ns: int, end_utc_ns: int, keys: tuple[str, ...] = _DEFAULT_KEYS
    ) -> dict[Workload, int]:
        """Who used it, in mJ by workload, ``__idle__`` and ``__unattributed__`` included: sums to ``true_energy_mj``
        exactly; each part is less than 2 mJ off the closed form. ``keys`` are the tag keys that name a workload."""
        wave = self._waves[uuid]
        causes = [(IDLE, *[""] * (len(keys) - 1))]
        for tenant in wave.tenants:
            workload = tuple([tenant.workload.tags.get(key, "") for key in keys])
            causes.append(workload if any(workload) else (UNATTRIBUTED, *[""] * (len(keys) - 1)))
        exact_pj: dict[Workload, int] = {}
        for cause, before_pj, after_pj in zip(
            causes, wave.energy_pj(start_utc_ns), wave.energy_pj(end_utc_ns), strict=True
        ):
            exact_pj[cause] = exact_pj.get(cause, 0) + after_pj - before_pj
        parts = split_integer(self.true_energy_mj(uuid, start_utc_ns, end_utc_ns), list(exact_pj.values()))
        return dict(zip(exact_pj, parts, strict=True))

    @staticmethod
    def _energy_mj(wave: Waveform, instant_ns: int) -> int:
        return sum(wave.energy_pj(instant_ns)) // NS_PER_S

    @staticmethod
    def _sample_number(instant_ns: int) -> int:
        return instant_ns * SAMPLES_PER_S // NS_PER_S

    @staticmethod
    def _samples(wave: Waveform, oldest: int, newest: int) -> list[UtilizationSample]:
        """The driver's rows: whole percent, none for a process that did nothing. A share between two whole percents
        is drawn up or down by a hash, so that the mean of many rows is the share."""
        rows = []
        for number in range(oldest, newest + 1):
            instant_ns = number * NS_PER_S // SAMPLES_PER_S
            for occupant in wave.occupants(instant_ns):
                percent, rest = divmod(occupant.busy_permille, 10)
                if mix(number, occupant.pid) % 10 < rest:
                    percent += 1
                if percent > 0:
                    rows.append(UtilizationSample(occupant.pid, instant_ns // NS_PER_US, percent))
        return rows

    @staticmethod
    def _host(devices: list[DeviceReading], boottime_ns: int) -> HostReading:
        busy = sum(device.utilization_ratio or 0.0 for device in devices) / len(devices)
        uptime_s = boottime_ns // NS_PER_S
        return HostReading(
            cpu_utilization_ratio=round(0.05 + 0.4 * busy, 4),
            memory_used_bytes=16 * GIB + sum(device.memory_used_bytes or 0 for device in devices) // 4,
            disk_read_bytes=uptime_s * 2_000_000,
            disk_written_bytes=uptime_s * 500_000,
        )


def _uuid(seed: int, index: int) -> str:
    return f"GPU-{UUID(int=mix(seed, index, 1) << 64 | mix(seed, index, 2))}"
