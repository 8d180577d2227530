"""What a lane's devices did and what that costs, summed up as exact numbers beside the product."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from zoneinfo import ZoneInfo

from benchmarks.year.fleet import NS_PER_S, Gpu, Part
from benchmarks.year.prices import ByBlock, ByMinute

PLAIN, KEPT, RENTED, WRITTEN_OFF = "NVIDIA H100 80GB HBM3", "NVIDIA A30", "NVIDIA L40S", "NVIDIA T4"
PER_HOUR = {                             # NVML name -> component -> price an hour, as the configuration below has it
    PLAIN: {"hardware": Fraction(25, 10)}, KEPT: {"hardware": Fraction(1, 2), "maintenance": Fraction(1, 4)},
    RENTED: {"rent": Fraction(145, 100)}, WRITTEN_OFF: {}}
HOST_PER_HOUR = Fraction(9, 10)

Key = tuple[str, tuple[str, ...]]        # uuid, workload


class Truth:
    """What must come out. Money in nano-units as exact fractions."""

    def __init__(self, prices: ByMinute | ByBlock, zone: ZoneInfo) -> None:
        self._prices = prices
        self._zone = zone
        self.device_mj: defaultdict[str, int] = defaultdict(int)
        self.energy_mj: defaultdict[Key, int] = defaultdict(int)
        self.gpu_ns: defaultdict[Key, int] = defaultdict(int)
        self.state_s: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.units: defaultdict[Key, int] = defaultdict(int)             # of energy cost
        self.credit_units: defaultdict[Key, int] = defaultdict(int)
        self.month_units: defaultdict[str, int] = defaultdict(int)
        self.rate_mj: defaultdict[str, int] = defaultdict(int)
        self.hours: defaultdict[tuple[str, Key], Fraction] = defaultdict(Fraction)
        self.host_s = 0

    def add(self, gpu: Gpu, parts: list[Part], state: str, start_s: int, end_s: int) -> None:
        """An interval of one device, and what its parts drew and had of it."""
        elapsed_s, prices, rented = end_s - start_s, self._prices, gpu.name == RENTED
        self.device_mj[gpu.uuid] += sum(part.power_mw for part in parts) * elapsed_s
        self.state_s[gpu.uuid, state] += elapsed_s
        cost = credit = 0
        if isinstance(prices, ByMinute) and not rented:
            cost = prices.cost_until(end_s) - prices.cost_until(start_s)
            credit = prices.credit_until(end_s) - prices.credit_until(start_s)
        for part in parts:
            key = (part.uuid, part.workload)
            self.energy_mj[key] += part.power_mw * elapsed_s
            self.gpu_ns[key] += NS_PER_S * elapsed_s * part.time // part.whole
            self.units[key] += part.power_mw * cost
            self.credit_units[key] -= part.power_mw * credit

    def site(self, powers_mw: Mapping[str, int], names: Mapping[str, str], start_s: int, end_s: int) -> None:
        """All devices over an interval: what the months and rates of a bill have of it."""
        self.host_s += end_s - start_s
        prices = self._prices
        if isinstance(prices, ByBlock):
            prices.add(start_s, end_s, sum(powers_mw.values()))
            return
        power_mw = sum(power for uuid, power in powers_mw.items() if names[uuid] != RENTED)
        for rate in prices.rates:
            self.rate_mj[rate] += power_mw * (prices.seconds_until(rate, end_s) - prices.seconds_until(rate, start_s))
        while start_s < end_s:
            local = dt.datetime.fromtimestamp(start_s, self._zone)
            after = dt.datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=self._zone)
            until_s = min(end_s, int(after.timestamp()))
            self.month_units[f"{local:%Y-%m}"] += power_mw * (prices.cost_until(until_s) - prices.cost_until(start_s))
            start_s = until_s
