"""The table of metrics against the contract's names, and the page that is generated from it."""

from __future__ import annotations

import re
from pathlib import Path

from agent.model import DeviceStatus
from exporters.families import FAMILIES, SELF_FAMILIES, label_names, label_values
from exporters.metricsdoc import metrics_page

DOCS = Path(__file__).resolve().parents[2] / "docs"

# Names, types and labels as the contract writes them; a change here breaks somebody's dashboard.
CONTRACT = {
    "finops_gpu_info": ("gauge", "uuid index name driver_version energy_method"),
    "finops_gpu_up": ("gauge", "uuid"),
    "finops_gpu_power_watts": ("gauge", "uuid"),
    "finops_gpu_power_limit_watts": ("gauge", "uuid"),
    "finops_gpu_utilization_ratio": ("gauge", "uuid"),
    "finops_gpu_memory_used_bytes": ("gauge", "uuid"),
    "finops_gpu_memory_total_bytes": ("gauge", "uuid"),
    "finops_gpu_temperature_celsius": ("gauge", "uuid"),
    "finops_gpu_energy_joules_total": ("counter", "uuid"),
    "finops_gpu_gap_seconds_total": ("counter", "uuid"),
    "finops_gpu_state": ("gauge", "uuid state"),
    "finops_gpu_state_seconds_total": ("counter", "uuid state"),
    "finops_workload_energy_joules_total": ("counter", "uuid W"),
    "finops_workload_gpu_seconds_total": ("counter", "uuid W"),
    "finops_workload_emissions_grams_total": ("counter", "uuid W"),
    "finops_workload_cost_total": ("counter", "uuid W component currency"),
    "finops_workload_credit_total": ("counter", "uuid W component currency"),
    "finops_workload_power_watts": ("gauge", "uuid W"),
    "finops_workload_memory_used_bytes": ("gauge", "uuid W"),
    "finops_workload_cost_per_hour": ("gauge", "uuid W currency"),
    "finops_waste_cost_total": ("counter", "uuid W reason currency"),
    "finops_tariff_price_per_kwh": ("gauge", "tariff rate currency"),
    "finops_budget_limit": ("gauge", "budget period currency"),
    "finops_budget_spent": ("gauge", "budget period currency"),
    "finops_budget_forecast": ("gauge", "budget period currency"),
    "finops_budget_burn_ratio": ("gauge", "budget window"),
    "finops_host_cpu_utilization_ratio": ("gauge", ""),
    "finops_host_memory_used_bytes": ("gauge", ""),
    "finops_host_disk_read_bytes_total": ("counter", ""),
    "finops_host_disk_written_bytes_total": ("counter", ""),
    "finops_agent_build_info": ("gauge", "version"),
    "finops_agent_last_sample_timestamp_seconds": ("gauge", ""),
    "finops_agent_ticks_total": ("counter", ""),
    "finops_agent_missed_ticks_total": ("counter", ""),
    "finops_agent_tick_seconds": ("gauge", ""),
    "finops_agent_ledger_ok": ("gauge", ""),
    "finops_agent_config_reload_success": ("gauge", ""),
    "finops_agent_dropped_series_total": ("counter", ""),
    "finops_agent_probe_restarts_total": ("counter", ""),
}


def test_every_name_of_the_contract_is_there_as_written():
    table = {f.name: (f.type, " ".join(f.labels)) for f in FAMILIES}
    assert {name: table.get(name) for name in CONTRACT} == CONTRACT


def test_names_are_well_formed_and_unique():
    families = [*FAMILIES, *SELF_FAMILIES]
    names = [f.name for f in families]
    assert len(set(names)) == len(names)
    for family in families:
        assert re.fullmatch(r"(finops|process)_[a-z0-9_]+", family.name)
        assert family.name.endswith("_total") == (family.type == "counter")
        assert family.help.endswith(".")


def test_tags_stand_where_w_stands():
    assert label_names(("uuid", "W", "currency"), ("project", "team")) == ("uuid", "project", "team", "currency")
    assert label_values(("GPU-1", ("kronos", ""), "CNY")) == ("GPU-1", "kronos", "", "CNY")
    assert label_values("GPU-1") == ("GPU-1",)
    assert label_values(()) == ()


def test_every_number_of_a_device_is_shown():
    numbers = {name for name in DeviceStatus.__struct_fields__ if name.endswith(("_mw", "_ratio", "_bytes", "_celsius"))}
    shown = {f.name for f in FAMILIES if f.name.startswith("finops_gpu_")}
    assert {f"finops_gpu_{n.replace('_mw', '_watts')}" for n in numbers} <= shown


def test_the_metrics_page_is_current():
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == metrics_page(), \
        "run: python -m exporters.metricsdoc > docs/metrics.md"
