"""Which GPUs a command may use: those that its caller names, or CUDA_VISIBLE_DEVICES shows it, else all."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import UsageError
from agent.model import DeviceReading

VARIABLE = "CUDA_VISIBLE_DEVICES"
_MOST_DIGITS = 9                                 # of an index


def named_gpus(names: Sequence[str], devices: Sequence[DeviceReading]) -> frozenset[str]:
    """UUIDs of the GPUs named on the command line, by index or by (the beginning of) the UUID. A MIG instance stands for
    the GPU that it is a part of, whose energy is then split. Raises UsageError for a name that fits none, or several."""
    found = set()
    for name in names:
        fits = _fitting(name, devices)
        if len(fits) != 1:
            there = ", ".join(f"{device.index} ({device.uuid})" for device in devices) or "none"
            raise UsageError(f"--gpu {name}: names {len(fits) or 'none'} of the GPUs here; choose from {there}")
        found.add(fits[0].parent_uuid or fits[0].uuid)
    return frozenset(found)


def visible_gpus(value: str | None, devices: Sequence[DeviceReading]) -> frozenset[str] | None:
    """UUIDs of the GPUs that CUDA_VISIBLE_DEVICES shows, read as CUDA does: up to the first entry that is none. None where
    it is not set: then the command may use any."""
    if value is None:
        return None
    found = set()
    for name in value.split(","):
        fits = _fitting(name.strip(), devices)
        if len(fits) != 1:
            break
        found.add(fits[0].parent_uuid or fits[0].uuid)
    return frozenset(found)


def _fitting(name: str, devices: Sequence[DeviceReading]) -> list[DeviceReading]:
    if name.isascii() and name.isdigit() and len(name) <= _MOST_DIGITS:
        return [device for device in devices if device.index == int(name) and device.parent_uuid is None]
    return [device for device in devices if name.startswith(("GPU-", "MIG-")) and device.uuid.startswith(name)]
