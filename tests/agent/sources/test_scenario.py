"""Scenarios: what is taken, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.errors import ConfigError
from agent.sources.scenario import DEFAULT_SCENARIO, load_scenario


def one(**workload: Any) -> dict[str, Any]:
    return {"devices": 2, "workload": [{"gpus": [0], **workload}]}


def test_without_a_scenario_a_newcomer_sees_the_default() -> None:
    assert load_scenario(None, None, None) == DEFAULT_SCENARIO


def test_seed_and_devices_stand_in_for_the_scenarios_own() -> None:
    scenario = load_scenario({"seed": 5, "devices": 3}, 7, None)
    assert (scenario.seed, scenario.devices) == (7, 3)
    assert load_scenario({"seed": 5, "devices": 3}, None, 8).devices == 8


def test_a_file_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('devices = 3\n[gpu]\nlimit_watts = 300\n[[workload]]\ngpus = [1]\ntags = { project = "p" }\n')
    given = {"devices": 3, "gpu": {"limit_watts": 300}, "workload": [{"gpus": [1], "tags": {"project": "p"}}]}
    assert load_scenario(str(file), None, None) == load_scenario(given, None, None)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"devices": 0}, "scenario: devices: 0 GPUs are too few, write 1 or more"),
        ({"repeat": -1}, "repeat: -1 is negative"),
        ({"jitter": 0.6}, "jitter: 0.6 is outside 0 to 0.5"),
        ({"utc_offset_minutes": 900}, "further than 14 hours"),
        ({"gpu": {"idle_watts": 700}}, "must be under limit_watts"),
        ({"gpu": {"context_watts": -1}}, "none of them negative"),
        ({"color": "red"}, "unknown field `color`"),
        ({"devices": "two"}, "Expected `int`, got `str`"),
        (one(colour=1), "unknown field `colour`"),
        (one(busy=1.5), "workload 1: busy: a share of a GPU is from 0 to 1"),
        (one(busy=[0.1, 0.2]), "busy: has 2 values, write one or 24"),
        (one(weekend=2), "weekend: 2 is outside 0 to 1"),
        (one(memory_gib=-1), "memory_gib: -1 is negative"),
        (one(memory_gib=81), "position 0 hold 81 of 80 GiB"),
        (one(present_hours=[8, 8]), "present_hours: [8, 8] is not two different hours"),
        (one(present_hours=[8, 25]), "present_hours: [8, 25]"),
        (one(every_s=700, lasts_s=100), "every_s: 700 s neither divides the hour"),
        (one(every_s=45, lasts_s=10), "every_s: 45 s neither divides the hour"),
        (one(every_s=600), "lasts_s: 0 s is not a multiple"),
        (one(lasts_s=600), "every_s: 0 s neither"),
        (one(every_s=600, lasts_s=600), "under every_s (600 s)"),
        (one(burst_every_s=60, burst_s=15), "burst_s: 15 s is not a multiple of 10 s"),
        ({"devices": 2, "workload": [{"gpus": [2]}]}, "gpus: 2 is not one of the positions 0 to 1"),
    ],
)
def test_a_fault_is_told_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(given, None, None)
    assert len(caught.value.faults) == 1
    assert sentence in caught.value.faults[0]


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario({"devices": 0, "jitter": 2}, None, None)
    assert len(caught.value.faults) == 2


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=r"none\.toml: the scenario cannot be read \(No such file"):
        load_scenario(str(missing), None, None)
    broken = tmp_path / "broken.toml"
    broken.write_text("devices = \n")
    with pytest.raises(ConfigError, match=r"broken\.toml: the scenario is not TOML: .*line 1"):
        load_scenario(str(broken), None, None)


def test_the_default_is_two_gpus_with_four_workloads_one_of_them_untagged() -> None:
    scenario = DEFAULT_SCENARIO
    seen = [w for w in scenario.workload if {0, 1} & set(w.gpus)]
    assert scenario.devices == 2
    assert len(seen) == 4
    assert [w for w in seen if not w.tags]
    versions = {(w.tags["model"], w.tags["model_version"]) for w in seen if w.tags}
    assert {("kronos-base", "1.0"), ("kronos-base", "1.1")} <= versions
    assert msgspec.json.decode(msgspec.json.encode(scenario), type=type(scenario)) == scenario
