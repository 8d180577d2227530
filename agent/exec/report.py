"""What one command used, for its caller: lines for the terminal, and a document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from agent.exec.meter import DeviceUse, Part
from agent.files.printable import printable
from agent.units import MJ_PER_J, MJ_PER_KWH, NANO, NS_PER_HOUR, NS_PER_S

UG_PER_KG = 10**9
LABEL = "gpu-finops exec: "
COMPONENTS = ("energy", "hardware", "maintenance", "rent", "host")       # in the order in which they are told


class CommandUse(Struct, frozen=True):
    """The answer. ``certainty``: ``measured`` (the devices were the command's alone), ``split`` (others were on them too),
    ``upper bound`` (no process of the command was seen on them), ``none`` (nothing could be measured)."""

    tags: Mapping[str, str]
    command: Sequence[str]
    exit_status: int
    duration_ns: int
    certainty: str
    devices: tuple[DeviceUse, ...]
    simulated: bool
    notes: tuple[str, ...]                       # sentences: what is not in the figures, and why

    def part(self, device: DeviceUse) -> Part:
        """What of a device the figures hold."""
        return device.whole if self.certainty == "upper bound" else device.own

    @property
    def total(self) -> Part:
        """The sum over the devices."""
        total = Part(costs={}, rates={})
        for device in self.devices:
            total.add(self.part(device))
        return total


def answer(*, tags: Mapping[str, str], command: Sequence[str], exit_status: int, duration_ns: int,
           devices: Mapping[str, DeviceUse], chosen: frozenset[str] | None, simulated: bool,
           notes: Sequence[str]) -> CommandUse:
    """Which devices count, and how sure that is.

    Those on which a process of the command was seen; and those that were chosen for it and on which nobody else was seen,
    for they were held for it. Where that leaves none: all that it may have used, as an upper bound.
    """
    measured = {uuid: use for uuid, use in devices.items()
                if (chosen is None or uuid in chosen) and use.gap_ns < use.elapsed_ns}
    counted = [use for use in measured.values() if use.seen or (
        chosen is not None and not (use.others or use.divided or use.unlisted))]
    certainty = "split" if any(use.splits or use.others or use.divided for use in counted) else "measured"
    if not counted:
        counted = list(measured.values())
        certainty = "upper bound" if counted else "none"
    more = list(notes)
    gap_ns = sum(use.gap_ns for use in counted)
    if gap_ns:
        more.append(f"for {gap_ns / NS_PER_S:.1f} s of GPU time no energy is known: it is not in the figure")
    approximate = any(method.startswith("trapezoid") for use in counted for method in use.methods)
    if approximate and duration_ns < 10 * NS_PER_S:
        more.append("there is no energy counter here, and averaged power lags by about a second: "
                    "for so short a command the figure is rough")
    return CommandUse(tags=tags, command=command, exit_status=exit_status, duration_ns=duration_ns, certainty=certainty,
                      devices=tuple(sorted(counted, key=lambda use: use.index)), simulated=simulated, notes=tuple(more))


def lines(use: CommandUse) -> str:
    """For the terminal. Amounts are exact; nothing that is not known is shown as zero."""
    total = use.total
    tags = " ".join(f"{key}={value}" for key, value in use.tags.items())
    simulated = ", SIMULATED GPUs" if use.simulated else ""
    out = [f"{tags}: {use.duration_ns / NS_PER_S:.3f} s, exit status {use.exit_status}{simulated}"]
    if use.certainty == "none":
        out.append("no GPU energy was measured")
    else:
        most = "at most " if use.certainty == "upper bound" else ""
        gpus = f"{len(use.devices)} GPU" + ("s" if len(use.devices) != 1 else "")
        methods = ", ".join(dict.fromkeys(method for device in use.devices for method in device.methods))
        out.append(f"energy {most}{_joules(total.energy_mj)} J ({_kwh(total.energy_mj)} kWh) on {gpus}, by {methods}")
        out += [f"cost {most}{sentence}" for sentence in _costs(total)]
        if total.emissions_ug:
            out.append(f"emissions {most}{_over(total.emissions_ug, UG_PER_KG, 9)} kg CO2e")
        if total.unpriced_mj:
            out.append(f"{_joules(total.unpriced_mj)} J have no price: no tariff is configured, or its prices end before now")
        out += [sentence for device in use.devices if (sentence := _about(use, device))]
    out += use.notes
    return "".join(f"{LABEL}{printable(line)}\n" for line in out)


def _about(use: CommandUse, device: DeviceUse) -> str:
    who = f"GPU {device.index} ({device.uuid})"
    if use.certainty == "upper bound":
        others = f", and {len(device.others)} of others were" if device.others else ""
        return (f"{who}: no process of the command was seen on it{others}; "
                f"its {_joules(device.whole.energy_mj)} J are an upper bound")
    if device.others or device.splits:
        methods = ", ".join(device.splits) or "alone for a time"
        return (f"{who}: other processes on it: {len(device.others)}; {_joules(device.own.energy_mj)} of its "
                f"{_joules(device.whole.energy_mj)} J are the command's part ({methods})")
    return f"{who}: {_joules(device.own.energy_mj)} J" if len(use.devices) > 1 else ""


def _costs(part: Part) -> list[str]:
    sums: dict[str, list[str]] = {}
    totals: dict[str, int] = {}
    rates = ", ".join(rate for rate in part.rates if rate)
    for (component, currency), nano in _in_order(part):
        named = f"{component} at {rates}" if component == "energy" and rates else component
        sums.setdefault(currency, []).append(f"{named} {_over(nano, NANO, 9)}")
        totals[currency] = totals.get(currency, 0) + nano
    return [f"{_over(totals[currency], NANO, 9)} {currency}" + (f" ({', '.join(parts)})" if parts else "")
            for currency, parts in sums.items()]


def document(use: CommandUse) -> str:
    """The same as one JSON document, numbers as numbers; null where nothing was measured."""
    none = use.certainty == "none"
    found: dict[str, Any] = {
        "tags": dict(use.tags), "command": list(use.command), "exit_status": use.exit_status,
        "duration_seconds": _over(use.duration_ns, NS_PER_S, 9), "certainty": use.certainty, "simulated": use.simulated,
        **(dict.fromkeys(_figures(Part())) if none else _figures(use.total)),
        "devices": [{
            "uuid": device.uuid, "index": device.index, "name": device.name, **_figures(use.part(device)),
            "device_energy_joules": _over(device.whole.energy_mj, MJ_PER_J, 3), "energy_methods": list(device.methods),
            "split_methods": list(device.splits), "process_seen": device.seen, "other_processes": len(device.others),
            "gap_seconds": _over(device.gap_ns, NS_PER_S, 9)} for device in use.devices],
        "notes": list(use.notes),
    }
    encoder = msgspec.json.Encoder(decimal_format="number")
    text = encoder.encode(msgspec.to_builtins(found, builtin_types=(Decimal,)))
    return msgspec.json.format(text, indent=2).decode() + "\n"


def _figures(part: Part) -> dict[str, Any]:
    return {
        "energy_joules": _over(part.energy_mj, MJ_PER_J, 3), "unpriced_joules": _over(part.unpriced_mj, MJ_PER_J, 3),
        "gpu_hours": _over(part.gpu_ns, NS_PER_HOUR, 9), "emissions_kg": _over(part.emissions_ug, UG_PER_KG, 9),
        "rates": [rate for rate in part.rates if rate],
        "costs": [{"component": component, "currency": currency, "cost": _over(nano, NANO, 9)}
                  for (component, currency), nano in _in_order(part)],
    }


def _in_order(part: Part) -> list[tuple[tuple[str, str], int]]:
    return sorted(part.costs.items(), key=lambda item: (
        COMPONENTS.index(item[0][0]) if item[0][0] in COMPONENTS else len(COMPONENTS), item[0]))


def _over(amount: int, unit: int, places: int) -> Decimal:
    return (Decimal(amount) / Decimal(unit)).quantize(Decimal(1).scaleb(-places))


def _joules(energy_mj: int) -> str:
    return f"{_over(energy_mj, MJ_PER_J, 3):,}"


def _kwh(energy_mj: int) -> str:
    return f"{_over(energy_mj, MJ_PER_KWH, 9):f}"
