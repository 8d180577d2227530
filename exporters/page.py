"""The page for people: one self-contained HTML document, drawn whole by the server; ``page.js`` keeps its ``<main>`` fresh.
It reads well without scripts too. Everything that came from outside (names, tags, budgets) is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from agent.model import IDLE, OVERFLOW, UNATTRIBUTED, UNVERIFIED, BudgetStatus, DeviceStatus, Snapshot
from agent.units import ATTO, NANO
from exporters.amounts import UNKNOWN, clock, energy, hours, money, percent, power, size
from exporters.families import is_up
from exporters.overview import Overview, WorkloadLine, overview

_HERE = Path(__file__).parent
_TEMPLATE = Template((_HERE / "page.html").read_text(encoding="utf-8"))
_SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'; style-src 'unsafe-inline'; img-src data:; "
                           "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_RESERVED = {
    IDLE: "idle: nobody on it", UNATTRIBUTED: "untagged processes", UNVERIFIED: "claims not granted",
    OVERFLOW: "more than max_workloads",
}
_NEARLY_SPENT = 0.8                              # a budget's bar changes colour here, where it names no threshold


def page(snapshot: Snapshot) -> str:
    """The whole document."""
    seen = overview(snapshot)
    rate = seen.cost_nano_per_hour
    head = f"{money(rate)} {snapshot.currency}/h · " if rate is not None else ""
    sections = (_header(snapshot), _banners(snapshot, seen), _figures(snapshot, seen), _budgets(snapshot.budgets),
                _workloads(snapshot, seen), _devices(snapshot))
    return _TEMPLATE.substitute(
        title=escape(f"{head}GPU FinOps"), rate="" if rate is None else rate / NANO,
        version=escape(snapshot.agent.version), main="\n".join(part for part in sections if part), script=_SCRIPT)


def _header(snapshot: Snapshot) -> str:
    state = '<span class="dot bad"></span>stale' if snapshot.stale else '<span class="dot"></span>live'
    return (f'<header><h1>GPU FinOps</h1><span class="soft">{escape(snapshot.site)} · {len(snapshot.devices)} GPUs · '
            f'driver {escape(snapshot.driver_version)}</span>'
            f'<span class="soft right">{state} · {clock(snapshot.utc_ns)}</span></header>')


def _banners(snapshot: Snapshot, seen: Overview) -> str:
    found = ['<div class="banner bad" id="lost" hidden><b>No answer.</b>The agent does not answer; these are the last numbers '
             "it gave.</div>"]
    if snapshot.simulated:
        found.append('<div class="banner simulated"><b>Simulated.</b>These GPUs do not exist: no number here was '
                     "measured.</div>")
    if snapshot.stale:
        last = snapshot.agent.last_sample_utc_ns
        since = f"since {clock(last)}" if last is not None else "so far"
        found.append(f'<div class="banner bad"><b>Stale.</b>The devices have not answered {since}. Totals below are committed '
                     "and stay; present values are left out.</div>")
    if not snapshot.agent.ledger_ok:
        found.append('<div class="banner bad"><b>Ledger.</b>The last write failed. Readings that wait in memory: '
                     f"{snapshot.agent.queued_ticks}, dropped: {snapshot.agent.dropped_ticks}. Is the disk full?</div>")
    if snapshot.agent.ledgers_set_aside:
        found.append('<div class="banner"><b>Damage.</b>Damaged ledgers set aside in the state directory: '
                     f"{snapshot.agent.ledgers_set_aside}. The log says what went over; look at the disk.</div>")
    if not snapshot.agent.config_reload_success:
        found.append('<div class="banner"><b>Configuration.</b>The changed file has a fault, the old one stays in force: '
                     "<code>gpu-finops check</code> says where.</div>")
    if seen.unpriced:
        found.append('<div class="banner"><b>Unpriced.</b>Workloads that draw power without a known price: '
                     f"{seen.unpriced}. Their cost is not in the sums.</div>")
    return "\n".join(found)


def _figures(snapshot: Snapshot, seen: Overview) -> str:
    total = _sums(seen.net_cost_nano.items(), snapshot.currency)
    waste: dict[str, int] = {}
    for (_, currency), nano in seen.waste_nano.items():
        waste[currency] = waste.get(currency, 0) + nano
    share = ""
    spent = seen.net_cost_nano.get(snapshot.currency, 0)
    if spent > 0 and snapshot.currency in waste:
        share = f"{percent(waste[snapshot.currency] / spent)} of all cost"
    reasons = ", ".join(f"{reason} {money(nano)}" for (reason, _), nano in sorted(seen.waste_nano.items()))
    rate = seen.cost_nano_per_hour
    now = f'{money(rate)}<span>{escape(snapshot.currency)}/h</span>' if rate is not None else UNKNOWN
    spark = '<svg class="spark" viewBox="0 0 100 26" preserveAspectRatio="none" aria-hidden="true"><polyline points=""/></svg>'
    cards = [
        ("first", "Cost so far", total, '<span id="today">net of credits, since the ledger began</span>'),
        ("", "Right now", now, spark),
        ("", "Power", _with_unit(power(seen.power_mw)), f"{energy(seen.energy_mj)} so far"),
        ("", "Idle waste", _sums(waste.items(), snapshot.currency), escape("; ".join(p for p in (share, reasons) if p))),
    ]
    tariff = snapshot.tariff
    if tariff is not None:
        price = f"{tariff.price_atto_per_kwh / ATTO:.4g}<span>{escape(tariff.currency)}/kWh</span>"
        cards.append(("", "Electricity", price, escape(f"{tariff.tariff}, {tariff.rate}")))
    else:
        cards.append(("", "Electricity", UNKNOWN, "no tariff: set <code>site.tariff</code>"))
    return '<div class="grid figures">' + "".join(
        f'<div class="card figure {kind}"><small>{name}</small><div class="value">{value}</div><small>{below}</small></div>'
        for kind, name, value, below in cards) + "</div>"


def _sums(amounts: Iterable[tuple[str, int]], currency: str) -> str:
    shown = [f"{money(nano)}<span>{escape(name)}</span>" for name, nano in sorted(amounts)]
    return "<br>".join(shown) or (f"0<span>{escape(currency)}</span>" if currency else UNKNOWN)


def _with_unit(text: str) -> str:
    number, _, unit = text.partition(" ")
    return f"{number}<span>{unit}</span>"


def _workloads(snapshot: Snapshot, seen: Overview) -> str:
    if not seen.lines:
        return ""
    used = [i for i in range(len(snapshot.tag_keys)) if i == 0 or any(line.workload[i] for line in seen.lines)]
    names = [snapshot.tag_keys[i].replace("_", " ") for i in used]
    most = max((max(line.net_cost_nano.values(), default=0) for line in seen.lines), default=0)
    head = "".join(f"<th>{escape(name)}</th>" for name in names) + "".join(
        f'<th class="n">{name}</th>' for name in ("power", "per hour", "energy", "GPU time", "cost"))
    rows = "".join(_workload(line, used, most) for line in seen.lines)
    return (f'<h2>Who spends it</h2><div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
            "</table></div>")


def _workload(line: WorkloadLine, used: list[int], most: int) -> str:
    project = line.workload[0]
    shown = [_RESERVED.get(project, project), *(line.workload[i] for i in used[1:])]
    cells = "".join(f'<td{" class=first" if i == 0 else ""}>{escape(text)}</td>' for i, text in enumerate(shown))
    unknown = "unpriced" if line.power_mw else UNKNOWN
    rate = unknown if line.cost_nano_per_hour is None else f"{money(line.cost_nano_per_hour)}<i>/h</i>"
    costs = [f"{money(nano)} {escape(name)}" for name, nano in sorted(line.net_cost_nano.items())]
    cost = " + ".join(costs) or UNKNOWN          # never priced: unknown, not free
    bar = _bar(max(line.net_cost_nano.values(), default=0) / most) if most > 0 else ""
    numbers = (power(line.power_mw), rate, energy(line.energy_mj), hours(line.gpu_ns))
    reserved = " class=reserved" if project in _RESERVED else ""
    shown_numbers = "".join(f'<td class="n">{text}</td>' for text in numbers)
    return f'<tr{reserved}>{cells}{shown_numbers}<td class="n cost">{cost}{bar}</td></tr>'


def _devices(snapshot: Snapshot) -> str:
    cards = "".join(_device(device, is_up(device, snapshot)) for device in snapshot.devices)
    return f'<h2>Devices</h2><div class="grid">{cards}</div>' if cards else (
        "<h2>Devices</h2><p class=soft>No GPU has been seen.</p>")


def _device(device: DeviceStatus, up: bool) -> str:
    state = device.state if up else "unknown"
    meters = ""
    if up:
        meters = _meter("power", power(device.power_mw), device.power_mw, device.power_limit_mw)
        meters += _meter("utilization", UNKNOWN if device.utilization_ratio is None else percent(device.utilization_ratio),
                         device.utilization_ratio, 1.0)
        meters += _meter("memory", size(device.memory_used_bytes), device.memory_used_bytes, device.memory_total_bytes)
    heat = f" · {device.temperature_celsius} °C" if up and device.temperature_celsius is not None else ""
    silent = "" if up else '<div class="meter soft">does not answer</div>'
    tag = f'<span class="tag {escape(state)}">{escape(state)}</span>'
    name = f'<div class="soft name" title="{escape(device.uuid)}">{escape(device.name)}{heat}</div>'
    return f'<div class="card"><div class="row"><b>GPU {device.index}</b>{tag}</div>{name}{meters}{silent}</div>'


def _meter(name: str, text: str, value: float | None, whole: float | None) -> str:
    bar = _bar(value / whole) if value is not None and whole else ""
    return f'<div class="meter"><div class="row"><span class="soft">{name}</span><span>{text}</span></div>{bar}</div>'


def _budgets(budgets: tuple[BudgetStatus, ...]) -> str:
    cards = "".join(_budget(budget) for budget in budgets)
    return f'<h2>Budgets</h2><div class="grid">{cards}</div>' if cards else ""


def _budget(budget: BudgetStatus) -> str:
    ratio = budget.spent_nano / budget.limit_nano if budget.limit_nano else 0.0
    ahead = budget.forecast_nano / budget.limit_nano if budget.limit_nano else 0.0
    nearly = min(max((t for t in budget.thresholds if t < 1), default=_NEARLY_SPENT), 1.0)
    tone = "bad" if ratio >= 1 else "warn" if ratio >= nearly or ahead > 1 else ""
    currency = escape(budget.currency)
    name = f'<b>{escape(budget.name)}</b><span class="soft">{escape(budget.period)}</span>'
    spent = f"<span>{money(budget.spent_nano)} of {money(budget.limit_nano)} {currency}</span><span>{percent(ratio)}</span>"
    forecast = f'<div class="soft">forecast {money(budget.forecast_nano)} {currency}</div>'
    return (f'<div class="card"><div class="row">{name}</div><div class="meter"><div class="row">{spent}</div>'
            f"{_bar(ratio, ahead, tone)}{forecast}</div></div>")


def _bar(ratio: float, ahead: float = 0.0, tone: str = "") -> str:
    now, later = (max(0.0, min(1.0, part)) * 100 for part in (ratio, ahead))
    forecast = f'<rect class="ahead" width="{later:.1f}%" height="6"/>' if later > now else ""
    return (f'<svg class="bar {tone}" role="img" aria-label="{percent(ratio)}">{forecast}'
            f'<rect class="now" width="{now:.1f}%" height="6"/></svg>')
