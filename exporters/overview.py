"""What a person or a program wants to know first, added up from a Snapshot: per workload over its devices, and in all.

Money stays in integer nano-units per currency; amounts of different currencies are never added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from msgspec import Struct

from agent.model import Snapshot, Workload
from exporters.families import is_up

Money = Mapping[str, int]                        # currency -> nano-units


class WorkloadLine(Struct, frozen=True):
    """One workload over all its devices: lifetime totals, and what it draws now."""

    workload: Workload
    energy_mj: int
    gpu_ns: int
    net_cost_nano: Money                         # cost less credit
    power_mw: int | None                         # None: draws on no device that answers
    cost_nano_per_hour: int | None               # None: no power, or no price


class Overview(Struct, frozen=True):
    """A snapshot in sums."""

    lines: tuple[WorkloadLine, ...]              # dearest first
    net_cost_nano: Money
    waste_nano: Mapping[tuple[str, str], int]    # reason, currency
    energy_mj: int
    power_mw: int | None                         # of the devices that answer; None when none does
    cost_nano_per_hour: int | None               # None: nothing that draws power has a price
    unpriced: int                                # workloads that draw now and have none
    devices_up: int


def overview(snapshot: Snapshot) -> Overview:
    """The sums of a snapshot."""
    totals = snapshot.totals
    energy: dict[Workload, int] = defaultdict(int)
    gpu: dict[Workload, int] = defaultdict(int)
    money: dict[Workload, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (_, workload), mj in totals.energy_mj.items():
        energy[workload] += mj
    for (_, workload), ns in totals.gpu_ns.items():
        gpu[workload] += ns
    for sign, amounts in ((1, totals.cost_nano), (-1, totals.credit_nano)):
        for (_, workload, _, currency), nano in amounts.items():
            money[workload][currency] += sign * nano
    up = [device for device in snapshot.devices if is_up(device, snapshot)]
    power, rate, unpriced = _now(snapshot, {device.uuid for device in up})
    workloads = {*energy, *gpu, *money, *power}
    lines = [WorkloadLine(w, energy[w], gpu[w], dict(money[w]), power.get(w), rate.get(w)) for w in workloads]
    lines.sort(key=lambda line: (-max(line.net_cost_nano.values(), default=0), -line.energy_mj, line.workload))
    waste: dict[tuple[str, str], int] = defaultdict(int)
    for (_, _, reason, currency), nano in totals.waste_nano.items():
        waste[reason, currency] += nano
    in_all: dict[str, int] = defaultdict(int)
    for line in lines:
        for currency, nano in line.net_cost_nano.items():
            in_all[currency] += nano
    powers = [device.power_mw for device in up if device.power_mw is not None]
    return Overview(
        lines=tuple(lines), net_cost_nano=dict(in_all), waste_nano=dict(waste),
        energy_mj=sum(totals.device_energy_mj.values()), power_mw=sum(powers) if powers else None,
        cost_nano_per_hour=sum(rate.values()) if rate else None, unpriced=unpriced, devices_up=len(up))


def _now(snapshot: Snapshot, up: set[str]) -> tuple[dict[Workload, int], dict[Workload, int], int]:
    """Power and cost per hour of each workload on devices that answer, and how many have no price."""
    power: dict[Workload, int] = defaultdict(int)
    rate: dict[Workload, int] = defaultdict(int)
    unpriced = set()
    for status in snapshot.workloads:
        if status.uuid not in up:
            continue
        power[status.workload] += status.power_mw
        if status.cost_nano_per_hour is None:
            unpriced.add(status.workload)
        else:
            rate[status.workload] += status.cost_nano_per_hour
    return dict(power), {w: nano for w, nano in rate.items() if w not in unpriced}, len(unpriced)
