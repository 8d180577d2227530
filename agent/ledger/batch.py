"""Ticks on their way into the ledger: summed per ledger row, so that what waits is bounded by rows, not by ticks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent.energy.metering import MeterState
from agent.model import INCLUDED_IN_RENT, Charge, EnergyInterval, Workload
from agent.pricing.host_cost import HostState
from agent.units import NS_PER_S

WASTE_STATES = frozenset({"unallocated", "parked", "underused"})
MINUTE_NS = 60 * NS_PER_S
MAX_PENDING_ROWS = 200_000              # about 100 MB; with 8 GPUs and 20 workloads, days of a ledger that cannot write

# slot (start and end), uuid, workload, component, currency, tariff, rate, price
UsageKey = tuple[tuple[int, int], str, Workload, str, str, str, str, int]
CostKey = tuple[str, Workload, str, str]                        # uuid, workload, component, currency


class Batch:
    """Everything that a flush writes, in one transaction. Filled by ``add``, emptied by making a new one.

    Lists are sums in a fixed order, noted beside each.
    """

    def __init__(self, max_rows: int = MAX_PENDING_ROWS) -> None:
        self._max_rows = max_rows
        self.sequences: dict[str, int] = {}                     # session -> last sequence in here
        self.first_sequences: dict[str, int] = {}
        self.ticks = 0
        self.names: dict[str, str] = {}                         # uuid -> NVML name
        self.meters: Mapping[str, MeterState] = {}
        self.devices: dict[str, list[int]] = {}                 # uuid -> energy_mj, gap_ns, unpriced_mj
        self.states: dict[tuple[str, str], int] = {}            # uuid, state -> ns
        self.workloads: dict[tuple[str, Workload], list[int]] = {}      # energy_mj, gpu_ns, emissions_ug
        self.costs: dict[CostKey, list[int]] = {}               # cost_nano, credit_nano, carry (the last one's)
        self.host: HostState | None = None                      # up to where the host is charged
        self.calibrations: dict[str, bytes] = {}                # uuid -> what attribution has learned of the device
        self.state_use: dict[tuple[str, Workload, str], list[int]] = {}     # uuid, workload, state -> gpu_ns, energy_mj
        self.state_costs: dict[CostKey, int] = {}               # uuid, workload, state, currency -> nano, without credits
        self.usage: dict[UsageKey, list[int]] = {}              # energy_mj, gpu_ns, cost_nano, emissions_ug
        self.spend: dict[tuple[int, Workload, str], int] = {}   # minute, workload, currency -> nano: for budgets

    @property
    def full(self) -> bool:
        return len(self.usage) >= self._max_rows

    def add(self, session: str, sequence: int, names: Mapping[str, str], intervals: Iterable[EnergyInterval],
            states: Mapping[str, str], charges: Sequence[Charge], meters: Mapping[str, MeterState],
            calibrations: Mapping[str, bytes] = {}, host: HostState | None = None) -> None:
        """Take up one tick, whole."""
        self.host = host or self.host
        self.first_sequences.setdefault(session, sequence)
        self.sequences[session] = sequence
        self.ticks += 1
        self.names.update(names)
        self.meters = dict(meters)
        self.calibrations.update(calibrations)
        for interval in intervals:
            device = self.devices.setdefault(interval.uuid, [0, 0, 0])
            device[0] += interval.energy_mj
            device[1] += interval.gap_ns
            state = "unknown" if interval.bridged else states.get(interval.uuid, "unknown")
            key = (interval.uuid, state)
            self.states[key] = self.states.get(key, 0) + interval.elapsed_ns - interval.gap_ns
            if interval.gap_ns:
                unknown = (interval.uuid, "unknown")
                self.states[unknown] = self.states.get(unknown, 0) + interval.gap_ns
        for charge in charges:
            self._add_charge(charge)

    def _add_charge(self, charge: Charge) -> None:
        uuid, workload, cost_nano = charge.uuid, charge.workload, charge.cost_nano
        if charge.component == "energy":
            total = self.workloads.setdefault((uuid, workload), [0, 0, 0])
            total[0] += charge.energy_mj
            total[1] += charge.gpu_ns
            total[2] += charge.emissions_ug
            use = self.state_use.setdefault((uuid, workload, charge.state), [0, 0])
            use[0] += charge.gpu_ns
            use[1] += charge.energy_mj
            if not charge.rate:
                self.devices.setdefault(uuid, [0, 0, 0])[2] += charge.energy_mj
        if charge.currency and charge.rate != INCLUDED_IN_RENT:
            self._add_cost(charge)
        row = self.usage.setdefault(
            (charge.slot_utc_ns, uuid, workload, charge.component, charge.currency, charge.tariff, charge.rate, charge.price),
            [0, 0, 0, 0])
        row[0] += charge.energy_mj
        row[1] += charge.gpu_ns
        row[2] += cost_nano
        row[3] += charge.emissions_ug

    def _add_cost(self, charge: Charge) -> None:
        uuid, workload, cost_nano = charge.uuid, charge.workload, charge.cost_nano
        cost = self.costs.setdefault((uuid, workload, charge.component, charge.currency), [0, 0, 0])
        cost[0 if cost_nano >= 0 else 1] += abs(cost_nano)
        cost[2] = charge.carry
        if cost_nano > 0:
            key = (uuid, workload, charge.state, charge.currency)
            self.state_costs[key] = self.state_costs.get(key, 0) + cost_nano
        minute = (charge.start_utc_ns - charge.start_utc_ns % MINUTE_NS, workload, charge.currency)
        self.spend[minute] = self.spend.get(minute, 0) + cost_nano
