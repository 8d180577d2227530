"""Snapshots for tests: one small and fixed, one of any size. Numbers are chosen so that sums are easy to see."""

from __future__ import annotations

from msgspec.structs import replace

from agent.model import (
    AgentStatus,
    BudgetStatus,
    DeviceStatus,
    HostReading,
    Snapshot,
    TariffStatus,
    Totals,
    Workload,
    WorkloadStatus,
)
from agent.units import ATTO, NANO, NS_PER_S

UTC_NS = 1_795_305_600 * NS_PER_S                # 2026-11-22T00:00:00Z
TAG_KEYS = ("project", "team", "model", "model_version")
KRONOS: Workload = ("kronos", "quant", "kronos-base", "1.0")
KRONOS_SMALL: Workload = ("kronos", "quant", "kronos-small", "2.1")
IDLE: Workload = ("__idle__", "", "", "")
UNTAGGED: Workload = ("__unattributed__", "", "", "")
COMPONENTS = ("energy", "hardware", "maintenance")


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012d}"


def device(number: int = 0, **changes: object) -> DeviceStatus:
    made = DeviceStatus(
        uuid=uuid(number), index=number, name="NVIDIA H100 80GB HBM3", up=True, energy_method="counter", state="active",
        power_mw=412_500, power_limit_mw=700_000, utilization_ratio=0.87, memory_used_bytes=61 * 2**30,
        memory_total_bytes=80 * 2**30, temperature_celsius=64,
        energy_disagreement_ratio=-0.0125, energy_suspect=False, hidden_processes=1,
    )
    return replace(made, **changes)


def agent(**changes: object) -> AgentStatus:
    made = AgentStatus(
        version="0.1.0", last_sample_utc_ns=UTC_NS, ticks=86_400, missed_ticks=2, tick_seconds=0.0035, ledger_ok=True,
        config_reload_success=True, dropped_series=0, probe_restarts=1, queued_ticks=0, dropped_ticks=0,
    )
    return replace(made, **changes)


NO_TOTALS = Totals(**{field: {} for field in Totals.__struct_fields__})


def empty(**changes: object) -> Snapshot:
    """A snapshot of a machine without devices."""
    made = Snapshot(
        utc_ns=UTC_NS, tag_keys=TAG_KEYS, site="test", currency="CNY", driver_version="570.86.15", simulated=False,
        stale=False, devices=(), workloads=(), totals=NO_TOTALS, budgets=(), tariff=None, host=None, agent=agent(),
    )
    return replace(made, **changes)


def fixed() -> Snapshot:
    """Two devices, one of which does not answer; two models, idle time and a process without tags; two budgets."""
    first, second = uuid(0), uuid(1)
    totals = replace(
        NO_TOTALS,
        device_energy_mj={first: 7_200_000_000, second: 1_500},
        device_gap_ns={first: 0, second: 90 * NS_PER_S},
        device_unpriced_mj={second: 1_500},
        device_state_ns={(first, "active"): 36_000 * NS_PER_S, (first, "unallocated"): 3_600 * NS_PER_S,
                         (second, "unknown"): 90 * NS_PER_S},
        energy_mj={(first, KRONOS): 5_000_000_000, (first, KRONOS_SMALL): 1_200_000_000,
                   (first, IDLE): 1_000_000_000, (second, UNTAGGED): 1_500},
        gpu_ns={(first, KRONOS): 25_000 * NS_PER_S, (first, KRONOS_SMALL): 11_000 * NS_PER_S,
                (first, IDLE): 3_600 * NS_PER_S, (second, UNTAGGED): NS_PER_S // 2},
        emissions_ug={(first, KRONOS): 791_666_667_000},
        cost_nano={(first, KRONOS, "energy", "CNY"): 1_666_666_667, (first, KRONOS, "hardware", "CNY"): 50 * NANO,
                   (first, KRONOS_SMALL, "energy", "CNY"): 400_000_000,
                   (first, KRONOS_SMALL, "hardware", "CNY"): 20 * NANO,
                   (first, IDLE, "energy", "CNY"): 333_333_333, (first, IDLE, "hardware", "CNY"): 7 * NANO,
                   (second, UNTAGGED, "energy", "CNY"): 500},
        credit_nano={(first, KRONOS, "energy", "CNY"): 250_000_000},
        waste_nano={(first, IDLE, "unallocated", "CNY"): 7_333_333_333},
        state_gpu_ns={(first, KRONOS, "active"): 25_000 * NS_PER_S, (first, IDLE, "unallocated"): 3_600 * NS_PER_S},
        state_energy_mj={(first, KRONOS, "active"): 5_000_000_000, (first, IDLE, "unallocated"): 1_000_000_000},
        state_cost_nano={(first, KRONOS, "active", "CNY"): 51_666_666_667, (first, IDLE, "unallocated", "CNY"): 7_333_333_333},
    )
    return empty(
        devices=(device(0, bare_power_mw=71_500, context_power_mw=44_000),
                 device(1, up=False, state="unknown", power_mw=None, utilization_ratio=None, memory_used_bytes=None,
                        temperature_celsius=None)),
        workloads=(
            WorkloadStatus(uuid=first, workload=KRONOS, power_mw=300_000, memory_used_bytes=40 * 2**30,
                           cost_nano_per_hour=7_360_000_000, method="sampled", share_error_ratio=0.0163),
            WorkloadStatus(uuid=first, workload=KRONOS_SMALL, power_mw=112_500, memory_used_bytes=None,
                           cost_nano_per_hour=None, method="sampled"),
            WorkloadStatus(uuid=second, workload=UNTAGGED, power_mw=0, memory_used_bytes=2**30,
                           cost_nano_per_hour=0, method="equal"),
        ),
        totals=totals,
        budgets=(
            BudgetStatus(name="kronos monthly", period="2026-11", currency="CNY", limit_nano=30_000 * NANO,
                         spent_nano=12_345 * NANO, forecast_nano=21_000 * NANO,
                         burn_ratio={"1h": 0.9, "6h": 1.1, "3d": 0.7}, thresholds=(0.5, 0.8, 1.0)),
            BudgetStatus(name="all \"of\" it", period="2026-W47", currency="CNY", limit_nano=100 * NANO,
                         spent_nano=130 * NANO, forecast_nano=150 * NANO, burn_ratio={}),
        ),
        tariff=TariffStatus(tariff="cn-industrial", rate="peak", currency="CNY", price_atto_per_kwh=6 * ATTO // 5,
                            until_utc_ns=UTC_NS + 3_600 * NS_PER_S),
        host=HostReading(cpu_utilization_ratio=0.125, memory_used_bytes=3 * 2**30, disk_read_bytes=123_456_789,
                         disk_written_bytes=1_000_000),
    )


def fleet(devices: int, workloads_per_device: int, tick: int = 0) -> Snapshot:
    """A large snapshot in which every counter moves with ``tick``: about 12 series a workload and 20 a device."""
    uuids = [uuid(number) for number in range(devices)]
    workloads = [(f"project-{i % 7}", f"team-{i % 3}", f"model-{i}", f"{i % 4}.{i % 10}")
                 for i in range(workloads_per_device)]
    pairs = [(u, w) for u in uuids for w in workloads]
    totals = replace(
        NO_TOTALS,
        device_energy_mj={u: 9_876_543_210 + 412_513 * tick + i for i, u in enumerate(uuids)},
        device_gap_ns=dict.fromkeys(uuids, 0),
        device_state_ns={(u, s): 31_557_600_123_456_789 + tick * NS_PER_S
                         for u in uuids for s in ("active", "parked", "unallocated")},
        energy_mj={p: 98_765_432_101 + 41_251 * tick + i for i, p in enumerate(pairs)},
        gpu_ns={p: 8_640_123_456_789 + tick * NS_PER_S + i for i, p in enumerate(pairs)},
        emissions_ug={p: 15_638_888_889_123 + 6_543 * tick + i for i, p in enumerate(pairs)},
        cost_nano={(*p, c, "CNY"): 1_234_567_891_234 + 987_654 * tick + i
                   for c in COMPONENTS for i, p in enumerate(pairs)},
        credit_nano={}, waste_nano={(*p, "underused", "CNY"): 4_567_891_234 + 12_345 * tick + i
                                    for i, p in enumerate(pairs)},
    )
    return empty(
        utc_ns=UTC_NS + tick * NS_PER_S,
        devices=tuple(device(i, power_mw=400_000 + tick) for i in range(devices)),
        workloads=tuple(WorkloadStatus(uuid=u, workload=w, power_mw=20_000 + tick, memory_used_bytes=2**30 + tick,
                                       cost_nano_per_hour=7_360_000_000 + tick, method="sampled") for u, w in pairs),
        totals=totals, agent=agent(ticks=tick),
    )
