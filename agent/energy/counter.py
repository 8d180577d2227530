"""What the hardware counter vouches for (nvmlDeviceGetTotalEnergyConsumption, mJ since driver load): booked once, all of it.

- A fall is a reset. The value before it is kept as an anchor: if the counter comes back there, what it counted meanwhile
  is booked, less what was booked since. A leap beyond the power limit is treated the same way.
- A counter that stands still while power is drawn is lent for: power x time is booked provisionally and taken back from
  what the counter adds later. So is one that does not answer for a while.
- After the driver was let go of, a counter that has fallen began anew with the driver: what it shows now was used since.
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.energy.integral import by_trapezoid
from agent.energy.meter import COUNTER_UPDATE_NS, Anchor, MeterState, Step, limit_mj
from agent.model import DeviceReading

STALE_AFTER_NS = 5 * COUNTER_UPDATE_NS
MAX_ANCHORS = 4                         # a glitch within the time after a reset, and some to spare


def by_counter(previous: MeterState, before_mj: int, device: DeviceReading, now_mj: int, awake_ns: int,
               now_ns: int, *, reopened: bool) -> Step:
    """The counter's difference. ``now_ns`` is on MONOTONIC; ``reopened``: the driver was let go of since ``previous``."""
    delta_mj = now_mj - before_mj
    plausible = 0 <= delta_mj <= limit_mj(previous, device, awake_ns + previous.monotonic_ns - previous.changed_ns)
    crossed = [anchor for anchor in previous.anchors
               if before_mj < anchor.energy_mj <= now_mj or anchor.energy_mj <= now_mj < before_mj]
    if crossed:
        back = _back(previous, crossed, device, now_mj, now_ns, plausible=plausible)
        if back is not None:
            return back
        if plausible:                                      # a reset counter that climbed past its old value
            previous = replace(previous, anchors=tuple([anchor for anchor in previous.anchors if anchor not in crossed]))
    if not plausible:
        return _broken(previous, before_mj, device, now_mj, awake_ns, now_ns, reopened=reopened)
    if delta_mj == 0:
        return by_loan(previous, device, awake_ns, now_ns) or Step(previous, 0, 0, "counter")
    repaid_mj = min(previous.lent_mj, delta_mj)
    state = replace(previous, changed_ns=now_ns, lent_mj=previous.lent_mj - repaid_mj)
    return Step(state, delta_mj - repaid_mj, 0, "counter")


def by_loan(previous: MeterState, device: DeviceReading, awake_ns: int, now_ns: int) -> Step | None:
    """The counter stands still, or does not answer. None where there is nothing to lend and nothing to say: what the
    counter shows later covers this time too."""
    silent = device.energy_mj is None
    if not silent and (now_ns - previous.changed_ns < STALE_AFTER_NS or not device.power_mw):
        return None
    step = by_trapezoid(previous, device, awake_ns)
    if silent and step.gap_ns:
        return None
    return Step(replace(step.state, lent_mj=previous.lent_mj + step.energy_mj), step.energy_mj, step.gap_ns, "counter")


def _back(previous: MeterState, crossed: list[Anchor], device: DeviceReading, now_mj: int, now_ns: int, *,
          plausible: bool) -> Step | None:
    """The counter is where it was before it fell or leapt, and vouches for all since; None where it is not.

    A counter that was reset and only climbed past an old value is told by what it owes, which is then less than nothing;
    so it is too where a loan was too high, but a counter that climbs does not leap. Where it may be back from several
    places, the one that books least counts: nothing is invented.
    """
    owed_mj = {anchor: now_mj - anchor.energy_mj - (previous.booked_mj - anchor.booked_mj) for anchor in crossed}
    backs = [anchor for anchor in crossed
             if 0 <= owed_mj[anchor] <= limit_mj(previous, device, now_ns - anchor.left_ns)
             or (owed_mj[anchor] < 0 and not plausible)]
    if not backs:
        return None
    anchor = min(backs, key=owed_mj.__getitem__)
    state = replace(previous, changed_ns=now_ns, lent_mj=max(0, -owed_mj[anchor]),
                    anchors=previous.anchors[:previous.anchors.index(anchor)])
    return Step(state, max(0, owed_mj[anchor]), 0, "counter")


def _broken(previous: MeterState, before_mj: int, device: DeviceReading, now_mj: int, awake_ns: int, now_ns: int, *,
            reopened: bool) -> Step:
    """The counter fell, or leapt: it goes on from where it is now, and nothing is known of the time in between."""
    began_anew = reopened and now_mj < before_mj and now_mj <= limit_mj(previous, device, awake_ns)
    anchor = Anchor(before_mj, now_ns - awake_ns, previous.booked_mj - previous.lent_mj)
    state = replace(previous, changed_ns=now_ns, lent_mj=0, anchors=(*previous.anchors, anchor)[-MAX_ANCHORS:])
    return Step(state, now_mj if began_anew else 0, awake_ns, "counter")
