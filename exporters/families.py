"""The one table of metrics: name, type, help, unit, labels, and where each sample is found in a Snapshot.

Names, types and labels are those of the contract; ``docs/metrics.md`` is generated from this table. A sample is a key and
a raw number. The key holds the label values in the order of ``labels`` (a workload's tags nested as one tuple, ``W`` in
``labels``); the number divided by ``scale`` is what is shown. Integers become floats here and nowhere earlier.

A value that is unknown has no sample, never a zero. A device that did not answer keeps its counters, ``finops_gpu_info``,
``finops_gpu_up`` 0 and its state ``unknown``; its gauges are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from agent.model import DeviceStatus, HostReading, Snapshot, WorkloadStatus
from agent.units import ATTO, MJ_PER_J, NANO, NS_PER_S
from exporters.selfstatus import ProcessStatus, SelfStatus

W = "W"                                          # in Family.labels: the configured tag keys
STATES = ("active", "underused", "parked", "unallocated", "unknown")
MW_PER_W = 1_000
UG_PER_G = 1_000_000

Key = str | tuple[str | tuple[str, ...], ...]
Sample = tuple[Key, int | float]
Source = TypeVar("Source")


class Family(Struct, Generic[Source], frozen=True):
    """One metric family. ``read`` yields samples with distinct keys."""

    name: str                                    # as sampled: counters end in _total
    type: str                                    # gauge or counter
    help: str
    labels: tuple[str, ...]
    read: Callable[[Source], Iterable[Sample]]
    scale: int = 1
    unit: str = ""                               # of the shown number; also the name's suffix where it has one

    @property
    def base(self) -> str:
        """The name without a counter's ``_total``: what OpenMetrics calls the family."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def suffix_unit(self) -> str:
        """The unit if the name ends with it, as OpenMetrics' UNIT line wants; else empty."""
        return self.unit if self.unit and self.base.endswith(f"_{self.unit}") else ""


def label_names(labels: tuple[str, ...], tag_keys: tuple[str, ...]) -> tuple[str, ...]:
    """The labels with ``W`` replaced by the configured tag keys."""
    names: list[str] = []
    for label in labels:
        names.extend(tag_keys if label == W else (label,))
    return tuple(names)


def label_values(key: Key) -> tuple[str, ...]:
    """A sample's key as label values, flat, in the order of ``label_names``."""
    if isinstance(key, str):
        return (key,)
    values: list[str] = []
    for part in key:
        values.extend((part,) if isinstance(part, str) else part)
    return tuple(values)


def is_up(device: DeviceStatus, snapshot: Snapshot) -> bool:
    """Whether the device's last reading is good and the probe that made it still answers."""
    return device.up and not snapshot.stale


def _device_gauge(read: Callable[[DeviceStatus], float | None]) -> Callable[[Snapshot], Iterator[Sample]]:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for device in snapshot.devices:
            value = read(device) if is_up(device, snapshot) else None
            if value is not None:
                yield device.uuid, value
    return samples


def _workload_gauge(read: Callable[[WorkloadStatus], float | None]) -> Callable[[Snapshot], Iterator[Sample]]:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        up = {device.uuid for device in snapshot.devices if is_up(device, snapshot)}
        for status in snapshot.workloads:
            value = read(status) if status.uuid in up else None
            if value is not None:
                yield (status.uuid, status.workload), value
    return samples


def _host(read: Callable[[HostReading], float | None], counter: bool = False) -> Callable[[Snapshot], Iterator[Sample]]:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        if snapshot.host is not None and (counter or not snapshot.stale):
            value = read(snapshot.host)
            if value is not None:
                yield (), value
    return samples


def _agent(read: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], Iterator[Sample]]:
    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        value = read(snapshot)
        if value is not None:
            yield (), value
    return samples


def _process(read: Callable[[ProcessStatus], float | None]) -> Callable[[SelfStatus], Iterator[Sample]]:
    def samples(status: SelfStatus) -> Iterator[Sample]:
        value = read(status.process) if status.process is not None else None
        if value is not None:
            yield (), value
    return samples


def _gpu_info(snapshot: Snapshot) -> Iterator[Sample]:
    for d in snapshot.devices:
        yield (d.uuid, str(d.index), d.name, snapshot.driver_version, d.energy_method), 1


def _mig_info(snapshot: Snapshot) -> Iterator[Sample]:
    for device in snapshot.devices:
        if device.parent_uuid is not None:
            yield (device.uuid, device.parent_uuid), 1


def _attribution_info(snapshot: Snapshot) -> Iterator[Sample]:
    up = {device.uuid for device in snapshot.devices if is_up(device, snapshot)}
    for status in snapshot.workloads:
        if status.uuid in up:
            yield (status.uuid, status.workload, status.method), 1


def _metered(totals: Mapping[str, int]) -> Iterator[Sample]:
    """Without MIG instances: they have no meter, and what they used is in their GPU's and in their workloads'."""
    return ((uuid, total) for uuid, total in totals.items() if not uuid.startswith("MIG-"))


def _gpu_state(snapshot: Snapshot) -> Iterator[Sample]:
    for device in snapshot.devices:
        now = device.state if is_up(device, snapshot) else "unknown"
        for state in STATES:
            yield (device.uuid, state), int(state == now)


def _cost_per_hour(snapshot: Snapshot) -> Iterator[Sample]:
    for key, value in _workload_gauge(lambda w: w.cost_nano_per_hour)(snapshot):
        yield (*key, snapshot.currency), value


def _tariff_price(snapshot: Snapshot) -> Iterator[Sample]:
    if snapshot.tariff is not None:
        tariff = snapshot.tariff
        yield (tariff.tariff, tariff.rate, tariff.currency), tariff.price_atto_per_kwh


def _budget_burn(snapshot: Snapshot) -> Iterator[Sample]:
    for budget in snapshot.budgets:
        for window, ratio in budget.burn_ratio.items():
            yield (budget.name, window), ratio


_BUDGET = ("budget", "period", "currency")
_MONEY = "units of the currency"

FAMILIES: tuple[Family[Snapshot], ...] = (
    Family("finops_gpu_info", "gauge", "What the device is; always 1.",
           ("uuid", "index", "name", "driver_version", "energy_method"), _gpu_info),
    Family("finops_gpu_up", "gauge", "Whether the device's last reading is good and fresh (1) or not (0).", ("uuid",),
           lambda s: ((d.uuid, int(is_up(d, s))) for d in s.devices)),
    Family("finops_gpu_power_watts", "gauge", "Power that the device draws, over the driver's own averaging window.",
           ("uuid",), _device_gauge(lambda d: d.power_mw), MW_PER_W, "watts"),
    Family("finops_gpu_power_limit_watts", "gauge", "Power limit that the driver enforces.",
           ("uuid",), _device_gauge(lambda d: d.power_limit_mw), MW_PER_W, "watts"),
    Family("finops_gpu_utilization_ratio", "gauge", "Share of the last sample period in which a kernel ran.",
           ("uuid",), _device_gauge(lambda d: d.utilization_ratio), unit="ratio"),
    Family("finops_gpu_memory_used_bytes", "gauge", "Device memory in use.",
           ("uuid",), _device_gauge(lambda d: d.memory_used_bytes), unit="bytes"),
    Family("finops_gpu_memory_total_bytes", "gauge", "Device memory installed.",
           ("uuid",), _device_gauge(lambda d: d.memory_total_bytes), unit="bytes"),
    Family("finops_gpu_temperature_celsius", "gauge", "Temperature of the device's core.",
           ("uuid",), _device_gauge(lambda d: d.temperature_celsius), unit="celsius"),
    Family("finops_gpu_mig_info", "gauge", "The GPU that a MIG instance is a part of; always 1.",
           ("uuid", "parent_uuid"), _mig_info),
    Family("finops_gpu_bare_power_watts", "gauge",
           "Learned power of the device with nobody on it. Missing as long as that was not seen.",
           ("uuid",), _device_gauge(lambda d: d.bare_power_mw), MW_PER_W, "watts"),
    Family("finops_gpu_context_power_watts", "gauge",
           "Learned power that open contexts add to the bare device's. Missing as long as no parked process was seen.",
           ("uuid",), _device_gauge(lambda d: d.context_power_mw), MW_PER_W, "watts"),
    Family("finops_gpu_energy_joules_total", "counter", "Energy that the device used, over the ledger's lifetime.",
           ("uuid",), lambda s: _metered(s.totals.device_energy_mj), MJ_PER_J, "joules"),
    Family("finops_gpu_gap_seconds_total", "counter", "Time for which no energy is known: counted, never filled in.",
           ("uuid",), lambda s: _metered(s.totals.device_gap_ns), NS_PER_S, "seconds"),
    Family("finops_gpu_energy_disagreement_ratio", "gauge",
           "(counter - integral of power) / integral, over the last minute.",
           ("uuid",), _device_gauge(lambda d: d.energy_disagreement_ratio), unit="ratio"),
    Family("finops_gpu_energy_suspect", "gauge", "1 where counter and integral of power differ by more than 10 %, else 0.",
           ("uuid",), _device_gauge(lambda d: d.energy_suspect)),
    Family("finops_gpu_hidden_processes", "gauge",
           "Processes on the device that /proc does not show: counted as __unattributed__.",
           ("uuid",), _device_gauge(lambda d: d.hidden_processes)),
    Family("finops_gpu_unpriced_joules_total", "counter", "Energy of the device that no known price covered.",
           ("uuid",), lambda s: s.totals.device_unpriced_mj.items(), MJ_PER_J, "joules"),
    Family("finops_gpu_state", "gauge", "1 for the state that the device is in, 0 for the others.",
           ("uuid", "state"), _gpu_state),
    Family("finops_gpu_state_seconds_total", "counter", "Time that the device spent in each state.",
           ("uuid", "state"), lambda s: s.totals.device_state_ns.items(), NS_PER_S, "seconds"),
    Family("finops_workload_energy_joules_total", "counter", "Energy that the workload used on the device.",
           ("uuid", W), lambda s: s.totals.energy_mj.items(), MJ_PER_J, "joules"),
    Family("finops_workload_gpu_seconds_total", "counter", "Device time that the workload used: its share of each second.",
           ("uuid", W), lambda s: s.totals.gpu_ns.items(), NS_PER_S, "seconds"),
    Family("finops_workload_emissions_grams_total", "counter", "CO2 equivalent of the workload's energy.",
           ("uuid", W), lambda s: ((k, ug) for k, ug in s.totals.emissions_ug.items() if ug), UG_PER_G, "grams"),
    Family("finops_workload_cost_total", "counter", "Cost of the workload by component; negative prices are in the credit.",
           ("uuid", W, "component", "currency"), lambda s: s.totals.cost_nano.items(), NANO, _MONEY),
    Family("finops_workload_credit_total", "counter", "What negative prices and re-rating gave back to the workload.",
           ("uuid", W, "component", "currency"), lambda s: s.totals.credit_nano.items(), NANO, _MONEY),
    Family("finops_workload_attribution_info", "gauge", "How the workload's share was found at the last tick; always 1.",
           ("uuid", W, "method"), _attribution_info),
    Family("finops_workload_share_error_ratio", "gauge",
           "95 % half-width of the workload's sampled share over 10 minutes. Missing where nothing tells shares apart.",
           ("uuid", W), _workload_gauge(lambda w: w.share_error_ratio), unit="ratio"),
    Family("finops_workload_power_watts", "gauge", "Power attributed to the workload at the last tick.",
           ("uuid", W), _workload_gauge(lambda w: w.power_mw), MW_PER_W, "watts"),
    Family("finops_workload_memory_used_bytes", "gauge", "Device memory that the workload's processes hold.",
           ("uuid", W), _workload_gauge(lambda w: w.memory_used_bytes), unit="bytes"),
    Family("finops_workload_cost_per_hour", "gauge", "What the workload costs an hour at the last tick's rate.",
           ("uuid", W, "currency"), _cost_per_hour, NANO, f"{_MONEY} per hour"),
    Family("finops_waste_cost_total", "counter", "Cost of device time that did no work, by reason.",
           ("uuid", W, "reason", "currency"), lambda s: s.totals.waste_nano.items(), NANO, _MONEY),
    Family("finops_workload_state_seconds_total", "counter",
           "Device time that the workload used while the device was in each state.", ("uuid", W, "state"),
           lambda s: s.totals.state_gpu_ns.items(), NS_PER_S, "seconds"),
    Family("finops_workload_state_energy_joules_total", "counter",
           "Energy that the workload used while the device was in each state.", ("uuid", W, "state"),
           lambda s: s.totals.state_energy_mj.items(), MJ_PER_J, "joules"),
    Family("finops_workload_state_cost_total", "counter",
           "Cost of the workload while the device was in each state; re-rated and earlier cost is unknown.",
           ("uuid", W, "state", "currency"), lambda s: s.totals.state_cost_nano.items(), NANO, _MONEY),
    Family("finops_tariff_price_per_kwh", "gauge", "Price of a kilowatt-hour in force, with adders and tax.",
           ("tariff", "rate", "currency"), _tariff_price, ATTO, f"{_MONEY} per kWh"),
    Family("finops_budget_limit", "gauge", "The budget's limit for its current period.", _BUDGET,
           lambda s: (((b.name, b.period, b.currency), b.limit_nano) for b in s.budgets), NANO, _MONEY),
    Family("finops_budget_spent", "gauge", "Spent from the budget in its current period.", _BUDGET,
           lambda s: (((b.name, b.period, b.currency), b.spent_nano) for b in s.budgets), NANO, _MONEY),
    Family("finops_budget_forecast", "gauge", "Spend at the period's end if the last days' rate goes on.", _BUDGET,
           lambda s: (((b.name, b.period, b.currency), b.forecast_nano) for b in s.budgets), NANO, _MONEY),
    Family("finops_budget_burn_ratio", "gauge", "How fast the budget is spent over the window; 1 is on plan.",
           ("budget", "window"), _budget_burn, unit="ratio"),
    Family("finops_host_cpu_utilization_ratio", "gauge", "Share of the host's CPU time in use.",
           (), _host(lambda h: h.cpu_utilization_ratio), unit="ratio"),
    Family("finops_host_memory_used_bytes", "gauge", "Host memory in use.",
           (), _host(lambda h: h.memory_used_bytes), unit="bytes"),
    Family("finops_host_disk_read_bytes_total", "counter", "Read from the host's physical disks since boot.",
           (), _host(lambda h: h.disk_read_bytes, counter=True), unit="bytes"),
    Family("finops_host_disk_written_bytes_total", "counter", "Written to the host's physical disks since boot.",
           (), _host(lambda h: h.disk_written_bytes, counter=True), unit="bytes"),
    Family("finops_agent_build_info", "gauge", "The agent's version; always 1.", ("version",),
           lambda s: (((s.agent.version,), 1),)),
    Family("finops_agent_simulated", "gauge", "Whether the devices are simulated (1): nothing was measured then.", (),
           _agent(lambda s: int(s.simulated))),
    Family("finops_agent_probe_up", "gauge", "Whether the probe, which reads the devices, answers (1) or is stale (0).", (),
           _agent(lambda s: int(not s.stale))),
    Family("finops_agent_last_sample_timestamp_seconds", "gauge", "When the devices were last read, since the epoch.", (),
           _agent(lambda s: s.agent.last_sample_utc_ns), NS_PER_S, "seconds"),
    Family("finops_agent_ticks_total", "counter", "Readings carried through the pipeline since the start.", (),
           _agent(lambda s: s.agent.ticks)),
    Family("finops_agent_missed_ticks_total", "counter", "Readings that were due and did not come.", (),
           _agent(lambda s: s.agent.missed_ticks)),
    Family("finops_agent_tick_seconds", "gauge", "How long the last tick took.", (),
           _agent(lambda s: s.agent.tick_seconds), unit="seconds"),
    Family("finops_agent_queued_ticks", "gauge", "Readings not yet committed to the ledger.", (),
           _agent(lambda s: s.agent.queued_ticks)),
    Family("finops_agent_dropped_ticks_total", "counter", "Readings that a full queue dropped.", (),
           _agent(lambda s: s.agent.dropped_ticks)),
    Family("finops_agent_ledger_ok", "gauge", "Whether the ledger's last write succeeded.", (),
           _agent(lambda s: int(s.agent.ledger_ok))),
    Family("finops_agent_ledgers_set_aside", "gauge", "Damaged ledgers that lie set aside in the state directory.", (),
           _agent(lambda s: s.agent.ledgers_set_aside)),
    Family("finops_agent_config_reload_success", "gauge", "Whether the last reading of the configuration succeeded.", (),
           _agent(lambda s: int(s.agent.config_reload_success))),
    Family("finops_agent_dropped_series_total", "counter", "Workloads booked as __overflow__ because of max_workloads.", (),
           _agent(lambda s: s.agent.dropped_series)),
    Family("finops_agent_probe_restarts_total", "counter", "How often the probe was replaced.", (),
           _agent(lambda s: s.agent.probe_restarts)),
    Family("finops_agent_unpriced_workloads", "gauge", "Workloads that draw power now and have no price.", (),
           _agent(lambda s: sum(w.cost_nano_per_hour is None for w in s.workloads))),
)

SELF_FAMILIES: tuple[Family[SelfStatus], ...] = (
    Family("finops_agent_http_connections", "gauge", "Open connections to the agent's web server.", (),
           lambda s: (((), s.web.connections),)),
    Family("finops_agent_http_evicted_connections_total", "counter",
           "Connections closed to make room for a new one, because the cap was reached.", (),
           lambda s: (((), s.web.evicted),)),
    Family("finops_agent_http_timed_out_connections_total", "counter",
           "Connections closed because a request, a response or an idle time took too long.", (),
           lambda s: (((), s.web.timed_out),)),
    Family("finops_agent_http_refused_requests_total", "counter",
           "Requests refused because too many of their kind were waiting.", (),
           lambda s: (((), s.web.refused),)),
    Family("process_cpu_seconds_total", "counter", "User and system CPU time of the daemon.", (),
           _process(lambda p: p.cpu_seconds), unit="seconds"),
    Family("process_resident_memory_bytes", "gauge", "Resident memory of the daemon.", (),
           _process(lambda p: p.resident_bytes), unit="bytes"),
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory of the daemon.", (),
           _process(lambda p: p.virtual_bytes), unit="bytes"),
    Family("process_start_time_seconds", "gauge", "When the daemon started, since the epoch.", (),
           _process(lambda p: p.start_utc_seconds), unit="seconds"),
    Family("process_open_fds", "gauge", "Open file descriptors of the daemon.", (),
           _process(lambda p: p.open_descriptors)),
    Family("process_max_fds", "gauge", "Most file descriptors that the daemon may open.", (),
           _process(lambda p: p.max_descriptors)),
)
