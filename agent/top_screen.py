"""A snapshot's document as lines for a terminal of any size: what is spent an hour, by whom, and what lies idle."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agent.files.printable import printable

_GIB: Final = 2**30
_IDLE_STATES: Final = frozenset({"unallocated", "parked", "underused"})
_ELLIPSIS: Final = "…"


def screen(told: Mapping[str, Any], columns: int, lines: int) -> list[str]:
    """At most ``lines`` lines of at most ``columns`` columns. GPUs come before workloads, and get at most half of the room;
    what does not fit is counted."""
    head = _head(told)
    titles = ("GPU", "NAME", "STATE", "POWER", "USE", "MEMORY", "TEMP")
    devices = _table(titles, [_device(device) for device in told["devices"]], "lllrrrr")
    works = _table((f"{told['currency'] or 'COST'}/h", "POWER", "GPUS", *map(str.upper, told["tag_keys"])), _workloads(told),
                   "rrr" + "l" * len(told["tag_keys"]))
    room = max(0, lines - len(head) - 2)
    most = max(room // 2, room - len(works))
    shown = [*head, "", *_cut(devices, most, "GPUs"), ""]
    shown += _cut(works, max(0, lines - len(shown)), "workloads")
    return [fit(line, columns) for line in shown[:lines]]


def _head(told: Mapping[str, Any]) -> list[str]:
    seen, currency, tariff = told["overview"], told["currency"], told["tariff"]
    marks = " SIMULATED" * bool(told["simulated"]) + " STALE: the driver does not answer" * bool(told["stale"])
    spent = ", ".join(f"{cost:,.2f} {name}" for name, cost in sorted(seen["net_cost"].items())) or "nothing"
    price = f", {tariff['price_per_kwh']:g} {tariff['currency']}/kWh ({tariff['rate']})" if tariff else ", no price known"
    unpriced = f", {seen['unpriced_workloads']} workloads without a price" * bool(seen["unpriced_workloads"])
    waste: dict[tuple[str, str], float] = defaultdict(float)
    for entry in told["waste"]:
        waste[entry["currency"], entry["reason"]] += entry["cost"]
    wasted = ", ".join(f"{cost:,.2f} {name} {reason}" for (name, reason), cost in sorted(waste.items(), key=lambda w: -w[1]))
    idle = {device["uuid"] for device in told["devices"] if device["state"] in _IDLE_STATES}
    idle_now = sum(w["cost_per_hour"] or 0 for w in told["workloads"] if w["uuid"] in idle)
    return [
        f"gpu-finops  {told['site']}  {told['utc']}  driver {told['driver_version'] or '-'}{marks}",
        f"now   {_amount(seen['cost_per_hour'], '.4f')} {currency}/h, {_amount(seen['power_watts'], ',.0f')} W, "
        f"{seen['devices_up']} of {len(told['devices'])} GPUs up{price}{unpriced}",
        f"spent {spent}",
        f"idle  {idle_now:.4f} {currency}/h on {len(idle)} GPUs now; so far {wasted or 'nothing'}",
    ]


def _device(device: Mapping[str, Any]) -> tuple[str, ...]:
    power, limit = device["power_watts"], device["power_limit_watts"]
    used, total = device["memory_used_bytes"], device["memory_total_bytes"]
    return (
        str(device["index"]), device["name"], device["state"] if device["up"] else "no answer",
        f"{_amount(power, '.0f')}{'' if limit is None else f'/{limit:.0f}'} W",
        f"{_amount(None if device['utilization_ratio'] is None else device['utilization_ratio'] * 100, '.0f')} %",
        f"{_amount(None if used is None else used / _GIB, '.1f')}{'' if total is None else f'/{total / _GIB:.0f}'} GiB",
        f"{_amount(device['temperature_celsius'], 'd')} °C")


def _workloads(told: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Those that draw power now, over all their GPUs, the dearest first."""
    sums: dict[tuple[str, ...], list[Any]] = {}
    for entry in told["workloads"]:
        if entry["power_watts"] is None:
            continue
        line = sums.setdefault(tuple(entry["tags"].get(key, "") for key in told["tag_keys"]), [None, 0.0, 0])
        if entry["cost_per_hour"] is not None:
            line[0] = (line[0] or 0.0) + entry["cost_per_hour"]
        line[1] += entry["power_watts"]
        line[2] += 1
    ordered = sorted(sums.items(), key=lambda item: (-(item[1][0] or 0), -item[1][1], item[0]))
    return [(_amount(cost, ".4f"), f"{power:.0f} W", str(gpus), *tags) for tags, (cost, power, gpus) in ordered]


def _amount(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> list[str]:
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(_width(line[i]) for line in cells) for i in range(len(header))]
    return ["  ".join(" " * (w - _width(c)) + c if side == "r" else c + " " * (w - _width(c))
                      for c, w, side in zip(line, widths, sides, strict=True)).rstrip() for line in cells]


def _cut(table: list[str], most: int, what: str) -> list[str]:
    """A table of at most so many lines; its last one counts what is left out."""
    if len(table) <= most:
        return table
    return [*table[:most - 1], f"{_ELLIPSIS} and {len(table) - most + 1} {what} more"] if most > 1 else table[:most]


def _width(text: str) -> int:
    """Columns that a terminal takes for a text: two for wide characters, none for those that combine."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int) -> str:
    """A line of at most so many columns, an ellipsis where something is cut."""
    text = printable(text)
    if _width(text) <= columns:
        return text
    kept, width = [], 0
    for c in text:
        width += _width(c)
        if width > columns - 1:
            break
        kept.append(c)
    return ("".join(kept) + _ELLIPSIS)[:max(columns, 0)]
