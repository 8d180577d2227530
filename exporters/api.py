"""``/api/v1/snapshot``: the last snapshot as JSON. Numbers are numbers in base units, the unit is in the name, and what is
unknown is null."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from agent.model import FOREVER_NS, Snapshot, Workload
from agent.units import ATTO, MJ_PER_J, NANO, NS_PER_S
from exporters.families import MW_PER_W, UG_PER_G, is_up
from exporters.overview import Overview, overview

_ENCODER = msgspec.json.Encoder(decimal_format="number")      # Decimal as a number, all digits kept


def encode(document: Any) -> bytes:
    """A JSON document, one line."""
    return _ENCODER.encode(document) + b"\n"


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """The whole snapshot. A device that did not answer has nulls for its present values."""
    seen = overview(snapshot)
    tariff = snapshot.tariff
    return {
        "utc": instant(snapshot.utc_ns), "site": snapshot.site, "currency": snapshot.currency,
        "driver_version": snapshot.driver_version, "simulated": snapshot.simulated, "stale": snapshot.stale,
        "tag_keys": snapshot.tag_keys,
        "tariff": None if tariff is None else {
            "tariff": tariff.tariff, "rate": tariff.rate, "currency": tariff.currency,
            "price_per_kwh": tariff.price_atto_per_kwh / ATTO,
            "until": None if tariff.until_utc_ns >= FOREVER_NS else instant(tariff.until_utc_ns)},
        "overview": _overview(seen), "devices": _devices(snapshot), "workloads": _workloads(snapshot),
        "costs": _costs(snapshot), "waste": [
            {"uuid": uuid, "tags": _tags(snapshot, workload), "reason": reason, "currency": currency, "cost": nano / NANO}
            for (uuid, workload, reason, currency), nano in snapshot.totals.waste_nano.items()],
        "budgets": [
            {"name": b.name, "period": b.period, "currency": b.currency, "limit": b.limit_nano / NANO,
             "spent": b.spent_nano / NANO, "forecast": b.forecast_nano / NANO, "burn_ratio": dict(b.burn_ratio),
             "thresholds": b.thresholds} for b in snapshot.budgets],
        "host": None if snapshot.host is None else msgspec.to_builtins(snapshot.host),
        "agent": _agent(snapshot),
    }


def instant(utc_ns: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return dt.datetime.fromtimestamp(utc_ns // NS_PER_S, dt.UTC).isoformat().replace("+00:00", "Z")


def _tags(snapshot: Snapshot, workload: Workload) -> dict[str, str]:
    return dict(zip(snapshot.tag_keys, workload, strict=True))


def _over(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit


def _overview(seen: Overview) -> dict[str, Any]:
    return {
        "net_cost": {currency: nano / NANO for currency, nano in seen.net_cost_nano.items()},
        "cost_per_hour": _over(seen.cost_nano_per_hour, NANO), "energy_joules": seen.energy_mj / MJ_PER_J,
        "power_watts": _over(seen.power_mw, MW_PER_W), "devices_up": seen.devices_up, "unpriced_workloads": seen.unpriced,
    }


def _devices(snapshot: Snapshot) -> list[dict[str, Any]]:
    totals, found = snapshot.totals, []
    seconds: dict[str, dict[str, float]] = {}
    for (uuid, state), ns in totals.device_state_ns.items():
        seconds.setdefault(uuid, {})[state] = ns / NS_PER_S
    for d in snapshot.devices:
        up = is_up(d, snapshot)
        found.append({
            "uuid": d.uuid, "index": d.index, "name": d.name, "up": up, "energy_method": d.energy_method,
            "state": d.state if up else "unknown",
            "power_watts": _over(d.power_mw, MW_PER_W) if up else None,
            "power_limit_watts": _over(d.power_limit_mw, MW_PER_W) if up else None,
            "utilization_ratio": d.utilization_ratio if up else None,
            "memory_used_bytes": d.memory_used_bytes if up else None,
            "memory_total_bytes": d.memory_total_bytes if up else None,
            "temperature_celsius": d.temperature_celsius if up else None,
            "energy_joules": _over(totals.device_energy_mj.get(d.uuid), MJ_PER_J),
            "unpriced_joules": _over(totals.device_unpriced_mj.get(d.uuid), MJ_PER_J),
            "gap_seconds": _over(totals.device_gap_ns.get(d.uuid), NS_PER_S),
            "state_seconds": seconds.get(d.uuid, {}),
        })
    return found


def _workloads(snapshot: Snapshot) -> list[dict[str, Any]]:
    """One entry for each workload on each device that it ever used."""
    totals = snapshot.totals
    up = {device.uuid for device in snapshot.devices if is_up(device, snapshot)}
    now = {(status.uuid, status.workload): status for status in snapshot.workloads if status.uuid in up}
    found = []
    for key in dict.fromkeys([*totals.energy_mj, *totals.gpu_ns, *now]):
        status = now.get(key)
        found.append({
            "uuid": key[0], "tags": _tags(snapshot, key[1]),
            "energy_joules": _over(totals.energy_mj.get(key), MJ_PER_J),
            "gpu_seconds": _over(totals.gpu_ns.get(key), NS_PER_S),
            "emissions_grams": _over(totals.emissions_ug.get(key), UG_PER_G),
            "power_watts": _over(status.power_mw, MW_PER_W) if status else None,
            "memory_used_bytes": status.memory_used_bytes if status else None,
            "cost_per_hour": _over(status.cost_nano_per_hour, NANO) if status else None,
            "method": status.method if status else None,
        })
    return found


def _costs(snapshot: Snapshot) -> list[dict[str, Any]]:
    totals = snapshot.totals
    return [
        {"uuid": uuid, "tags": _tags(snapshot, workload), "component": component, "currency": currency,
         "cost": totals.cost_nano.get((uuid, workload, component, currency), 0) / NANO,
         "credit": totals.credit_nano.get((uuid, workload, component, currency), 0) / NANO}
        for uuid, workload, component, currency in dict.fromkeys([*totals.cost_nano, *totals.credit_nano])]


def _agent(snapshot: Snapshot) -> dict[str, Any]:
    agent: dict[str, Any] = msgspec.to_builtins(snapshot.agent)
    sampled = agent.pop("last_sample_utc_ns")
    return {**agent, "last_sample_utc": None if sampled is None else instant(sampled)}
