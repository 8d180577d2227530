"""How far a device's counter and the integral of its power lie apart. It is shown and flagged; nothing is switched."""

from __future__ import annotations

from collections import deque

from agent.model import DeviceReading
from agent.units import NS_PER_S, NS_PER_US

WINDOW_NS = 60 * NS_PER_S
SUSPECT_RATIO = 0.10
_POINT_NS = NS_PER_S                    # points are at least so far apart, however short the ticks
_MAX_STEP_NS = 5 * NS_PER_S             # between two readings of power
_MAX_SAMPLE_NS = NS_PER_S               # between two buffered samples
_RING_LOST_NS = 10 * NS_PER_S           # without a sample


class EnergyCheck:
    """One device's counter beside the integral of its power: of its 1 s average, which no pulse escapes; without one, of
    the buffered samples; without those, of what it calls its power usage.

    Compares mean power over the last minute, so that samples that lag a little, or are missing for a while, do not tell.
    """

    def __init__(self) -> None:
        self.ratio: float | None = None  # (counter - integral) / integral over the last minute; None until there is one
        self._points: deque[tuple[int, int, int, int]] = deque()     # MONOTONIC ns, counter mJ, mW x ns, ns covered
        self._mw_ns = self._covered_ns = 0
        self._power: tuple[int, int] | None = None                   # MONOTONIC ns, mW
        self._sample_us: int | None = None
        self._sampled_ns = 0                                         # MONOTONIC of the newest samples' reading

    @property
    def suspect(self) -> bool | None:
        """Whether they differ by more than 10 %. None: not known."""
        return None if self.ratio is None else abs(self.ratio) > SUSPECT_RATIO

    def observe(self, device: DeviceReading, monotonic_ns: int) -> None:
        """Take up one reading; a counter that fell or is not there starts the minute anew."""
        self._integrate(device, monotonic_ns)
        counter_mj, points = device.energy_mj, self._points
        if counter_mj is None or (points and (counter_mj < points[-1][1] or monotonic_ns <= points[-1][0])):
            points.clear()
            self.ratio = None
        if counter_mj is None or (points and monotonic_ns - points[-1][0] < _POINT_NS):
            return
        if self._sample_us is not None and not device.power_samples:
            return                                       # a point where both are known
        points.append((monotonic_ns, counter_mj, self._mw_ns, self._covered_ns))
        while len(points) > 1 and points[1][0] <= monotonic_ns - WINDOW_NS:
            points.popleft()
        self.ratio = self._ratio()

    def _ratio(self) -> float | None:
        from_ns, from_mj, from_mw_ns, from_covered_ns = self._points[0]
        to_ns, to_mj, to_mw_ns, to_covered_ns = self._points[-1]
        covered_ns = to_covered_ns - from_covered_ns
        if to_ns - from_ns < WINDOW_NS or 2 * covered_ns < to_ns - from_ns or to_mw_ns == from_mw_ns:
            return None
        integral_mw = (to_mw_ns - from_mw_ns) / covered_ns
        counter_mw = (to_mj - from_mj) * NS_PER_S / (to_ns - from_ns)
        return counter_mw / integral_mw - 1

    def _integrate(self, device: DeviceReading, monotonic_ns: int) -> None:
        if device.power_average_mw is None and device.power_samples:
            self._sum_samples(device)
            self._power, self._sampled_ns = None, monotonic_ns
            return
        if device.power_average_mw is not None or monotonic_ns - self._sampled_ns > _RING_LOST_NS:
            self._sample_us = None                       # something better than a ring, or no ring any more
        power_mw = device.power_average_mw if device.power_average_mw is not None else device.power_mw
        if self._sample_us is None and power_mw is not None:
            if self._power is not None and 0 < monotonic_ns - self._power[0] <= _MAX_STEP_NS:
                step_ns = monotonic_ns - self._power[0]
                self._mw_ns += (self._power[1] + power_mw) * step_ns // 2
                self._covered_ns += step_ns
            self._power = (monotonic_ns, power_mw)

    def _sum_samples(self, device: DeviceReading) -> None:
        for sample in device.power_samples:
            if self._sample_us is not None:
                step_ns = (sample.timestamp_us - self._sample_us) * NS_PER_US
                if 0 < step_ns <= _MAX_SAMPLE_NS:
                    self._mw_ns += sample.power_mw * step_ns
                    self._covered_ns += step_ns
            self._sample_us = sample.timestamp_us
