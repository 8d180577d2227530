"""Readings to energy: what each device used since the previous reading, and how far that is vouched for.

Per device, in this order of preference (decided by what the device answered, never by its architecture):

- ``counter``: difference of the hardware counter (``nvmlDeviceGetTotalEnergyConsumption``, mJ since driver load);
- ``samples``: integral over the driver's buffered power samples, each timestamp used once;
- ``trapezoid_instant``, ``trapezoid``: trapezoid over instantaneous or averaged power.

The sum of what is booked never exceeds what the counter vouches for: a fall is a reset and books nothing, a frozen
counter's fallback is lent and taken back from what the counter later adds, a jump beyond the power limit is a gap.
Energy is multiplied by the device's calibration factor here and nowhere else, the remainder carried.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.energy.check import EnergyCheck
from agent.energy.counter import by_counter, by_loan
from agent.energy.integral import by_samples, by_trapezoid, trapezoid_of
from agent.energy.meter import MeterState, Step
from agent.energy.off_time import SETTLED_NS, OffTime, off_time
from agent.energy.sensor_factor import UNITY_PPM, SensorFactors
from agent.model import DeviceReading, EnergyInterval, Reading
from agent.units import NS_PER_S

__all__ = ["Booking", "EnergyMeter", "MeterState", "book", "method_of"]

SUSPEND_NS = NS_PER_S                   # BOOTTIME ahead of MONOTONIC by more than this: the machine slept
UNWATCHED_NS = 10 * NS_PER_S            # longer between two good readings: nobody can be named for it
_UNCALIBRATED = SensorFactors(())


class Booking(Struct, frozen=True):
    """An interval and the state of the meter after it."""

    interval: EnergyInterval | None
    state: MeterState


class EnergyMeter:
    """Turns successive readings into intervals. One per pipeline; remembers one MeterState a device."""

    def __init__(self, states: Mapping[str, MeterState] | None = None) -> None:
        self._states: dict[str, MeterState] = dict(states or {})
        self._checks: dict[str, EnergyCheck] = {}
        self.off: tuple[OffTime, ...] = ()       # what the last reading told of times in which devices were off

    @property
    def states(self) -> Mapping[str, MeterState]:
        """The meters as they stand, by UUID; what the ledger keeps."""
        return self._states

    def check(self, uuid: str) -> EnergyCheck | None:
        """How far counter and integral of a device lie apart; None for one that was never read."""
        return self._checks.get(uuid)

    def advance(self, reading: Reading, calibration: SensorFactors = _UNCALIBRATED,
                unwatched_ns: int = UNWATCHED_NS) -> tuple[EnergyInterval, ...]:
        """The intervals that this reading ends: none for a device seen for the first time, or one that failed. Those longer
        than ``unwatched_ns`` are marked as time in which the agent did not watch. ``off`` then has what came before the
        machine's start, once the wall clock can be trusted with it."""
        intervals = []
        off: list[OffTime | None] = []
        for device in reading.devices:
            if device.failed is not None or device.parent_uuid is not None:
                continue
            check = self._checks.get(device.uuid)
            if check is None:
                check = self._checks[device.uuid] = EnergyCheck()
            check.observe(device, _monotonic_ns(device, reading))
            last = self._states.get(device.uuid)
            booking = book(last, device, reading, unwatched_ns)
            state, interval = booking.state, booking.interval
            if last is not None and last.boot_id != state.boot_id and last.off_from_ns is not None and last.utc_ns is not None:
                off.append(off_time(device.uuid, last.off_from_ns, last.utc_ns - last.boottime_ns))     # before the last boot
            if state.off_from_ns is not None and state.utc_ns is not None and state.boottime_ns >= SETTLED_NS:
                off.append(off_time(device.uuid, state.off_from_ns, state.utc_ns - state.boottime_ns))
                state = replace(state, off_from_ns=None)
            if interval is not None:
                factor_ppm = calibration.factor_ppm(device.uuid, device.name)
                if factor_ppm != UNITY_PPM or state.calibration_carry:
                    energy_mj, carry = divmod(interval.energy_mj * factor_ppm + state.calibration_carry, UNITY_PPM)
                    interval, state = replace(interval, energy_mj=energy_mj), replace(state, calibration_carry=carry)
                intervals.append(interval)
            self._states[device.uuid] = state
        self.off = tuple([time for time in off if time is not None])
        return tuple(intervals)


def method_of(device: DeviceReading) -> str:
    """The energy method that a reading of a device allows; ``none`` where it answers neither energy nor power."""
    if device.energy_mj is not None:
        return "counter"
    return "samples" if device.power_samples else trapezoid_of(device)


def book(previous: MeterState | None, device: DeviceReading, reading: Reading, unwatched_ns: int = UNWATCHED_NS) -> Booking:
    """One step of one device's meter, uncalibrated. Pure."""
    monotonic_ns = _monotonic_ns(device, reading)
    if previous is not None and previous.boot_id != reading.boot_id:
        previous = _at_boot(previous, device, reading)
    if previous is None or device.boottime_ns < previous.boottime_ns:
        return Booking(None, _first(previous, device, reading, monotonic_ns))
    elapsed_ns = device.boottime_ns - previous.boottime_ns
    if elapsed_ns == 0:
        return Booking(None, previous)
    awake_ns = max(0, min(elapsed_ns, monotonic_ns - previous.monotonic_ns))
    asleep_ns = elapsed_ns - awake_ns if elapsed_ns - awake_ns > SUSPEND_NS else 0
    step = _step(previous, device, awake_ns, monotonic_ns, reopened=reading.session != previous.session)
    if step is None:
        return Booking(None, previous)                     # the next good reading's interval covers this time too
    end_utc_ns = _utc_ns(device, reading)
    interval = EnergyInterval(
        uuid=device.uuid, start_utc_ns=end_utc_ns - elapsed_ns, end_utc_ns=end_utc_ns, elapsed_ns=elapsed_ns,
        energy_mj=step.energy_mj, gap_ns=min(elapsed_ns, asleep_ns + step.gap_ns), method=step.method,
        bridged=elapsed_ns - asleep_ns > unwatched_ns)
    state = replace(step.state, booked_mj=previous.booked_mj + step.energy_mj)
    return Booking(interval, _moved(state, device, reading, monotonic_ns))


def _step(previous: MeterState, device: DeviceReading, awake_ns: int, monotonic_ns: int, *, reopened: bool) -> Step | None:
    if previous.energy_mj is not None and device.energy_mj is not None:
        return by_counter(previous, previous.energy_mj, device, device.energy_mj, awake_ns, monotonic_ns, reopened=reopened)
    if previous.energy_mj is not None:
        return by_loan(previous, device, awake_ns, monotonic_ns)
    if previous.sample_us is not None or device.power_samples:
        return by_samples(previous, device, awake_ns)
    return by_trapezoid(previous, device, awake_ns)


def _monotonic_ns(device: DeviceReading, reading: Reading) -> int:
    return reading.monotonic_ns - (reading.boottime_ns - device.boottime_ns)


def _utc_ns(device: DeviceReading, reading: Reading) -> int:
    return reading.utc_ns - (reading.boottime_ns - device.boottime_ns)


def _at_boot(previous: MeterState, device: DeviceReading, reading: Reading) -> MeterState:
    """The meter of a known device at the machine's start: BOOTTIME and MONOTONIC begin there, and so does the counter, with
    the driver. So what it shows at the first reading has been used since."""
    return MeterState(
        boot_id=reading.boot_id, boottime_ns=0, monotonic_ns=0, session=previous.session, booked_mj=previous.booked_mj,
        energy_mj=0 if device.energy_mj is not None else None, calibration_carry=previous.calibration_carry,
        off_from_ns=previous.utc_ns)


def _first(previous: MeterState | None, device: DeviceReading, reading: Reading, monotonic_ns: int) -> MeterState:
    newest = device.power_samples[-1] if device.power_samples and device.energy_mj is None else None
    state = MeterState(
        boot_id=reading.boot_id, boottime_ns=0, monotonic_ns=0, changed_ns=monotonic_ns,
        sample_us=newest.timestamp_us if newest else None,
        calibration_carry=previous.calibration_carry if previous is not None else 0)
    return _moved(state, device, reading, monotonic_ns)


def _moved(state: MeterState, device: DeviceReading, reading: Reading, monotonic_ns: int) -> MeterState:
    return replace(
        state, boottime_ns=device.boottime_ns, monotonic_ns=monotonic_ns, session=reading.session,
        utc_ns=_utc_ns(device, reading),
        power_mw=device.power_mw, power_average_mw=device.power_average_mw, power_instant_mw=device.power_instant_mw,
        power_limit_mw=device.power_limit_mw if device.power_limit_mw is not None else state.power_limit_mw,
        energy_mj=device.energy_mj if device.energy_mj is not None else state.energy_mj,
        changed_ns=state.changed_ns if state.energy_mj is not None else monotonic_ns)
