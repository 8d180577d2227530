"""A calibrated device: every tick's energy times its factor, the remainder carried, and power that agrees."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agent.energy.metering import EnergyMeter
from agent.energy.sensor_factor import SensorFactors
from agent.model import PowerSample
from agent.settings import CalibrationRule
from agent.units import NS_PER_S
from tests.agent.records import BOOT_NS, UUID, device, reading


def factors(*rules: tuple[str, str]) -> SensorFactors:
    return SensorFactors([CalibrationRule(gpu=gpu, factor=Decimal(factor)) for gpu, factor in rules])


def test_the_first_glob_on_uuid_or_name_counts() -> None:
    found = factors(("GPU-1*", "1.1"), ("NVIDIA H100*", "0.9"))
    assert found.factor_ppm("GPU-1", "NVIDIA H100 PCIe") == 1_100_000
    assert found.factor_ppm("GPU-2", "NVIDIA H100 PCIe") == 900_000
    assert found.factor_ppm("GPU-2", "NVIDIA A100") == 1_000_000
    assert factors().factor_ppm("GPU-1", "") == 1_000_000


@given(st.lists(st.integers(0, 840_000), min_size=1, max_size=50), st.integers(500_000, 2_000_000))
def test_the_ticks_sum_to_the_calibrated_counter(deltas_mj: list[int], factor_ppm: int) -> None:
    calibration = factors(("*", f"{Decimal(factor_ppm) / 1_000_000}"))
    meter, counter_mj, booked_mj = EnergyMeter(), 10**9, 0
    for i, delta_mj in enumerate([0, *deltas_mj]):
        counter_mj += delta_mj
        at_ns = BOOT_NS + i * NS_PER_S
        for interval in meter.advance(reading(at_ns, device(at_ns, energy_mj=counter_mj)), calibration):
            booked_mj += interval.energy_mj
        assert booked_mj == sum(deltas_mj[:i]) * factor_ppm // 1_000_000


def test_the_carry_outlives_a_restart_and_the_counter_itself_is_kept_as_it_is() -> None:
    calibration, booked_mj, states = factors(("*", "1.034")), 0, {}
    for i in range(101):
        meter = EnergyMeter(states)                            # a restart at every tick
        at_ns = BOOT_NS + i * NS_PER_S
        booked_mj += sum(one.energy_mj for one in meter.advance(reading(at_ns, device(at_ns, energy_mj=i * 7)), calibration))
        states = dict(meter.states)
    assert booked_mj == 700 * 1034 // 1000
    assert states[UUID].energy_mj == 700


def test_a_factor_that_changes_counts_from_then_on() -> None:
    meter, booked = EnergyMeter(), []
    for i, factor in enumerate(("1.5", "1.5", "0.5", "1")):
        at_ns = BOOT_NS + i * NS_PER_S
        booked += [one.energy_mj for one in meter.advance(reading(at_ns, device(at_ns, energy_mj=i * 100_000)),
                                                          factors(("*", factor)))]
    assert booked == [150_000, 50_000, 100_000]


def test_the_power_of_a_reading_agrees_with_its_energy_and_the_rest_is_as_it_was() -> None:
    one = device(BOOT_NS, energy_mj=5, power_mw=100_000, power_average_mw=110_000, power_instant_mw=120_000,
                 power_samples=(PowerSample(1, 130_000),))
    other = device(BOOT_NS, uuid="GPU-2", power_mw=100_000)
    found = factors((UUID, "1.05")).power(reading(BOOT_NS, one, other))
    seen = found.devices[0]
    assert (seen.power_mw, seen.power_average_mw, seen.power_instant_mw, seen.power_samples[0].power_mw) == (
        105_000, 115_500, 126_000, 136_500)
    assert (seen.energy_mj, seen.power_limit_mw) == (5, 700_000)
    assert found.devices[1] == other
    nothing_known = device(BOOT_NS, uuid=UUID)
    assert factors((UUID, "1.05")).power(reading(BOOT_NS, nothing_known)).devices[0] == nothing_known
