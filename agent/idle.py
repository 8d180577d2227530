"""Whether a device earns its keep: active, underused, parked, unallocated, or unknown.

A reading alone flickers: utilization is a share of the driver's last sample period (1 s or less), and a busy
process rests between two batches. So the most that the buffered samples since the reading before show counts, and a
device keeps the busiest state that it was seen in during the last ``HOLD_NS``: up at once, down only when nothing
higher was seen for that long. That is for a holder that rests: a device that nobody was on at two readings in a row is
``unallocated``, and whoever comes next begins anew. What cannot be told is ``unknown`` at once, and nothing is carried across
it.

Parked is judged against *context power*, what the device draws with contexts open and nothing running, where that has
been learned. A device that is held, shows no use and draws far more than that is in use after all (the driver's counter
misses copies, video engines and short kernels): its share of the room between context power and power limit then stands
for its use. Where the driver does not tell the use of a device that is held, and it draws no more than that, it is parked.
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
FAR_ABOVE_PERCENT: Final = 125        # of context power: temperature and clocks move what a parked device draws by a tenth
FAR_ABOVE_MW: Final = 10_000          # and this much more, for devices that draw little

_NEVER: Final = -1


class IdleJudge:
    """Judges each device of one reading after another. Its only memory is when each device was last seen in each
    state; that of a device which fails or goes away is dropped with it."""

    def __init__(self, settings: Idle) -> None:
        self._threshold_ratio = settings.utilization_ratio
        self._seen_ns: dict[str, list[int]] = {}      # uuid -> BOOTTIME when last seen on each rung of LADDER
        self._boot: tuple[str, int] = ("", 0)

    def remember(self, previous: IdleJudge) -> None:
        """Take over what another has seen, as a reload does: nobody falls because a price file has changed."""
        self._seen_ns, self._boot = previous._seen_ns, previous._boot

    def judge(self, reading: Reading, context_power_mw: Mapping[str, int] | None = None) -> Mapping[str, str]:
        """The state of every device in the reading, by uuid. Call it with readings in order, each once.

        ``context_power_mw``: what is known of it, by uuid of the whole GPU; a device that is not in there is judged by
        its use alone.
        """
        now_ns = reading.boottime_ns
        boot_id, last_ns = self._boot
        remembered = self._seen_ns if boot_id == reading.boot_id and last_ns <= now_ns else {}
        seen: dict[str, list[int]] = {}
        states = {}
        for uuid, state in self._states(reading.devices, context_power_mw or {}).items():
            if state == UNKNOWN:
                states[uuid] = UNKNOWN
                continue
            times = remembered.get(uuid) or [_NEVER] * len(LADDER)
            if state == UNALLOCATED and times[LADDER.index(UNALLOCATED)] == last_ns:
                times = [_NEVER] * len(LADDER)           # nobody is there, nor was at the reading before
            times[LADDER.index(state)] = now_ns
            seen[uuid] = times
            states[uuid] = _busiest(times, now_ns)
        self._seen_ns = seen
        self._boot = (reading.boot_id, now_ns)
        return states

    def _states(self, devices: Iterable[DeviceReading], context_power_mw: Mapping[str, int]) -> dict[str, str]:
        """What this reading alone says of each device."""
        states: dict[str, str] = {}
        wholes: dict[str, DeviceReading] = {}
        instances: dict[str, list[DeviceReading]] = {}
        for device in devices:
            if device.parent_uuid is not None:
                instances.setdefault(device.parent_uuid, []).append(device)
            else:
                wholes[device.uuid] = device
                states[device.uuid] = self._state(device, _power_use(device, context_power_mw.get(device.uuid)))
        for parent, parts in instances.items():       # a divided GPU does not report its own utilization
            whole = wholes.get(parent)
            power = _power_use(whole, context_power_mw.get(parent)) if whole is not None and whole.failed is None else None
            # Only when the whole GPU draws no more than open contexts do is it known of each part that it rests.
            found = [self._state(part, 0.0 if power == 0 else None) for part in parts]
            states |= {part.uuid: state for part, state in zip(parts, found, strict=True)}
            if whole is not None:
                states[parent] = UNKNOWN if whole.failed is not None else self._of_parts(found, power)
        return states

    def _state(self, device: DeviceReading, power_use_ratio: float | None) -> str:
        if device.failed is not None:
            return UNKNOWN
        use_ratio = _use_ratio(device)
        if device.processes and not use_ratio and power_use_ratio is not None:
            use_ratio = power_use_ratio
        if use_ratio is not None and use_ratio > 0 and use_ratio >= self._threshold_ratio:
            return ACTIVE                             # also where the process is out of the driver's sight
        if device.processes is None:
            return UNDERUSED if use_ratio else UNKNOWN
        if not device.processes:
            return UNALLOCATED
        if use_ratio is None:
            return UNKNOWN
        return UNDERUSED if use_ratio > 0 else PARKED

    def _of_parts(self, parts: list[str], power_use_ratio: float | None) -> str:
        """The state of a GPU divided into instances: that of the busiest, where that can be told; by its power, where
        the instances do not tell."""
        if ACTIVE in parts:
            return ACTIVE
        if UNKNOWN not in parts:
            return max(parts, key=LADDER.index)
        if not power_use_ratio:
            return UNKNOWN
        return ACTIVE if power_use_ratio >= self._threshold_ratio else UNDERUSED


def _use_ratio(device: DeviceReading) -> float | None:
    """The most that the device was used since the reading before, 0 .. 1; None where it does not say. What several
    processes did in the same sample adds up. Rows above 100 % are known garbage of the driver's."""
    percents: dict[int, int] = {}
    for sample in device.utilization_samples:
        if 0 <= sample.sm_percent <= 100:
            percents[sample.timestamp_us] = percents.get(sample.timestamp_us, 0) + sample.sm_percent
    use = [min(percent, 100) / 100 for percent in percents.values()]
    use += [ratio for ratio in (device.utilization_ratio, device.gpm_sm_ratio) if ratio is not None]
    return max(use, default=None)


def _power_use(device: DeviceReading, context_mw: int | None) -> float | None:
    """The device's share of the power between open contexts and its limit: 0 where it draws about what open contexts do,
    None where its power, or that of contexts, is unknown."""
    power_mw = device.power_mw if device.power_mw is not None else device.power_instant_mw
    if context_mw is None or power_mw is None:
        return None
    if power_mw <= context_mw * FAR_ABOVE_PERCENT // 100 + FAR_ABOVE_MW:
        return 0.0
    room_mw = (device.power_limit_mw or power_mw) - context_mw
    return min(1.0, (power_mw - context_mw) / room_mw) if room_mw > 0 else 1.0


def _busiest(times: list[int], now_ns: int) -> str:
    """The highest rung seen within HOLD_NS. The present one always is, so there is one."""
    return next(
        LADDER[rung]
        for rung in reversed(range(len(LADDER)))
        if times[rung] != _NEVER and now_ns - times[rung] < HOLD_NS
    )
