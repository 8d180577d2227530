"""Readings and shares for tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from agent.model import DeviceReading, EnergyInterval, Reading, Share
from agent.units import NS_PER_S

UUID = "GPU-11111111-2222-3333-4444-555555555555"
NOON_NS = 1_782_302_400 * NS_PER_S      # 2026-06-24T12:00:00Z
BOOT_NS = 5_000 * NS_PER_S
KEYS = ("project", "team", "model", "model_version")


def device(at_ns: int, uuid: str = UUID, **fields: Any) -> DeviceReading:
    given: dict[str, Any] = {"name": "NVIDIA H100 80GB HBM3", "index": 0, "power_limit_mw": 700_000, "processes": ()}
    return DeviceReading(uuid=uuid, boottime_ns=at_ns, **(given | fields))


def reading(at_ns: int, *devices: DeviceReading, sequence: int = 0, asleep_ns: int = 0, **fields: Any) -> Reading:
    """A reading at a BOOTTIME; the wall clock runs along with it, MONOTONIC is behind by ``asleep_ns``."""
    given: dict[str, Any] = {"session": "s", "boot_id": "boot-1", "driver_version": "580.1"}
    return Reading(sequence=sequence, boottime_ns=at_ns, monotonic_ns=at_ns - asleep_ns, utc_ns=NOON_NS + at_ns - BOOT_NS,
                   devices=devices, **(given | fields))


def interval(energy_mj: int, elapsed_ns: int = NS_PER_S, **fields: Any) -> EnergyInterval:
    given: dict[str, Any] = {"uuid": UUID, "gap_ns": 0, "method": "counter", "start_utc_ns": NOON_NS}
    given |= fields
    return EnergyInterval(end_utc_ns=given["start_utc_ns"] + elapsed_ns, elapsed_ns=elapsed_ns, energy_mj=energy_mj, **given)


def share(energy_mj: int, start_ns: int = NOON_NS, duration_ns: int = NS_PER_S, **fields: Any) -> Share:
    given: dict[str, Any] = {"uuid": UUID, "workload": ("kronos", "", "", ""), "method": "sole", "state": "active",
                             "gpu_ns": duration_ns}
    return Share(start_utc_ns=start_ns, end_utc_ns=start_ns + duration_ns, energy_mj=energy_mj, **(given | fields))
