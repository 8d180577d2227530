"""What a device of the random fleet must have booked: plain rules over what it showed, without the meter's code."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from agent.model import DeviceReading, Reading
from agent.units import MJ_PER_KWH, NANO, NS_PER_S

Span = tuple[int, int, int]              # begin and end on the wall clock, in ns, and the energy in mJ


class _Truth:
    """``energy_mj`` is all; ``least_mj`` what is certain; ``gap_ns`` time that nothing vouches for."""

    def __init__(self) -> None:
        self.energy_mj = self.least_mj = self.gap_ns = 0
        self.fell: list[int] = []                            # the values from which a counter fell
        self._last: tuple[int, int] | None = None            # BOOTTIME and MONOTONIC of the last reading that counted

    def _elapsed(self, reading: Reading) -> tuple[int, int, int]:
        """Time since the last reading that counted: all of it, the waking part, and what was slept through in earnest."""
        assert self._last is not None
        elapsed_ns, awake_ns = reading.boottime_ns - self._last[0], reading.monotonic_ns - self._last[1]
        asleep_ns = elapsed_ns - awake_ns
        return elapsed_ns, awake_ns, asleep_ns if asleep_ns > NS_PER_S else 0

    def silent(self, reading: Reading) -> None:
        """A reading in which a device tells neither energy nor power: what comes next covers it. Where the machine has slept
        through all of the time, nothing is left to be told of it."""
        if self._last is not None:
            _, awake_ns, asleep_ns = self._elapsed(reading)
            if awake_ns == 0:
                self.gap_ns += asleep_ns
                self._moved(reading)

    def _moved(self, reading: Reading) -> None:
        self._last = (reading.boottime_ns, reading.monotonic_ns)


class Counted(_Truth):
    """A device with a counter: what it added since it was first seen. Where it fell, only what it added between two readings
    with none of the values from which it fell between them: else it may be back."""

    def __init__(self) -> None:
        super().__init__()
        self._first_mj = self._shown_mj = 0

    def read(self, reading: Reading, device: DeviceReading) -> Span | None:
        shown_mj = device.energy_mj
        assert shown_mj is not None
        if self._last is None:
            self._first_mj = self._shown_mj = shown_mj
            self._moved(reading)
            return None
        elapsed_ns, _, asleep_ns = self._elapsed(reading)
        if elapsed_ns == 0:
            return None
        before_mj = self._shown_mj
        if shown_mj < before_mj:
            self.fell.append(before_mj)
        elif not any(before_mj < fell_mj <= shown_mj for fell_mj in self.fell):
            self.least_mj += shown_mj - before_mj
        self._shown_mj, self.energy_mj = shown_mj, shown_mj - self._first_mj
        self.gap_ns += asleep_ns
        self._moved(reading)
        return reading.utc_ns - elapsed_ns, reading.utc_ns, shown_mj - before_mj


class Sampled(_Truth):
    """A device with buffered samples alone: each stands for the time since the one before it, a second at most. Samples over
    more time than passed are not believed: then it is the power before and after, over five seconds at most."""

    def __init__(self) -> None:
        super().__init__()
        self._exact_mj = Fraction(0)
        self._at_us = self._power_mw = 0

    def read(self, reading: Reading, device: DeviceReading) -> Span | None:
        assert device.power_mw is not None
        if self._last is None:
            self._at_us, self._power_mw = device.power_samples[-1].timestamp_us, device.power_mw
            self._moved(reading)
            return None
        elapsed_ns, awake_ns, asleep_ns = self._elapsed(reading)
        if not device.power_samples:
            return None                                      # what comes next covers this time
        hole_us = 0
        if (device.power_samples[-1].timestamp_us - self._at_us) * 1_000 > awake_ns + NS_PER_S:
            if awake_ns <= 5 * NS_PER_S:
                self._exact_mj += Fraction((self._power_mw + device.power_mw) * awake_ns, 2 * NS_PER_S)
            else:
                hole_us = awake_ns // 1_000
        else:
            for sample in device.power_samples:
                step_us = sample.timestamp_us - self._at_us
                if step_us <= 1_000_000:
                    self._exact_mj += Fraction(sample.power_mw * step_us, 1_000_000)
                else:
                    hole_us += step_us
                self._at_us = sample.timestamp_us
        self._at_us, self._power_mw = device.power_samples[-1].timestamp_us, device.power_mw
        before_mj, self.energy_mj = self.energy_mj, int(self._exact_mj)
        self.gap_ns += min(elapsed_ns, asleep_ns + min(awake_ns, hole_us * 1_000))
        self._moved(reading)
        return reading.utc_ns - elapsed_ns, reading.utc_ns, self.energy_mj - before_mj


class Spend:
    """What energy costs at prices that change every few seconds, spread evenly over the time in which it was drawn."""

    def __init__(self, prices: Sequence[Fraction], start_ns: int, turn_ns: int, turns: int) -> None:
        """Prices a kWh, over and over again from ``start_ns`` on; the last of ``turns`` then stays."""
        self._prices, self._start_ns, self._turn_ns, self._turns = prices, start_ns, turn_ns, turns
        self._sums: dict[str, tuple[Fraction, int]] = {}
        self.widest = max(prices) - min(prices)

    def of(self, uuid: str) -> tuple[Fraction, int]:
        """Nano-units so far, and how many times a price changed within an interval."""
        return self._sums.get(uuid, (Fraction(0), 0))

    def add(self, uuid: str, begin_ns: int, end_ns: int, energy_mj: int) -> None:
        nano, cuts = self.of(uuid)
        at_ns = begin_ns
        while at_ns < end_ns:
            turn = min((at_ns - self._start_ns) // self._turn_ns, self._turns - 1)
            until_ns = end_ns if turn == self._turns - 1 else min(end_ns, self._start_ns + (turn + 1) * self._turn_ns)
            part = Fraction(until_ns - at_ns, end_ns - begin_ns)
            nano += energy_mj * part * self._prices[turn % len(self._prices)] * NANO / MJ_PER_KWH
            cuts, at_ns = cuts + (until_ns < end_ns), until_ns
        self._sums[uuid] = nano, cuts
