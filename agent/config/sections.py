"""Reads the sections about the place: ``[site]``, ``[idle]``, ``[ledger]``, ``[web]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from agent.calendar.zones import read_zone
from agent.files.stamps import Stamp, file_stamp
from agent.series_csv import Series, read_series
from agent.settings import Idle, Retention, Site, Web
from agent.tariffs.base import Tariff
from agent.toml.table import Table, nearest, plain_number, resolve_file, type_name
from agent.units import NS_PER_S

IDLE_POLICIES = ("separate", "proportional", "even")
_MINUTE_NS = 60 * NS_PER_S
_DAY_NS = 24 * 60 * _MINUTE_NS
_WEEK_NS = 7 * _DAY_NS
_LONGEST_KEPT_NS = 36_500 * _DAY_NS              # budgets need the last three days as they were written; more is a choice
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{0,63})):(?P<port>[0-9]{1,5})")


def read_site(table: Table, tariffs: Mapping[str, Tariff | None], files: dict[Path, Stamp]) -> tuple[Site, Series | None]:
    """The place, and its carbon series where it has one. ``tariffs`` has None for those that are at fault themselves."""
    tariff = table.text("tariff")
    if tariff is not None and tariff not in tariffs:
        hint = nearest(tariff, tariffs) if tariffs else f"write [tariff.{tariff}] with its currency, timezone, rates and rules"
        table.fault(table.node.value["tariff"], f"is {tariff!r}, and there is no such tariff; {hint}")
        tariff = None
    zone = read_zone(table, "timezone", "") if table.get("timezone") is not None else None
    found = tariffs.get(tariff) if tariff is not None else None
    pue = table.number("pue", high=10)
    if pue is not None and pue < 1:
        table.fault(table.node.value["pue"], f"is {pue}, but a site uses at least what its devices use; write 1.0 or more")
    constant, carbon_csv, series = _carbon(table, files)
    site = Site(
        name=table.text("name") or Site().name, tariff=tariff, pue=pue if pue is not None else Site().pue,
        timezone=zone.key if zone is not None else found.timezone if found is not None else "UTC",
        carbon_g_per_kwh=constant, carbon_csv=carbon_csv, baseline_kwh=table.number("baseline_kwh", low=0) or Decimal(0))
    table.close()
    return site, series


def _carbon(table: Table, files: dict[Path, Stamp]) -> tuple[Decimal | None, Path | None, Series | None]:
    node = table.get("carbon")
    if node is None:
        return None, None, None
    if isinstance(node.value, dict):
        entry = Table(node, table.faults)
        text = entry.need_text("csv", '"carbon.csv"')
        entry.close()
        if not text:
            return None, None, None
        file = resolve_file(node.value["csv"], table.faults)
        if file is None:
            return None, None, None
        files[file] = file_stamp(file)
        return None, file, read_series(file, "grams", table.faults)
    if plain_number(node.value) is None:
        table.fault(node, f'is {type_name(node.value)}; write grams of CO2e per kWh, such as 570, or {{ csv = "carbon.csv" }}')
        return None, None, None
    return table.number("carbon", low=0, high=10_000), None, None


def read_idle(table: Table) -> Idle:
    default = Idle()
    ratio = table.number("utilization", low=0, high=1)
    warn = table.duration_ns("warn_after", NS_PER_S, _WEEK_NS)
    critical = table.duration_ns("critical_after", NS_PER_S, _WEEK_NS)
    idle = Idle(
        utilization_ratio=float(ratio) if ratio is not None else default.utilization_ratio,
        warn_after_ns=warn or default.warn_after_ns,
        critical_after_ns=critical or max(default.critical_after_ns, warn or 0),
        policy=table.text("policy", IDLE_POLICIES) or default.policy)
    if idle.critical_after_ns < idle.warn_after_ns:
        table.fault(table.node.value["critical_after"], "is shorter than warn_after; write the same or more")
    table.close()
    return idle


def read_ledger(table: Table) -> Retention:
    default = Retention()
    quarter_hours = table.duration_ns("keep_quarter_hours", 4 * _DAY_NS, _LONGEST_KEPT_NS)
    hours = table.duration_ns("keep_hours", 4 * _DAY_NS, _LONGEST_KEPT_NS)
    kept = Retention(
        keep_quarter_hours_ns=quarter_hours or default.keep_quarter_hours_ns,
        keep_hours_ns=hours or max(default.keep_hours_ns, quarter_hours or 0))
    if kept.keep_hours_ns < kept.keep_quarter_hours_ns:
        table.fault(table.node.value["keep_hours"], "is shorter than keep_quarter_hours; write the same or more")
    table.close()
    return kept


def read_web(table: Table) -> Web:
    default = Web()
    host, port = default.host, default.port
    address = table.text("listen_address")
    if address is not None:
        found = _ADDRESS.fullmatch(address)
        if found is None or int(found["port"]) > 65_535:
            table.fault(table.node.value["listen_address"],
                        f'is {address!r}; write HOST:PORT, such as "127.0.0.1:10061", "[::1]:10061", or ":10061" for every'
                        " address of this machine")
        else:
            host, port = found["six"] or found["name"] or "", int(found["port"])
    named = table.text("config_file")
    config_file = resolve_file(table.node.value["config_file"], table.faults) if named is not None else None
    unauthenticated = table.truth("allow_unauthenticated") or False
    table.close()
    return Web(host=host, port=port, config_file=config_file, allow_unauthenticated=unauthenticated)
