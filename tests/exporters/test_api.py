"""/api/v1/snapshot: every number in its unit, unknown as null, and sums that agree with the metrics."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from agent.model import FOREVER_NS
from exporters.api import encode, snapshot_document
from exporters.exposition import TEXT, Exposition
from tests.exporters import snapshots
from tests.exporters.serving import ask


def document(snapshot=None):
    return json.loads(encode(snapshot_document(snapshot or snapshots.fixed())))


def test_golden(golden):
    golden("snapshot.json", (json.dumps(document(), indent=1, ensure_ascii=False) + "\n").encode())


def test_it_is_served(serve):
    answer = ask(serve().port, "/api/v1/snapshot")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == document()


def test_numbers_are_in_base_units():
    shown = document()
    device = shown["devices"][0]
    assert (device["power_watts"], device["energy_joules"], device["state_seconds"]["active"]) == (412.5, 7.2e6, 36_000.0)
    workload = next(w for w in shown["workloads"] if w["tags"]["model"] == "kronos-base")
    assert (workload["energy_joules"], workload["gpu_seconds"], workload["cost_per_hour"]) == (5e6, 25_000.0, 7.36)
    assert shown["tariff"] == {"tariff": "cn-industrial", "rate": "peak", "currency": "CNY", "price_per_kwh": 1.2,
                               "until": "2026-11-22T01:00:00Z"}
    assert shown["overview"]["net_cost"] == {"CNY": 79.1500005}
    assert shown["agent"]["last_sample_utc"] == "2026-11-22T00:00:00Z"


def test_unknown_is_null():
    shown = document()
    lost = shown["devices"][1]
    assert (lost["up"], lost["state"], lost["power_watts"], lost["memory_total_bytes"]) == (False, "unknown", None, None)
    assert lost["energy_joules"] == 1.5
    small = next(w for w in shown["workloads"] if w["tags"]["model"] == "kronos-small")
    assert (small["power_watts"], small["memory_used_bytes"], small["cost_per_hour"]) == (112.5, None, None)
    stale = document(replace(snapshots.fixed(), stale=True))
    assert {w["power_watts"] for w in stale["workloads"]} == {None}
    assert stale["overview"]["power_watts"] is None
    assert stale["overview"]["cost_per_hour"] is None
    forever = replace(snapshots.fixed(), tariff=replace(snapshots.fixed().tariff, until_utc_ns=FOREVER_NS))
    assert document(forever)["tariff"]["until"] is None
    bare = document(snapshots.empty(agent=snapshots.agent(last_sample_utc_ns=None)))
    assert (bare["tariff"], bare["host"], bare["agent"]["last_sample_utc"], bare["devices"]) == (None, None, None, [])


@pytest.mark.parametrize("snapshot", [snapshots.fixed(), snapshots.fleet(3, 5, tick=9)], ids=["fixed", "fleet"])
def test_costs_and_energy_are_the_metrics(snapshot):
    exposition = Exposition()
    exposition.publish(snapshot)
    sums: dict[str, float] = {}
    for line in exposition.render(TEXT).decode().splitlines():
        if not line.startswith("#"):
            name = line.partition("{")[0]
            sums[name] = sums.get(name, 0.0) + float(line.rpartition(" ")[2])
    shown = document(snapshot)
    assert sum(c["cost"] for c in shown["costs"]) == pytest.approx(sums["finops_workload_cost_total"], rel=1e-12)
    assert shown["overview"]["net_cost"]["CNY"] == pytest.approx(
        sums["finops_workload_cost_total"] - sums.get("finops_workload_credit_total", 0), rel=1e-12)
    assert sum(w["energy_joules"] for w in shown["workloads"]) == pytest.approx(
        sums["finops_workload_energy_joules_total"], rel=1e-12)
    assert sum(w["cost"] for w in shown["waste"]) == pytest.approx(sums["finops_waste_cost_total"], rel=1e-12)
    assert shown["overview"]["energy_joules"] == pytest.approx(sums["finops_gpu_energy_joules_total"], rel=1e-12)
