"""The closed forms against sums over many small steps, and against numbers worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.driver.scenario import SECOND_NS, Constant, Device, Points, Sine, Square, Wave

WAVES = [
    Constant(250),
    Square(100, 700, period_s=1.7, duty=0.3, phase_s=0.4),
    Sine(300, 120, period_s=2.3, phase_s=0.9),
    Points((1, 100), (3, 700), (4, 50)),
    Points((1, 100), (3, 700), (4, 50), ramp=True),
    Constant(80) + Square(0, 500, period_s=0.9, duty=0.5) + Sine(0, 20, period_s=5),
]


@pytest.mark.parametrize("wave", WAVES, ids=lambda wave: type(wave).__name__)
def test_integral_is_the_area_under_the_level(wave: Wave) -> None:
    start, end, step = -SECOND_NS // 2, 6 * SECOND_NS + 123_456_789, 100_000
    middles = range(start + step // 2, end, step)
    area = sum(wave.level(t, 1000) * step for t in middles)
    # A jump of at most 700 W may fall anywhere in a step, at most 20 times here; a level is rounded to 1 mW.
    assert wave.between(start, end, 1000) == pytest.approx(area, abs=20 * 700_000 * step + (end - start))


def test_energy_worked_out_by_hand() -> None:
    square = Device("GPU-a", power=Square(100, 700, period_s=2, duty=0.25))
    assert square.true_energy_mj(0, 2 * SECOND_NS) == 500_000       # 0.5 s x 700 W + 1.5 s x 100 W
    assert square.true_energy_mj(0, SECOND_NS // 4) == 175_000
    ramp = Device("GPU-a", power=Points((0, 0), (10, 100), ramp=True))
    assert ramp.true_energy_mj(0, 10 * SECOND_NS) == 500_000
    assert ramp.true_energy_mj(0, 20 * SECOND_NS) == 1_500_000
    sine = Device("GPU-a", power=Sine(200, 100, period_s=3))
    assert sine.true_energy_mj(0, 9 * SECOND_NS) == 1_800_000       # whole periods: the mean alone


def test_adjoining_intervals_add_up() -> None:
    device = Device("GPU-a", power=Sine(300.123, 99.9, period_s=0.77) + Square(1, 2, period_s=0.013, duty=0.7))
    cuts = [0, 1, 999_999_937, 1_234_567_891, 77 * SECOND_NS + 5]
    parts = [device.true_energy_mj(a, b) for a, b in pairwise(cuts)]
    assert sum(parts) == device.true_energy_mj(cuts[0], cuts[-1])
