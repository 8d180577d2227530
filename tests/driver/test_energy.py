"""Power, counter and buffered samples, read through the real pynvml, against closed forms."""

from __future__ import annotations

import random

import pynvml
import pytest

from tests.driver.client import World
from tests.driver.scenario import (
    SECOND_NS,
    ClockFile,
    Constant,
    Counter,
    Device,
    Points,
    Samples,
    Scenario,
    Sine,
    Square,
    Wave,
    boottime_ns,
    ns,
)

WAVES = [
    Constant(250.5),
    Square(100, 700, period_s=1.7, duty=0.3, phase_s=0.4),
    Square(100, 700, period_s=0.2, duty=0.3),
    Points((1, 100), (3, 700), (4, 50)),
    Points((1, 100), (30, 700), (400_000, 50), ramp=True),
    Constant(80) + Square(0, 500, period_s=0.9, duty=0.5) + Points((0, 0), (5, 20), ramp=True),
]
FIELDS = "[[v.nvmlReturn, v.valueType, v.value.ullVal] for v in n.nvmlDeviceGetFieldValues({handle}, [{fields}])]"


def fields(world: World, *which: int, device: int = 0) -> list[list[int]]:
    handle = f"n.nvmlDeviceGetHandleByIndex({device})"
    return world.client(FIELDS.format(handle=handle, fields=",".join(map(str, which))))


def energy_mj(world: World) -> int:
    return world.ask("GetTotalEnergyConsumption")


@pytest.mark.parametrize("wave", WAVES, ids=lambda wave: wave.text(1)[:20] if len(wave.parts()) == 1 else "sum")
def test_counter_is_the_integral_to_the_millijoule(world: World, clock: ClockFile, wave: Wave) -> None:
    epoch_ns = 5 * SECOND_NS
    device = Device("GPU-a", power=wave, counter=Counter(update_s=0.02, offset_mj=1_000_003))
    world.use(Scenario([device], epoch_ns=epoch_ns, clock=clock))
    rng = random.Random(7)
    for t_ns in [*(rng.randrange(20 * SECOND_NS) for _ in range(40)), 40 * 86_400 * SECOND_NS + 12_345]:
        clock.set_ns(epoch_ns + t_ns)
        updated_ns = t_ns // 20_000_000 * 20_000_000
        assert energy_mj(world) == 1_000_003 + device.true_energy_mj(0, updated_ns)
        assert fields(world, 83) == [[0, 3, 1_000_003 + device.true_energy_mj(0, updated_ns)]]


def test_sine_counter_agrees_with_its_integral(world: World, clock: ClockFile) -> None:
    device = Device("GPU-a", power=Sine(300, 200, period_s=3.3, phase_s=1), counter=Counter(update_s=0))
    world.use(Scenario([device], clock=clock))
    for t_ns in range(0, 10 * SECOND_NS, 333_333_333):
        clock.set_ns(t_ns)
        assert energy_mj(world) == pytest.approx(device.true_energy_mj(0, t_ns), abs=1)


def test_counter_on_the_machines_own_clock(world: World) -> None:
    epoch_ns = boottime_ns() - 60 * SECOND_NS
    device = Device("GPU-a", power=Square(100, 700, period_s=0.2, duty=0.5), counter=Counter(update_s=0.05))
    world.use(Scenario([device], epoch_ns=epoch_ns))
    before_ns = boottime_ns() - epoch_ns
    shown = energy_mj(world)
    after_ns = boottime_ns() - epoch_ns
    assert device.true_energy_mj(0, before_ns - 50_000_000) <= shown <= device.true_energy_mj(0, after_ns)


def shown_at(world: World, clock: ClockFile, *instants_s: float) -> list[int]:
    shown = []
    for instant_s in instants_s:
        clock.set_ns(ns(instant_s))
        shown.append(energy_mj(world))
    return shown


def test_counter_events(world: World, clock: ClockFile) -> None:
    def counts(**events: object) -> None:
        counter = Counter(update_s=0.1, offset_mj=50, **events)       # type: ignore[arg-type]
        world.use(Scenario([Device("GPU-a", power=Constant(100), counter=counter)], clock=clock))

    counts()
    assert shown_at(world, clock, 1, 1.09, 1.1) == [100_050, 100_050, 110_050]
    counts(resets=[10, 20])
    assert shown_at(world, clock, 9.9, 10, 10.5, 20.1) == [990_050, 0, 50_000, 10_000]
    counts(freezes=[(10, 40)])
    assert shown_at(world, clock, 9.9, 10, 25, 39.9, 40) == [990_050, 1_000_050, 1_000_050, 1_000_050, 4_000_050]
    counts(falls=[(10, 12, 7)])
    assert shown_at(world, clock, 9.9, 10, 11, 12) == [990_050, 7, 100_007, 1_200_050]
    counts(jumps=[(10, 5_000_000)], resets=[20])
    assert shown_at(world, clock, 9.9, 10, 21) == [990_050, 6_000_050, 100_000]


def test_what_the_device_lacks_is_not_supported(world: World, clock: ClockFile) -> None:
    world.use(Scenario([
        Device("GPU-a", counter=None, samples=None, instant_power=False, limit_w=None),
        Device("GPU-b", power=None)], clock=clock))
    missing = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert world.error("GetTotalEnergyConsumption") == missing
    assert world.error("GetSamples", "0", "0") == missing
    assert world.error("GetEnforcedPowerLimit") == missing
    assert [code for code, _, _ in fields(world, 83, 185, 186, 190, 9999)] == [missing, 0, missing, missing, missing]
    assert world.error("GetPowerUsage", device=1) == missing
    assert [code for code, _, _ in fields(world, 185, 186, device=1)] == [missing, missing]


def test_power_readings_and_their_windows(world: World, clock: ClockFile) -> None:
    wave = Square(100, 500, period_s=2, duty=0.5)
    world.use(Scenario([
        Device("GPU-a", power=wave), Device("GPU-b", power=wave, power_window_s=0),
        Device("GPU-c", power=wave, power_window_s=0, power_update_s=0.3)], clock=clock))
    clock.set_ns(ns(1.25))      # the last second: 0.75 s high, 0.25 s low
    assert [world.ask("GetPowerUsage", device=i) for i in range(3)] == [400_000, 100_000, 100_000]
    assert [value for _, _, value in fields(world, 185, 186)] == [400_000, 100_000]
    clock.set_ns(ns(1.15))      # the third device still shows 0.9 s
    assert world.ask("GetPowerUsage", device=2) == 500_000
    assert [world.ask(f"Get{limit}") for limit in ("EnforcedPowerLimit", "PowerManagementLimit")] == [700_000] * 2
    assert world.ask("GetPowerManagementLimitConstraints") == [100_000, 700_000]


SAMPLES = "[[s.timeStamp, s.sampleValue.uiVal] for s in n.nvmlDeviceGetSamples(n.nvmlDeviceGetHandleByIndex({}), {}, {})[1]]"


def test_buffered_power_samples(world: World, clock: ClockFile) -> None:
    wave = Points((0, 0), (1000, 1000), ramp=True)      # as many watts as seconds
    world.use(Scenario([
        Device("GPU-a", power=wave, samples=Samples(period_s=0.1, depth=100)),
        Device("GPU-b", power=wave, samples=Samples(period_s=0.5, depth=4, window_s=2))],
        clock=clock, timestamp_offset_ns=3_000_000))
    clock.set_ns(ns(20.05))
    samples = world.client(SAMPLES.format(0, 0, 0))
    assert samples == [[k * 100_000 + 3_000, k * 100] for k in range(101, 201)]
    assert world.client(SAMPLES.format(0, 0, 19_703_000)) == samples[-3:]
    assert world.error("GetSamples", "0", "20003000") == pynvml.NVML_ERROR_NOT_FOUND
    assert world.client(SAMPLES.format(1, 0, 0)) == [[k * 500_000 + 3_000, k * 500 - 1000] for k in range(37, 41)]
    assert world.error("GetSamples", "5", "0") == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_utilization_and_its_samples(world: World, clock: ClockFile) -> None:
    device = Device("GPU-a", utilization=Square(10, 90, period_s=2), memory_utilization=Constant(7), use_period_s=0.5)
    world.use(Scenario([device], clock=clock))
    clock.set_ns(ns(3.2))
    rates = "(lambda u: [u.gpu, u.memory])(n.nvmlDeviceGetUtilizationRates(n.nvmlDeviceGetHandleByIndex(0)))"
    assert world.client(rates) == [10, 7]
    assert world.client(SAMPLES.format(0, 1, 1_900_000)) == [[2_000_000, 90], [2_500_000, 90], [3_000_000, 10]]
    assert world.client(SAMPLES.format(0, 2, 2_900_000)) == [[3_000_000, 7]]
