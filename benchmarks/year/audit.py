"""The product's figures less the truth's, line by line: all must be 0.

Money is exact: what a division has left over, the carry, is added to what was booked, and nothing may be missing then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from agent.ledger.query import UsageRow
from agent.model import Totals
from agent.units import ENERGY_COST_DENOMINATOR, TIME_COST_DENOMINATOR
from benchmarks.year.fleet import NS_PER_S, Gpu
from benchmarks.year.prices import NANO_PER_UNIT, PUE_PERCENT, ByBlock, ByMinute
from benchmarks.year.truth import HOST_PER_HOUR, PER_HOUR, RENTED, Truth

CARBON_G = 381
CostKey = tuple[str, tuple[str, ...], str, str]          # uuid, workload, component, currency
Off = dict[str, Fraction | int]


class Audit:
    """Compares one lane. ``lives``: how many times pricing began anew."""

    def __init__(self, truth: Truth, prices: ByMinute | ByBlock, gpus: Sequence[Gpu], lives: int, *, with_host: bool) -> None:
        self._truth, self._prices, self._gpus = truth, prices, gpus
        self._names = {gpu.uuid: gpu.name for gpu in gpus}
        self._lives, self._with_host = lives, with_host

    def energy(self, totals: Totals) -> Off:
        truth = self._truth
        plain = {gpu.uuid for gpu in self._gpus if not gpu.divided}
        states_ns = {key: ns for key, ns in totals.device_state_ns.items() if key[0] in plain}
        per_kwh_ug = Fraction(PUE_PERCENT, 100) * CARBON_G * 1_000_000 / 3_600_000_000
        lost_ug = [per_kwh_ug * mj - totals.emissions_ug[key] for key, mj in truth.energy_mj.items() if mj]
        return {
            "devices' energy, mJ": _apart(totals.device_energy_mj, truth.device_mj),
            "workloads' energy, mJ": _apart(totals.energy_mj, truth.energy_mj),
            "workloads' GPU time, ns": _apart(totals.gpu_ns, truth.gpu_ns),
            "states' time, ns": _apart(states_ns, {key: s * NS_PER_S for key, s in truth.state_s.items() if key[0] in plain}),
            "unpriced energy, mJ": sum(totals.device_unpriced_mj.values()),
            # what is left of a microgram is not carried through a restart or a reload
            "emissions beyond 1 ug a life": sum(not 0 <= ug < self._lives for ug in lost_ug)}

    def money(self, net: Mapping[CostKey, int], totals: Totals,
                   carries: Mapping[CostKey, int]) -> Off:
        """Exact charges less what is booked and carried; and how many counters are a whole nano-unit off without the carry."""
        truth, currency = self._truth, self._prices.currency
        exact: dict[CostKey, Fraction] = {}
        unit = NANO_PER_UNIT * PUE_PERCENT / 3_600_000_000
        host = HOST_PER_HOUR * NS_PER_S * truth.host_s / 3_600 if self._with_host else 0
        parents = {uuid: self._parent(uuid) for uuid, _ in truth.energy_mj}
        for key in truth.energy_mj:
            for component, price in PER_HOUR[self._names[parents[key[0]]]].items():
                exact[*key, component, currency] = price * truth.gpu_ns[key] / 3_600
            if isinstance(self._prices, ByMinute) and self._names[parents[key[0]]] != RENTED:
                exact[*key, "energy", currency] = unit * truth.units[key]
        booked = {key: nano + _carried(key, carries) for key, nano in net.items()}
        off: Off = {
            "host's cost, nano": abs(sum(nano for key, nano in booked.items() if key[2] == "host") - host)}
        if isinstance(self._prices, ByBlock):
            total = self._prices.cost * NANO_PER_UNIT / 3_600_000_000
            off["energy's cost over all blocks, nano"] = abs(
                sum(nano for key, nano in booked.items() if key[2] == "energy") - total)
        else:
            most = self._prices.signs + 1
            off["credits beyond a nano-unit a change of sign"] = sum(
                abs(unit * units - totals.credit_nano.get((*key, "energy", currency), 0)) > most
                for key, units in truth.credit_units.items())
        for component in sorted({key[2] for key in exact}):
            off[f"{component}'s cost, nano"] = _apart({key: nano for key, nano in booked.items() if key[2] == component},
                                                      {key: nano for key, nano in exact.items() if key[2] == component})
        off["counters a nano-unit or more off"] = sum(not 0 <= nano - net.get(key, 0) < 1 for key, nano in exact.items())
        return off

    def bill(self, net: Mapping[CostKey, int], months: list[UsageRow],
                  rates: Mapping[str, int]) -> Off:
        """Each month and each rate of the bill. A month may begin and end in the middle of a nano-unit of each counter."""
        truth = self._truth
        if isinstance(self._prices, ByBlock):
            return {"rates' energy, mJ": abs(sum(truth.device_mj.values()) - rates["base"])}
        unit = NANO_PER_UNIT * PUE_PERCENT / 3_600_000_000
        counters = sum(key[2] == "energy" for key in net)
        billed: defaultdict[str, int] = defaultdict(int)
        for row in months:
            billed[row.keys[0]] += row.cost_nano if row.keys[1] == "energy" else 0
        return {
            "rates' energy, mJ": sum(abs(mj - rates.get(rate, 0)) for rate, mj in truth.rate_mj.items()),
            "months beyond a nano-unit a counter": sum(
                abs(unit * units - billed[month]) > counters for month, units in truth.month_units.items())
            + (len(billed) != len(truth.month_units))}

    def _parent(self, uuid: str) -> str:
        return self._gpus[int(uuid.split("-")[1])].uuid if uuid.startswith("MIG-") else uuid


def _apart(found: Mapping[object, Fraction | int], true: Mapping[object, Fraction | int]) -> Fraction | int:
    """The sum of all differences, key by key."""
    return sum((abs(found.get(key, 0) - true.get(key, 0)) for key in found.keys() | true.keys()), start=0)


def _carried(key: CostKey, carries: Mapping[CostKey, int]) -> Fraction:
    denominator = ENERGY_COST_DENOMINATOR if key[2] == "energy" else TIME_COST_DENOMINATOR
    return Fraction(carries.get(key, 0), denominator)
