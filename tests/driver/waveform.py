"""Waveforms of time and their exact integrals, in the same integers as the C double, written apart from it.

Levels are watts where a power is meant and percent where a utilization is; ``scale`` turns them into the file's integers
(1000 for milliwatts, 1 for percent). Times given are seconds after the scenario's epoch; times asked are nanoseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

SECOND_NS = 1_000_000_000


def ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)


class Wave:
    """A level at every instant. Waves add up: ``Constant(80) + Square(0, 500, period_s=2, duty=0.5)``."""

    def __add__(self, other: Wave) -> Wave:
        return Sum((*self.parts(), *other.parts()))

    def parts(self) -> tuple[Wave, ...]:
        return (self,)

    def texts(self, scale: int) -> list[str]:
        """The lines' ends that describe it to the double, one a part."""
        return [self.text(scale)]

    def text(self, scale: int) -> str:
        raise NotImplementedError

    def level(self, t_ns: int, scale: int) -> int:
        raise NotImplementedError

    def integral(self, t_ns: int, scale: int) -> int:
        """Scaled level x nanoseconds, from a fixed origin: only differences mean anything."""
        raise NotImplementedError

    def between(self, from_ns: int, to_ns: int, scale: int) -> int:
        return self.integral(to_ns, scale) - self.integral(from_ns, scale)


@dataclass(frozen=True)
class Constant(Wave):
    value: float

    def text(self, scale: int) -> str:
        return f"constant {round(self.value * scale)}"

    def level(self, t_ns: int, scale: int) -> int:
        return round(self.value * scale)

    def integral(self, t_ns: int, scale: int) -> int:
        return round(self.value * scale) * t_ns


@dataclass(frozen=True)
class Square(Wave):
    """``high`` for the first ``duty`` of each period, then ``low``; the first period begins at ``phase_s``."""

    low: float
    high: float
    period_s: float
    duty: float = 0.5
    phase_s: float = 0.0

    def _integers(self, scale: int) -> tuple[int, int, int, int, int]:
        period_ns = ns(self.period_s)
        return (round(self.low * scale), round(self.high * scale), period_ns,
                round(period_ns * self.duty), ns(self.phase_s))

    def text(self, scale: int) -> str:
        return "square " + " ".join(map(str, self._integers(scale)))

    def level(self, t_ns: int, scale: int) -> int:
        low, high, period_ns, high_ns, phase_ns = self._integers(scale)
        return high if (t_ns - phase_ns) % period_ns < high_ns else low

    def integral(self, t_ns: int, scale: int) -> int:
        low, high, period_ns, high_ns, phase_ns = self._integers(scale)
        cycles, rest_ns = divmod(t_ns - phase_ns, period_ns)
        total_high_ns = cycles * high_ns + min(rest_ns, high_ns)
        return low * (t_ns - phase_ns) + (high - low) * total_high_ns


@dataclass(frozen=True)
class Sine(Wave):
    mean: float
    amplitude: float
    period_s: float
    phase_s: float = 0.0

    def text(self, scale: int) -> str:
        levels = f"{round(self.mean * scale)} {round(self.amplitude * scale)}"
        return f"sine {levels} {ns(self.period_s)} {ns(self.phase_s)}"

    def _angle(self, t_ns: int) -> float:
        period_ns = ns(self.period_s)
        return 2.0 * math.pi * ((t_ns - ns(self.phase_s)) % period_ns) / period_ns

    def level(self, t_ns: int, scale: int) -> int:
        return round(self.mean * scale) + math.floor(round(self.amplitude * scale) * math.sin(self._angle(t_ns)) + 0.5)

    def integral(self, t_ns: int, scale: int) -> int:
        swing = round(self.amplitude * scale) * ns(self.period_s) / (2.0 * math.pi) * (1.0 - math.cos(self._angle(t_ns)))
        return round(self.mean * scale) * t_ns + math.floor(swing + 0.5)


@dataclass(frozen=True)
class Points(Wave):
    """Levels at instants, first and last held for ever: between two points the level holds, or with ``ramp`` rises straight.

    ``Points((0, 100), (10, 700), (20, 100))`` holds; ``Points((0, 100), (10, 700), ramp=True)`` rises for ten seconds.
    """

    points: tuple[tuple[float, float], ...]
    ramp: bool = False

    def __init__(self, *points: tuple[float, float], ramp: bool = False) -> None:
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "ramp", ramp)

    MARK: ClassVar[dict[bool, str]] = {False: ":", True: "/"}

    def _integers(self, scale: int) -> list[tuple[int, int]]:
        return [(ns(at_s), round(level * scale)) for at_s, level in self.points]

    def text(self, scale: int) -> str:
        return "points " + " ".join(f"{at}{self.MARK[self.ramp]}{level}" for at, level in self._integers(scale))

    def level(self, t_ns: int, scale: int) -> int:
        points = self._integers(scale)
        if t_ns < points[0][0]:
            return points[0][1]
        for (start, level), (end, following) in pairwise(points):
            if t_ns < end:
                return level + ((following - level) * (t_ns - start) // (end - start) if self.ramp else 0)
        return points[-1][1]

    def integral(self, t_ns: int, scale: int) -> int:
        points = self._integers(scale)
        first_ns, first_level = points[0]
        if t_ns <= first_ns:
            return first_level * (t_ns - first_ns)
        area = 0
        for (start, level), (end, following) in pairwise(points):
            if t_ns <= start:
                return area
            length = min(t_ns, end) - start
            area += level * length
            if self.ramp:
                area += (following - level) * length * length // (2 * (end - start))
        last_ns, last_level = points[-1]
        return area + last_level * max(0, t_ns - last_ns)


@dataclass(frozen=True)
class Sum(Wave):
    terms: tuple[Wave, ...]

    def parts(self) -> tuple[Wave, ...]:
        return self.terms

    def texts(self, scale: int) -> list[str]:
        return [term.text(scale) for term in self.terms]

    def level(self, t_ns: int, scale: int) -> int:
        return sum(term.level(t_ns, scale) for term in self.terms)

    def integral(self, t_ns: int, scale: int) -> int:
        return sum(term.integral(t_ns, scale) for term in self.terms)
