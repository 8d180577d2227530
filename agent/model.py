"""The frozen records that travel through the house, in the order in which they come to be.

Reading (what the probe saw) -> EnergyInterval (what a device used) -> Share (who used it) -> Charge (what it cost) ->
Snapshot (what exporters show). Records go forward only and are never changed. Units are in the names: ``_mj`` millijoules,
``_mw`` milliwatts, ``_ns`` nanoseconds, ``_nano`` 1e-9 of a currency unit. ``None`` means unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

IDLE = "__idle__"                    # device on, nobody on it
UNATTRIBUTED = "__unattributed__"    # somebody, no tags
UNVERIFIED = "__unverified__"        # claimed, not granted
OVERFLOW = "__overflow__"            # past tags.max_workloads
RESERVED_PROJECTS = frozenset({IDLE, UNATTRIBUTED, UNVERIFIED, OVERFLOW})

INCLUDED_IN_RENT = "included in rent"    # the energy rate of a rented device: known, and nothing on top of the rent

FOREVER_NS = 2**63 - 1               # "no further change": an instant after every other

Workload = tuple[str, ...]           # one value per configured tag key, in the order of tags.keys; "" = not given


class ProcessUse(Struct, frozen=True, gc=False, array_like=True):
    """One process as one device lists it. (pid, start_ticks) names a process; a PID alone is reused."""

    pid: int                         # in the probe's PID namespace
    start_ticks: int                 # field 22 of /proc/PID/stat; 0 where the process is not visible
    memory_bytes: int | None         # None: NVML says "not available" (MIG, some virtual GPUs)
    kind: str = "compute"            # compute, graphics or mps


class UtilizationSample(Struct, frozen=True, gc=False, array_like=True):
    """One row of nvmlDeviceGetProcessUtilization: sampled time share of one process, in whole percent."""

    pid: int
    timestamp_us: int                # the driver's clock: CPU time since the epoch, microseconds
    sm_percent: int


class PowerSample(Struct, frozen=True, gc=False, array_like=True):
    """One entry of the driver's power ring (nvmlDeviceGetSamples, NVML_TOTAL_POWER_SAMPLES)."""

    timestamp_us: int
    power_mw: int


class AccountingUse(Struct, frozen=True, gc=False, array_like=True):
    """What the driver's accounting says of a process that has ended since the previous reading: its whole life on the
    device, nvmlDeviceGetAccountingStats. Only where accounting mode is enabled."""

    pid: int
    start_ticks: int                 # 0 where the process was never visible: it came and went between two readings
    started_us: int                  # on the driver's clock, as UtilizationSample.timestamp_us
    running_ms: int                  # how long it was on the device
    sm_percent: int                  # mean over that time
    memory_bytes: int | None         # the most it held


class DeviceReading(Struct, frozen=True, gc=False, omit_defaults=True):
    """One device at one moment. A field that the device does not answer is None and named in ``errors``."""

    uuid: str                                    # as NVML prints it: GPU-... or MIG-...
    index: int
    name: str
    boottime_ns: int                             # when this device's energy and power were read
    parent_uuid: str | None = None               # MIG: the GPU that this instance is a part of
    failed: str | None = None                    # the whole device did not answer, and why; the rest is None then
    energy_mj: int | None = None                 # hardware counter since driver load
    power_mw: int | None = None                  # the field's own averaging window: 1 s on Ampere and later
    power_average_mw: int | None = None          # NVML_FI_DEV_POWER_AVERAGE: the mean of the last second
    power_instant_mw: int | None = None          # NVML_FI_DEV_POWER_INSTANT
    power_limit_mw: int | None = None            # enforced limit
    utilization_ratio: float | None = None       # share of the last sample period in which a kernel ran
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: int | None = None
    mig_slices: int | None = None                # MIG: compute slices of this instance, or of the GPU that is divided
    processes: tuple[ProcessUse, ...] | None = None
    power_samples: tuple[PowerSample, ...] = ()              # new ones; where a counter is, rarely
    utilization_samples: tuple[UtilizationSample, ...] = ()  # rows newer than the previous reading's
    passed: tuple[ProcessUse, ...] = ()          # named by a row or by accounting, and not (or no longer) in processes
    accounting: tuple[AccountingUse, ...] = ()   # who ended since the previous reading
    gpm_sm_ratio: float | None = None            # GPM: mean share of SMs that were busy since the previous reading
    errors: Mapping[str, str] = {}               # field name -> NVML's error, e.g. {"energy_mj": "Not Supported"}


class ProcessFacts(Struct, frozen=True, gc=False, omit_defaults=True):
    """What /proc says about one process: read once when it is first seen on a device, sent once."""

    pid: int
    start_ticks: int
    parent_pid: int = 0
    user: str = ""                               # name, or the number where it has none
    group: str = ""
    command: str = ""                            # arguments joined by blanks
    exe: str = ""
    cwd: str = ""
    cgroup: str = ""                             # path of the unified hierarchy (or the memory controller's)
    unit: str = ""                               # systemd unit, from the cgroup path
    environ: Mapping[str, str] = {}              # only the variables a tag source reads: FINOPS_*, SLURM_*, ...
    hidden: str | None = None                    # why facts are missing (another PID namespace, no permission)


class ProcessCpu(Struct, frozen=True, gc=False, array_like=True):
    """How much CPU time a process on a device has had since it began: user and system, without its children."""

    pid: int
    start_ticks: int
    cpu_ns: int


class HostReading(Struct, frozen=True, gc=False):
    """The machine around the devices."""

    cpu_utilization_ratio: float | None
    memory_used_bytes: int | None
    disk_read_bytes: int | None                  # since boot, whole physical disks
    disk_written_bytes: int | None


class Reading(Struct, frozen=True, gc=False, omit_defaults=True):
    """Everything the probe saw in one look. Also a line of a recording."""

    session: str                                 # a new random word each time a source is opened
    sequence: int                                # 0, 1, 2 ... in the session; (session, sequence) is the tick's key
    boot_id: str                                 # /proc/sys/kernel/random/boot_id: counters reset across it
    boottime_ns: int
    monotonic_ns: int                            # stands still while the machine is suspended
    utc_ns: int
    driver_version: str
    devices: tuple[DeviceReading, ...]
    started: tuple[ProcessFacts, ...] = ()       # processes first seen on a device since the previous reading
    host: HostReading | None = None
    simulated: bool = False
    process_cpu: tuple[ProcessCpu, ...] = ()     # of all processes on devices; in some readings only


class EnergyInterval(Struct, frozen=True, gc=False):
    """What one device used between two readings. ``gap_ns`` is the part of the time that no energy vouches for."""

    uuid: str
    start_utc_ns: int                            # end - elapsed: the wall clock is read once, at the end
    end_utc_ns: int
    elapsed_ns: int                              # on BOOTTIME
    energy_mj: int
    gap_ns: int
    method: str                                  # counter, samples, trapezoid_instant, trapezoid
    bridged: bool = False                        # spans time in which the agent did not watch: nobody is named for it


class Share(Struct, frozen=True, gc=False):
    """One workload's part of an interval. Shares of an interval sum to its energy_mj and to its booked time, exactly."""

    uuid: str
    workload: Workload
    start_utc_ns: int
    end_utc_ns: int
    energy_mj: int
    gpu_ns: int
    method: str                                  # sampled, accounting, sole, equal, mig, idle, unwatched
    state: str = "unknown"                       # of the device then: active, underused, parked, unallocated, unknown
    calibrated: bool = False                     # the device's static power was known, and split apart from the dynamic


class Charge(Struct, frozen=True, gc=False):
    """The cost of one component of one share within one tariff interval. Energy and GPU time are on the
    ``energy`` component's charge only, so that sums over components do not repeat them."""

    uuid: str
    workload: Workload
    component: str                               # energy, hardware, maintenance, rent, host
    currency: str
    tariff: str
    rate: str                                    # the rate's name; "" for components without one
    price: int                                   # with a tariff: atto-units per kWh; else femto-units per hour
    start_utc_ns: int
    end_utc_ns: int
    energy_mj: int
    gpu_ns: int
    cost_nano: int                               # negative where the price was
    carry: int                                   # what the division left over; the next charge of this key takes it up
    state: str
    slot_utc_ns: tuple[int, int]                 # its ledger row's time: the quarter hour of UTC around it, cut where a price
                                                 # changes; the same for whatever begins in it
    emissions_ug: int = 0                        # micrograms CO2e, on the energy component


class DeviceStatus(Struct, frozen=True, gc=False):
    """One device as exporters show it: the last reading, and committed lifetime totals."""

    uuid: str
    index: int
    name: str
    up: bool                                     # the last reading of this device is good and fresh
    energy_method: str                           # counter, samples, trapezoid_instant, trapezoid, none
    state: str
    power_mw: int | None
    power_limit_mw: int | None
    utilization_ratio: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: int | None
    energy_disagreement_ratio: float | None = None    # (counter - integral) / integral over the last minute
    energy_suspect: bool | None = None                # they differ by more than 10 %
    hidden_processes: int | None = None               # PIDs that /proc does not show: nobody can be named for them
    bare_power_mw: int | None = None             # learned: with nobody on it; None: not seen yet
    context_power_mw: int | None = None          # learned: what open contexts add to it
    parent_uuid: str | None = None               # MIG: the GPU that this instance is a part of


class WorkloadStatus(Struct, frozen=True, gc=False):
    """What one workload draws on one device now. Gauges: not committed, not summed."""

    uuid: str
    workload: Workload
    power_mw: int
    memory_used_bytes: int | None
    cost_nano_per_hour: int | None               # None: the price is unknown
    method: str
    share_error_ratio: float | None = None       # 95 % half-width of its share over 10 minutes; None: nothing tells


class BudgetStatus(Struct, frozen=True, gc=False):
    """One budget in its current period. Money in nano-units."""

    name: str
    period: str                                  # 2026-11-22, 2026-W47, 2026-11, 2026-Q4, 2026
    currency: str
    limit_nano: int
    spent_nano: int
    forecast_nano: int                           # spend at the period's end if the last days' rate goes on
    burn_ratio: Mapping[str, float]              # window (1h, 6h, 3d) -> 1 = on plan
    thresholds: tuple[float, ...] = ()


class TariffStatus(Struct, frozen=True, gc=False):
    """The price in force now."""

    tariff: str
    rate: str
    currency: str
    price_atto_per_kwh: int
    until_utc_ns: int                            # FOREVER_NS where it never changes


class Totals(Struct, frozen=True, gc=False):
    """The ledger's committed lifetime totals. Every number only grows."""

    device_energy_mj: Mapping[str, int]                                   # uuid
    device_gap_ns: Mapping[str, int]                                      # uuid
    device_unpriced_mj: Mapping[str, int]                                 # uuid; energy that no known price covered
    device_state_ns: Mapping[tuple[str, str], int]                        # uuid, state
    energy_mj: Mapping[tuple[str, Workload], int]
    gpu_ns: Mapping[tuple[str, Workload], int]
    emissions_ug: Mapping[tuple[str, Workload], int]
    cost_nano: Mapping[tuple[str, Workload, str, str], int]               # uuid, workload, component, currency
    credit_nano: Mapping[tuple[str, Workload, str, str], int]
    waste_nano: Mapping[tuple[str, Workload, str, str], int]              # uuid, workload, reason, currency
    state_gpu_ns: Mapping[tuple[str, Workload, str], int] = {}            # uuid, workload, state of the device then
    state_energy_mj: Mapping[tuple[str, Workload, str], int] = {}
    state_cost_nano: Mapping[tuple[str, Workload, str, str], int] = {}    # ..., currency; sums to cost_nano


class AgentStatus(Struct, frozen=True, gc=False):
    """How the agent itself is doing."""

    version: str
    last_sample_utc_ns: int | None
    ticks: int
    missed_ticks: int
    tick_seconds: float                          # the last tick's duration
    ledger_ok: bool
    config_reload_success: bool
    dropped_series: int
    probe_restarts: int
    queued_ticks: int                            # read and not yet committed
    dropped_ticks: int                           # what a full queue dropped
    ledgers_set_aside: int = 0                   # damaged ones that still lie beside the ledger


class Snapshot(Struct, frozen=True):
    """What exporters publish: made once a tick, never changed. ``stale`` tells that the probe does not answer."""

    utc_ns: int
    tag_keys: tuple[str, ...]
    site: str
    currency: str                                # of the site's tariff; "" without one
    driver_version: str
    simulated: bool
    stale: bool
    devices: tuple[DeviceStatus, ...]
    workloads: tuple[WorkloadStatus, ...]
    totals: Totals
    budgets: tuple[BudgetStatus, ...]
    tariff: TariffStatus | None
    host: HostReading | None
    agent: AgentStatus
    listed: frozenset[Workload] | None = None    # the workloads that have series; None: all. Totals hold the others too
