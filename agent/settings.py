"""The configuration as frozen records: what each stage is told. ``agent.config.config`` fills them from TOML.

Durations are integer nanoseconds, money and prices Decimal in currency units (stages turn them into integers once).
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from agent.series_csv import Series
from agent.units import NS_PER_S


class Site(Struct, frozen=True, kw_only=True):
    """The place: its name, its electricity tariff, its overhead."""

    name: str = "default"
    timezone: str = "UTC"                        # whose days and months budgets and reports use: the tariff's unless given
    tariff: str | None = None
    pue: Decimal = Decimal("1.0")                # power usage effectiveness: site energy per device energy
    carbon_g_per_kwh: Decimal | None = None      # constant intensity
    carbon_csv: Path | None = None               # or rows start,grams
    baseline_kwh: Decimal = Decimal(0)           # tiers: what others on the meter used since the tier period began


class RentSeries(Struct, frozen=True, kw_only=True):
    """Prices per GPU hour from a CSV file; what holds after the last row's own length: "last", "error", or a price."""

    series: Series
    missing: str | Decimal


class Hardware(Struct, frozen=True, kw_only=True):
    """A line of the price book: the first glob on the NVML name that matches. Either owned or rented."""

    gpu: str
    bought_ns: int | None = None                 # the local midnight on which it began to lose value; None: always does
    declining_rate: Decimal | None = None        # of what is left, a year; None: straight line
    reserved_per_gpu_hour: Decimal | None = None # as rent; owed for the hours with nobody on it too
    rent_series: RentSeries | None = None        # as rent, by a price series
    price: Decimal | None = None
    salvage: Decimal = Decimal(0)
    years: Decimal | None = None                 # straight line over years x 8760 h
    maintenance_per_year: Decimal = Decimal(0)
    rent_per_gpu_hour: Decimal | None = None     # instead of energy and hardware
    currency: str | None = None                  # None: the site's tariff's


class Host(Struct, frozen=True, kw_only=True):
    """The machine around the GPUs, shared over their workloads. By price, or by power between idle and all CPUs busy."""

    price_per_hour: Decimal | None = None
    currency: str | None = None                  # None: the site's tariff's
    idle_watts: Decimal | None = None            # without the GPUs; priced by the site's tariff and PUE
    max_watts: Decimal | None = None


class CalibrationRule(Struct, frozen=True, kw_only=True):
    """What a meter of one's own shows per what the device's sensor shows; for the devices that the glob matches."""

    gpu: str                                     # uuid or NVML name
    factor: Decimal                              # 0.5 to 2, at most six decimals


class TagRule(Struct, frozen=True, kw_only=True):
    """All given globs must match; the tags in ``tags`` (TOML: ``set``) are then given."""

    tags: dict[str, str]
    user: str | None = None
    group: str | None = None
    command: str | None = None
    exe: str | None = None
    cwd: str | None = None
    cgroup: str | None = None
    unit: str | None = None
    gpu: str | None = None                       # uuid or NVML name


class TagGrant(Struct, frozen=True, kw_only=True):
    """Who may charge what."""

    projects: tuple[str, ...]
    user: str | None = None
    group: str | None = None


class Tags(Struct, frozen=True, kw_only=True):
    """How processes get their names."""

    keys: tuple[str, ...] = ("project", "team", "model", "model_version")
    sources: tuple[str, ...] = ("session", "environ", "slurm", "kubernetes", "rules")
    max_workloads: int = 200
    rules: tuple[TagRule, ...] = ()
    grants: tuple[TagGrant, ...] = ()


class Idle(Struct, frozen=True, kw_only=True):
    """When a device counts as wasted."""

    utilization_ratio: float = 0.05
    warn_after_ns: int = 15 * 60 * NS_PER_S
    critical_after_ns: int = 60 * 60 * NS_PER_S
    policy: str = "separate"                     # separate, proportional, even


class Budget(Struct, frozen=True, kw_only=True):
    """A limit on what matches, per calendar period in the site's timezone."""

    name: str
    match: dict[str, str]                        # tag key -> glob, or {"instance": "*"} for everything
    period: str                                  # day, week, month, quarter, year
    limit: Decimal
    thresholds: tuple[float, ...] = (0.5, 0.8, 1.0)
    currency: str | None = None


class Retention(Struct, frozen=True, kw_only=True):
    """How long the ledger keeps its rows as fine as they were written. Rows of a day are kept for ever."""

    keep_quarter_hours_ns: int = 35 * 86_400 * NS_PER_S
    keep_hours_ns: int = 400 * 86_400 * NS_PER_S


class Web(Struct, frozen=True, kw_only=True):
    """Where to listen, and the exporter-toolkit's web.yml."""

    host: str = "127.0.0.1"
    port: int = 10061
    config_file: Path | None = None
    allow_unauthenticated: bool = False


class RateSpan(Struct, frozen=True, kw_only=True):
    """A span of the day in minutes since local midnight, half-open; ``end`` <= ``start`` wraps midnight, 1440 = 24:00."""

    start_minute: int
    end_minute: int


class TariffRule(Struct, frozen=True, kw_only=True):
    """First match wins; an empty field matches everything."""

    rate: str
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()       # 0 = Monday
    hours: tuple[RateSpan, ...] = ()
    dates: frozenset[dt.date] = frozenset()
