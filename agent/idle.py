"""Whether a device earns its keep: active, underused, parked, unallocated, or unknown.

A reading alone flickers: utilization is a share of the driver's last sample period (1 s or less), and a busy
process rests between two batches. So a device keeps the busiest state that it was seen in during the last
``HOLD_NS``: up at once, down only when nothing higher was seen for that long. What cannot be told is ``unknown``
at once, and nothing is carried across it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from agent.model import DeviceReading, Reading
from agent.settings import Idle
from agent.units import NS_PER_S

ACTIVE: Final = "active"              # used at or above the threshold
UNDERUSED: Final = "underused"        # used, below the threshold
PARKED: Final = "parked"              # a process holds the device and does not use it
UNALLOCATED: Final = "unallocated"    # no process
UNKNOWN: Final = "unknown"            # the device failed, or does not say what would tell

LADDER: Final = (UNALLOCATED, PARKED, UNDERUSED, ACTIVE)      # lowest first
WASTE: Final = frozenset({UNALLOCATED, PARKED, UNDERUSED})
HOLD_NS: Final = 5 * NS_PER_S

_NEVER: Final = -1


class IdleJudge:
    """Judges each device of one reading after another. Its only memory is when each device was last seen in each
    state; that of a device which fails or goes away is dropped with it."""

    def __init__(self, settings: Idle) -> None:
        self._threshold_ratio = settings.utilization_ratio
        self._seen_ns: dict[str, list[int]] = {}      # uuid -> BOOTTIME when last seen on each rung of LADDER
        self._boot: tuple[str, int] = ("", 0)

    def judge(self, reading: Reading) -> Mapping[str, str]:
        """The state of every device in the reading, by uuid. Call it with readings in order, each once."""
        now_ns = reading.boottime_ns
        boot_id, last_ns = self._boot
        remembered = self._seen_ns if boot_id == reading.boot_id and last_ns <= now_ns else {}
        seen: dict[str, list[int]] = {}
        states = {}
        for uuid, state in self._states(reading.devices).items():
            if state == UNKNOWN:
                states[uuid] = UNKNOWN
                continue
            times = remembered.get(uuid) or [_NEVER] * len(LADDER)
            times[LADDER.index(state)] = now_ns
            seen[uuid] = times
            states[uuid] = _busiest(times, now_ns)
        self._seen_ns = seen
        self._boot = (reading.boot_id, now_ns)
        return states

    def _states(self, devices: Iterable[DeviceReading]) -> dict[str, str]:
        """What this reading alone says of each device."""
        states: dict[str, str] = {}
        instances: dict[str, list[str]] = {}
        for device in devices:
            state = self._state(device)
            states[device.uuid] = state
            if device.parent_uuid is not None:
                instances.setdefault(device.parent_uuid, []).append(state)
        for parent, parts in instances.items():       # a divided GPU does not report its own utilization
            if states.get(parent) is not None:
                states[parent] = _of_parts(parts)
        return states

    def _state(self, device: DeviceReading) -> str:
        if device.failed is not None:
            return UNKNOWN
        use_ratio = _use_ratio(device)
        if use_ratio is not None and use_ratio > 0 and use_ratio >= self._threshold_ratio:
            return ACTIVE                             # also where the process is out of the driver's sight
        if device.processes is None:
            return UNDERUSED if use_ratio else UNKNOWN
        if not device.processes:
            return UNALLOCATED
        if use_ratio is None:
            return UNKNOWN
        return UNDERUSED if use_ratio > 0 else PARKED


def _use_ratio(device: DeviceReading) -> float | None:
    """The most that the device was used since the reading before, 0 .. 1; None where it does not say. Rows above
    100 % are known garbage of the driver's."""
    use = [s.sm_percent / 100 for s in device.utilization_samples if 0 <= s.sm_percent <= 100]
    if device.utilization_ratio is not None:
        use.append(device.utilization_ratio)
    return max(use, default=None)


def _of_parts(parts: list[str]) -> str:
    """The state of a GPU divided into instances: that of the busiest, where that can be told."""
    if ACTIVE in parts:
        return ACTIVE
    return UNKNOWN if UNKNOWN in parts else max(parts, key=LADDER.index)


def _busiest(times: list[int], now_ns: int) -> str:
    """The highest rung seen within HOLD_NS. The present one always is, so there is one."""
    return next(
        LADDER[rung]
        for rung in reversed(range(len(LADDER)))
        if times[rung] != _NEVER and now_ns - times[rung] < HOLD_NS
    )
