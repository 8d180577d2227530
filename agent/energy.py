"""Readings to energy: what each device used since the previous reading, and how far that is vouched for.

Per device, in this order of preference (decided by what the device answered, never by its architecture):

- ``counter``: difference of the hardware counter (``nvmlDeviceGetTotalEnergyConsumption``, mJ since driver load);
- ``samples``: integral over the driver's buffered power samples, each timestamp used once;
- ``trapezoid_instant``, ``trapezoid``: trapezoid over instantaneous or averaged power.

The sum of what is booked never exceeds what the counter vouches for: a fall is a reset and books nothing, a frozen
counter's fallback is lent and taken back from what the counter later adds, a jump beyond the power limit is a gap.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.model import DeviceReading, EnergyInterval, Reading
from agent.units import NS_PER_MS, NS_PER_S

COUNTER_UPDATE_NS = 100 * NS_PER_MS     # the slowest update period seen on any architecture (DESIGN: 20 to 100 ms)
STALE_AFTER_NS = 5 * COUNTER_UPDATE_NS
SUSPEND_NS = NS_PER_S                   # BOOTTIME ahead of MONOTONIC by more than this: the machine slept
MAX_INTEGRAL_NS = 5 * NS_PER_S          # a trapezoid over a longer silence would be a guess
UNWATCHED_NS = 10 * NS_PER_S            # longer between two good readings: nobody can be named for it
PLAUSIBLE_PERCENT = 120                 # of the power limit
UNKNOWN_LIMIT_MW = 2_000_000            # no card draws more; used where the limit is not readable


class MeterState(Struct, frozen=True):
    """Where one device's meter stands. Kept in the ledger so that a restart goes on from the last committed tick."""

    boot_id: str
    boottime_ns: int                     # end of the last booked interval
    monotonic_ns: int
    energy_mj: int | None = None         # counter value that is booked, or None without a counter
    changed_ns: int = 0                  # BOOTTIME at which the counter last moved
    lent_mj: int = 0                     # booked from the fallback while the counter stood still
    peak_mj: int | None = None           # counter before a fall, in case it recovers
    fell_ns: int = 0                     # BOOTTIME of that fall
    since_fall_mj: int = 0               # booked since
    power_mw: int | None = None
    power_instant_mw: int | None = None
    sample_us: int | None = None         # newest buffered sample used
    sample_mw: int = 0
    carry: int = 0                       # remainder of the trapezoid's division


class Booking(Struct, frozen=True):
    """An interval and the state of the meter after it."""

    interval: EnergyInterval | None
    state: MeterState


class EnergyMeter:
    """Turns successive readings into intervals. One per pipeline; remembers one MeterState a device."""

    def __init__(self, states: Mapping[str, MeterState] | None = None) -> None:
        self._states: dict[str, MeterState] = dict(states or {})

    @property
    def states(self) -> Mapping[str, MeterState]:
        """The meters as they stand, by UUID; what the ledger keeps."""
        return self._states

    def advance(self, reading: Reading) -> tuple[EnergyInterval, ...]:
        """The intervals that this reading ends: none for a device seen for the first time, or one that failed."""
        intervals = []
        for device in reading.devices:
            if device.failed is not None or device.parent_uuid is not None:
                continue
            previous = self._states.get(device.uuid)
            booking = book(previous, device, reading)
            self._states[device.uuid] = booking.state
            if booking.interval is not None:
                intervals.append(booking.interval)
        return tuple(intervals)


def method_of(device: DeviceReading) -> str:
    """The energy method that a reading of a device allows; ``none`` where it answers neither energy nor power."""
    if device.energy_mj is not None:
        return "counter"
    if device.power_samples:
        return "samples"
    if device.power_instant_mw is not None:
        return "trapezoid_instant"
    return "trapezoid" if device.power_mw is not None else "none"


def book(previous: MeterState | None, device: DeviceReading, reading: Reading) -> Booking:
    """One step of one device's meter. Pure."""
    monotonic_ns = reading.monotonic_ns - (reading.boottime_ns - device.boottime_ns)
    if previous is None or previous.boot_id != reading.boot_id or device.boottime_ns <= previous.boottime_ns:
        return Booking(None, _first(device, reading, monotonic_ns))
    elapsed_ns = device.boottime_ns - previous.boottime_ns
    awake_ns = min(elapsed_ns, monotonic_ns - previous.monotonic_ns)
    asleep_ns = elapsed_ns - awake_ns if elapsed_ns - awake_ns > SUSPEND_NS else 0
    if device.energy_mj is not None and previous.energy_mj is not None:
        method = "counter"
        state, energy_mj, vouched = _by_counter(previous, previous.energy_mj, device, device.energy_mj, awake_ns)
    elif previous.energy_mj is not None and "energy_mj" in device.errors and elapsed_ns <= UNWATCHED_NS:
        # The counter failed for a moment: the next good reading's difference covers this time too.
        return Booking(None, previous)
    elif device.power_samples:
        method = "samples"
        state, energy_mj, vouched = _by_samples(previous, device)
    else:
        method = method_of(device)
        state, energy_mj, vouched = _by_trapezoid(previous, device, awake_ns, method)
    unwatched = elapsed_ns - asleep_ns > UNWATCHED_NS
    end_utc_ns = reading.utc_ns - (reading.boottime_ns - device.boottime_ns)
    interval = EnergyInterval(
        uuid=device.uuid, start_utc_ns=end_utc_ns - elapsed_ns, end_utc_ns=end_utc_ns, elapsed_ns=elapsed_ns,
        energy_mj=energy_mj, gap_ns=asleep_ns if vouched else elapsed_ns, method=method, bridged=unwatched,
    )
    return Booking(interval, _moved(state, device, monotonic_ns))


def _first(device: DeviceReading, reading: Reading, monotonic_ns: int) -> MeterState:
    newest = device.power_samples[-1] if device.power_samples else None
    return MeterState(
        boot_id=reading.boot_id, boottime_ns=device.boottime_ns, monotonic_ns=monotonic_ns,
        energy_mj=device.energy_mj, changed_ns=device.boottime_ns,
        power_mw=device.power_mw, power_instant_mw=device.power_instant_mw,
        sample_us=newest.timestamp_us if newest else None, sample_mw=newest.power_mw if newest else 0,
    )


def _moved(state: MeterState, device: DeviceReading, monotonic_ns: int) -> MeterState:
    return replace(
        state, boottime_ns=device.boottime_ns, monotonic_ns=monotonic_ns,
        power_mw=device.power_mw, power_instant_mw=device.power_instant_mw,
        energy_mj=device.energy_mj if device.energy_mj is not None else state.energy_mj,
    )


def _limit_mj(device: DeviceReading, duration_ns: int) -> int:
    """The most that a device can have used: 1.2 x power limit x (time + one counter update)."""
    limit_mw = device.power_limit_mw or UNKNOWN_LIMIT_MW
    return limit_mw * PLAUSIBLE_PERCENT * (duration_ns + COUNTER_UPDATE_NS) // (100 * NS_PER_S)


def _by_counter(previous: MeterState, before_mj: int, device: DeviceReading, now_mj: int,
                awake_ns: int) -> tuple[MeterState, int, bool]:
    now_ns = device.boottime_ns
    delta_mj = now_mj - before_mj
    if delta_mj < 0:
        peak_mj = max(before_mj, previous.peak_mj or 0)
        return replace(previous, changed_ns=now_ns, lent_mj=0, peak_mj=peak_mj, fell_ns=now_ns, since_fall_mj=0), 0, False
    if previous.peak_mj is not None and now_mj >= previous.peak_mj:
        # Back where it was before the fall. What it counted since, less what was booked since; a reset that only
        # counted its way up again gives less than nothing here, and goes on as before.
        recovered_mj = now_mj - previous.peak_mj - previous.since_fall_mj
        recovered = replace(previous, changed_ns=now_ns, lent_mj=0, peak_mj=None, since_fall_mj=0)
        if recovered_mj >= 0:
            plausible = recovered_mj <= _limit_mj(device, now_ns - previous.fell_ns)
            return recovered, recovered_mj if plausible else 0, plausible
        previous = replace(previous, peak_mj=None, since_fall_mj=0)
    if delta_mj == 0:
        return _by_loan(previous, device, awake_ns)
    still_ns = previous.boottime_ns - previous.changed_ns
    if delta_mj > _limit_mj(device, awake_ns + still_ns):
        return replace(previous, changed_ns=now_ns, lent_mj=0), 0, False
    repaid_mj = min(previous.lent_mj, delta_mj)
    booked_mj = delta_mj - repaid_mj
    moved = replace(previous, changed_ns=now_ns, lent_mj=previous.lent_mj - repaid_mj,
                    since_fall_mj=previous.since_fall_mj + booked_mj if previous.peak_mj is not None else 0)
    return moved, booked_mj, True


def _by_loan(previous: MeterState, device: DeviceReading, awake_ns: int) -> tuple[MeterState, int, bool]:
    """The counter stands still. Past several of its update periods, book power x time and remember it as lent."""
    if device.boottime_ns - previous.changed_ns < STALE_AFTER_NS or not device.power_mw:
        return previous, 0, True
    state, lent_mj, vouched = _by_trapezoid(previous, device, awake_ns, "trapezoid")
    since_fall_mj = previous.since_fall_mj + lent_mj if previous.peak_mj is not None else 0
    return replace(state, lent_mj=previous.lent_mj + lent_mj, since_fall_mj=since_fall_mj), lent_mj, vouched


def _by_trapezoid(previous: MeterState, device: DeviceReading, awake_ns: int,
                  method: str) -> tuple[MeterState, int, bool]:
    instant = method == "trapezoid_instant"
    before_mw = previous.power_instant_mw if instant else previous.power_mw
    after_mw = device.power_instant_mw if instant else device.power_mw
    if before_mw is None or after_mw is None or awake_ns > MAX_INTEGRAL_NS:
        return previous, 0, False
    energy_mj, carry = divmod((before_mw + after_mw) * awake_ns + previous.carry, 2 * NS_PER_S)
    return replace(previous, carry=carry), energy_mj, True


def _by_samples(previous: MeterState, device: DeviceReading) -> tuple[MeterState, int, bool]:
    """Trapezoid over the ring's own timestamps; a hole longer than MAX_INTEGRAL_NS is not bridged."""
    if previous.sample_us is None:
        newest = device.power_samples[-1]
        return replace(previous, sample_us=newest.timestamp_us, sample_mw=newest.power_mw), 0, False
    at_us, at_mw, doubled_mw_us, vouched = previous.sample_us, previous.sample_mw, previous.carry, True
    for sample in device.power_samples:
        step_us = sample.timestamp_us - at_us
        if step_us <= 0:
            continue
        if step_us * 1_000 > MAX_INTEGRAL_NS:
            vouched = False
        else:
            doubled_mw_us += (at_mw + sample.power_mw) * step_us
        at_us, at_mw = sample.timestamp_us, sample.power_mw
    energy_mj, carry = divmod(doubled_mw_us, 2_000_000)
    return replace(previous, sample_us=at_us, sample_mw=at_mw, carry=carry), energy_mj, vouched
