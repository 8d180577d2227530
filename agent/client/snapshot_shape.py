"""What ``gpu-finops top`` reads of a daemon's snapshot: the keys and types that an answer must have. Others are left out."""

from __future__ import annotations

from typing import TypedDict


class ToldTariff(TypedDict):
    rate: str
    currency: str
    price_per_kwh: float


class ToldOverview(TypedDict):
    net_cost: dict[str, float]
    cost_per_hour: float | None
    power_watts: float | None
    devices_up: int
    unpriced_workloads: int


class ToldDevice(TypedDict):
    uuid: str
    index: int
    name: str
    up: bool
    state: str
    power_watts: float | None
    power_limit_watts: float | None
    utilization_ratio: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: int | None


class ToldWorkload(TypedDict):
    uuid: str
    tags: dict[str, str]
    power_watts: float | None
    cost_per_hour: float | None


class ToldWaste(TypedDict):
    reason: str
    currency: str
    cost: float


class ToldSnapshot(TypedDict):
    """The whole document."""

    utc: str
    site: str
    currency: str
    driver_version: str
    simulated: bool
    stale: bool
    tag_keys: list[str]
    tariff: ToldTariff | None
    overview: ToldOverview
    devices: list[ToldDevice]
    workloads: list[ToldWorkload]
    waste: list[ToldWaste]
