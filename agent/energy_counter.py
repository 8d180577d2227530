"""What the hardware counter vouches for (nvmlDeviceGetTotalEnergyConsumption, mJ since driver load): booked once, all of it.

- A fall is a reset. The value before it is kept as an anchor: if the counter comes back there, what it counted meanwhile
  is booked, less what was booked since. A leap beyond the power limit is treated the same way.
- A counter that stands still while power is drawn is lent for: power x time is booked provisionally and taken back from
  what the counter adds later. So is one that does not answer for a while.
- After the driver was let go of, a counter that has fallen began anew with the driver: what it shows now was used since.
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.energy_integral import by_trapezoid
from agent.meter import COUNTER_UPDATE_NS, MeterState, Step, limit_mj
from agent.model import DeviceReading

STALE_AFTER_NS = 5 * COUNTER_UPDATE_NS


def by_counter(previous: MeterState, before_mj: int, device: DeviceReading, now_mj: int, awake_ns: int,
               now_ns: int, *, reopened: bool) -> Step:
    """The counter's difference. ``now_ns`` is on MONOTONIC; ``reopened``: the driver was let go of since ``previous``."""
    delta_mj = now_mj - before_mj
    plausible = 0 <= delta_mj <= limit_mj(device, awake_ns + previous.monotonic_ns - previous.changed_ns)
    anchor_mj = previous.anchor_mj
    if anchor_mj is not None and (before_mj < anchor_mj <= now_mj or anchor_mj <= now_mj < before_mj):
        owed_mj = now_mj - anchor_mj - previous.since_mj
        if 0 <= owed_mj <= limit_mj(device, now_ns - previous.left_ns) or (owed_mj < 0 and not plausible):
            # It is back, and vouches for all since; a loan that was too high stays owed.
            state = replace(previous, changed_ns=now_ns, anchor_mj=None, since_mj=0, lent_mj=max(0, -owed_mj))
            return Step(state, max(0, owed_mj), 0, "counter")
        previous = replace(previous, anchor_mj=None, since_mj=0)       # a reset counter that climbed past its old value
    if not plausible:
        return _broken(previous, before_mj, device, now_mj, awake_ns, now_ns, reopened=reopened)
    if delta_mj == 0:
        return by_loan(previous, device, awake_ns, now_ns) or Step(previous, 0, 0, "counter")
    repaid_mj = min(previous.lent_mj, delta_mj)
    booked_mj = delta_mj - repaid_mj
    state = replace(previous, changed_ns=now_ns, lent_mj=previous.lent_mj - repaid_mj, since_mj=_since(previous, booked_mj))
    return Step(state, booked_mj, 0, "counter")


def by_loan(previous: MeterState, device: DeviceReading, awake_ns: int, now_ns: int) -> Step | None:
    """The counter stands still, or does not answer. None where there is nothing to lend and nothing to say: what the
    counter shows later covers this time too."""
    silent = device.energy_mj is None
    if not silent and (now_ns - previous.changed_ns < STALE_AFTER_NS or not device.power_mw):
        return None
    step = by_trapezoid(previous, device, awake_ns)
    if silent and step.gap_ns:
        return None
    state = replace(step.state, lent_mj=previous.lent_mj + step.energy_mj, since_mj=_since(previous, step.energy_mj))
    return Step(state, step.energy_mj, step.gap_ns, "counter")


def _broken(previous: MeterState, before_mj: int, device: DeviceReading, now_mj: int, awake_ns: int, now_ns: int, *,
            reopened: bool) -> Step:
    """The counter fell, or leapt: it goes on from where it is now, and nothing is known of the time in between."""
    since_mj = previous.since_mj if previous.anchor_mj is not None else previous.lent_mj
    began_anew = reopened and now_mj < before_mj and now_mj <= limit_mj(device, awake_ns)
    booked_mj = now_mj if began_anew else 0
    state = replace(previous, changed_ns=now_ns, lent_mj=0, since_mj=since_mj + booked_mj,
                    anchor_mj=before_mj if previous.anchor_mj is None else previous.anchor_mj,
                    left_ns=now_ns - awake_ns if previous.anchor_mj is None else previous.left_ns)
    return Step(state, booked_mj, awake_ns, "counter")


def _since(state: MeterState, booked_mj: int) -> int:
    return state.since_mj + booked_mj if state.anchor_mj is not None else 0
