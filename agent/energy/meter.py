"""Where one device's energy meter stands, and what one step of it gives: shared by the ways to measure."""

from __future__ import annotations

from msgspec import Struct

from agent.model import DeviceReading
from agent.units import NS_PER_MS, NS_PER_S

COUNTER_UPDATE_NS = 100 * NS_PER_MS     # the slowest update period seen on any architecture (DESIGN: 20 to 100 ms)
PLAUSIBLE_PERCENT = 120                 # of the power limit
UNKNOWN_LIMIT_MW = 2_000_000            # no card draws more; used where the limit is not readable


class Anchor(Struct, frozen=True, array_like=True):
    """Where a counter was before it fell or leapt, in case it comes back."""

    energy_mj: int
    left_ns: int                         # MONOTONIC of the last reading there
    booked_mj: int                       # MeterState.booked_mj then, less the loan that was open


class MeterState(Struct, frozen=True):
    """Kept in the ledger so that a restart goes on from the last committed tick."""

    boot_id: str
    boottime_ns: int                     # end of the last booked interval
    monotonic_ns: int
    session: str = ""                    # of the reading: another one means that the driver was let go of in between
    energy_mj: int | None = None         # counter value that is booked, or None without a counter
    changed_ns: int = 0                  # MONOTONIC at which the counter last moved
    booked_mj: int = 0                   # all that was booked since the meter began
    lent_mj: int = 0                     # of that, from the fallback while the counter stood still
    anchors: tuple[Anchor, ...] = ()     # oldest first, a few
    power_mw: int | None = None
    power_average_mw: int | None = None
    power_instant_mw: int | None = None
    sample_us: int | None = None         # newest buffered sample used
    carry: int = 0                       # remainder of the integral's division, in mW x ns x 2
    power_limit_mw: int | None = None    # at the last reading
    calibration_carry: int = 0           # remainder of the calibration's division, in mJ x ppm
    utc_ns: int | None = None            # the wall clock at the last reading
    off_from_ns: int | None = None       # that of the last boot's last reading, until the time off since then is booked


class Step(Struct, frozen=True):
    """What was used since the previous reading. ``gap_ns`` is the part of the waking time that nothing vouches for."""

    state: MeterState
    energy_mj: int
    gap_ns: int
    method: str


def limit_mj(previous: MeterState, device: DeviceReading, duration_ns: int) -> int:
    """The most that a device can have used: 1.2 x power limit x (time + one counter update), by the higher of the limits
    before and after."""
    limit_mw = max(previous.power_limit_mw or 0, device.power_limit_mw or 0) or UNKNOWN_LIMIT_MW
    return limit_mw * PLAUSIBLE_PERCENT * (duration_ns + COUNTER_UPDATE_NS) // (100 * NS_PER_S)
