"""Energy as an integral of power, where no counter vouches for it: over the driver's buffered samples, else a trapezoid.

A buffered sample stands for the time since the one before it. That is exact where the driver gives means over its own
period, and for instantaneous samples differs from the trapezoid by half a step at the two ends only.
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.energy.meter import MeterState, Step, limit_mj
from agent.model import DeviceReading
from agent.units import NS_PER_MS, NS_PER_S, NS_PER_US

MAX_INTEGRAL_NS = 5 * NS_PER_S          # a trapezoid over a longer silence would be a guess
MAX_SAMPLE_NS = NS_PER_S                # no ring's period is longer: so much time without a sample is a hole
SILENT_NS = 2 * NS_PER_S                # a ring that gives nothing for so long is given up for now
CLOCK_SLACK_NS = NS_PER_S               # samples that cover this much more than the time that passed: their clock was set
AVERAGE_NS = 900 * NS_PER_MS            # readings at least so far apart see all of a 1 s average; closer ones, see instants
_DENOMINATOR = 2 * NS_PER_S


def by_trapezoid(previous: MeterState, device: DeviceReading, awake_ns: int) -> Step:
    """Power before and after, times the time between. A gap where power is unknown or the time too long.

    At a reading a second, instants of a pulsed load are a lottery and the device's own 1 s average loses nothing, so that
    the average, where the device tells that it is one, comes first for readings that far apart.
    """
    average = ("trapezoid", previous.power_average_mw, device.power_average_mw)
    instant = ("trapezoid_instant", previous.power_instant_mw, device.power_instant_mw)
    either = ("trapezoid", previous.power_mw, device.power_mw)
    ways = (average, instant, either) if awake_ns >= AVERAGE_NS else (instant, either)
    for method, before_mw, after_mw in ways:
        if before_mw is not None and after_mw is not None and awake_ns <= MAX_INTEGRAL_NS:
            doubled = (before_mw + after_mw) * awake_ns
            return _booked(previous, device, doubled, awake_ns, 0, method)
    return Step(previous, 0, awake_ns, trapezoid_of(device))


def trapezoid_of(device: DeviceReading) -> str:
    """Which trapezoid a device allows, at a reading a second; ``none`` where it tells no power."""
    if device.power_average_mw is None and device.power_instant_mw is not None:
        return "trapezoid_instant"
    return "none" if device.power_average_mw is None and device.power_mw is None else "trapezoid"


def by_samples(previous: MeterState, device: DeviceReading, awake_ns: int) -> Step | None:
    """The samples newer than the last one used. None while a ring is silent for a moment: what it then brings covers
    this time too. Samples follow the wall clock; only the steps between them are used, and a step of that clock is a
    trapezoid instead."""
    newest_us = device.power_samples[-1].timestamp_us if device.power_samples else None
    if previous.sample_us is None or newest_us is None or newest_us <= previous.sample_us:
        if previous.sample_us is not None and awake_ns <= SILENT_NS:
            return None
        step = by_trapezoid(previous, device, awake_ns)
        return replace(step, state=replace(step.state, sample_us=newest_us if previous.sample_us is None else None))
    if (newest_us - previous.sample_us) * NS_PER_US > awake_ns + CLOCK_SLACK_NS:
        step = by_trapezoid(previous, device, awake_ns)
        return replace(step, state=replace(step.state, sample_us=newest_us))
    at_us, mw_us, hole_us = previous.sample_us, 0, 0
    for sample in device.power_samples:
        step_us = sample.timestamp_us - at_us
        if step_us <= 0:
            continue
        if step_us * NS_PER_US > MAX_SAMPLE_NS:
            hole_us += step_us
        else:
            mw_us += sample.power_mw * step_us
        at_us = sample.timestamp_us
    state = replace(previous, sample_us=at_us)
    return _booked(state, device, 2 * NS_PER_US * mw_us, awake_ns, min(awake_ns, hole_us * NS_PER_US), "samples")


def _booked(state: MeterState, device: DeviceReading, doubled: int, awake_ns: int, gap_ns: int, method: str) -> Step:
    energy_mj, carry = divmod(doubled + state.carry, _DENOMINATOR)
    if energy_mj > limit_mj(state, device, awake_ns + CLOCK_SLACK_NS):
        return Step(state, 0, awake_ns, method)
    return Step(replace(state, carry=carry), energy_mj, gap_ns, method)
