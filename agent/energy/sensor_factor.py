"""The calibration factor of each device, for those who have compared its sensor with a meter of their own.

One factor multiplies all that the device's sensor says: its energy (in ``agent.energy.metering``, the remainder carried) and
the power readings that go with it, so that gauges and counters agree. The hardware counter itself is read as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from msgspec.structs import replace

from agent.model import DeviceReading, PowerSample, Reading
from agent.settings import CalibrationRule

UNITY_PPM = 1_000_000


class SensorFactors:
    """First rule whose glob matches a device's UUID or NVML name; 1 without one."""

    def __init__(self, rules: Iterable[CalibrationRule]) -> None:
        self._rules = tuple(rules)
        self._factors: dict[tuple[str, str], int] = {}

    def factor_ppm(self, uuid: str, name: str) -> int:
        """Millionths: exact, for a factor has at most six decimals."""
        if not self._rules:
            return UNITY_PPM
        factor_ppm = self._factors.get((uuid, name))
        if factor_ppm is None:
            factor_ppm = next((int(rule.factor * UNITY_PPM) for rule in self._rules
                               if fnmatchcase(uuid, rule.gpu) or fnmatchcase(name, rule.gpu)), UNITY_PPM)
            self._factors[uuid, name] = factor_ppm
        return factor_ppm

    def power(self, reading: Reading) -> Reading:
        """The reading with the power of each device as its meter would show it. Energy is left as it was read."""
        if not self._rules:
            return reading
        return replace(reading, devices=tuple(self._device(device) for device in reading.devices))

    def _device(self, device: DeviceReading) -> DeviceReading:
        ppm = self.factor_ppm(device.uuid, device.name)
        if ppm == UNITY_PPM:
            return device
        return replace(
            device, power_mw=_scaled(device.power_mw, ppm), power_average_mw=_scaled(device.power_average_mw, ppm),
            power_instant_mw=_scaled(device.power_instant_mw, ppm),
            power_samples=tuple(PowerSample(sample.timestamp_us, sample.power_mw * ppm // UNITY_PPM)
                                for sample in device.power_samples))


def _scaled(power_mw: int | None, ppm: int) -> int | None:
    return None if power_mw is None else power_mw * ppm // UNITY_PPM
