"""docs/simulated.md: its scenario runs and does what its comments say, and its table has every key with its default."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from agent.sources.scenario import Scenario, SimulatedGpu, SimulatedWorkload, load_scenario
from agent.sources.simulated import SimulatedSource
from agent.units import NS_PER_HOUR, NS_PER_S
from tests.agent.sources.held_clock import HeldClock

PAGE = Path(__file__).resolve().parents[3] / "docs" / "simulated.md"
MONDAY_NS = int(dt.datetime(2026, 11, 16, tzinfo=dt.timezone(dt.timedelta(hours=8))).timestamp()) * NS_PER_S
ATLAS, KRONOS = ("atlas", "search", "", ""), ("kronos", "quant", "kronos-base", "1.0")
UNTAGGED, IDLE = ("__unattributed__", "", "", ""), ("__idle__", "", "", "")


def test_the_pages_scenario_does_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file.write_text(block)
    source = SimulatedSource({"scenario": str(file)}, clock=HeldClock(MONDAY_NS + 10 * NS_PER_HOUR))
    source.open()
    devices = source.read(0).devices
    assert [device.name for device in devices] == ["NVIDIA A100-SXM4-80GB (simulated)"] * 8
    assert [len(devices[i].processes) for i in (0, 3, 4, 7)] == [2, 0, 2, 0]
    assert devices[1].processes == devices[2].processes
    day = (MONDAY_NS, MONDAY_NS + 24 * NS_PER_HOUR)
    permille_mw = (400 - 55 - 20) * 1000 // 1000
    for i in (1, 2, 5, 6):
        truth = source.true_energy_by_workload(source.uuids[i], *day)
        # 0.95 wanted with a jitter of 0.1 is more than a GPU: scaled to 1 / 1.1
        assert truth == {IDLE: 55_000 * 86_400, ATLAS: (20_000 + 909 * permille_mw) * 86_400 * 2 // 3}
    truth = source.true_energy_by_workload(source.uuids[4], *day)
    office_s = 9 * 3600
    assert truth[UNTAGGED] == 10_000 * office_s + 100 * permille_mw * office_s // 6
    assert set(truth) == {IDLE, KRONOS, UNTAGGED}
    assert set(source.true_energy_by_workload(source.uuids[7], *day)) == {IDLE}


def test_the_table_has_every_key_and_nothing_else() -> None:
    table = PAGE.read_text().split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    named = {key for row in table.splitlines() for key in re.findall(r"`([a-z_.]+)`", row.split("|")[1])}
    keys = {*Scenario.__struct_fields__} - {"gpu", "workload"}
    keys |= {f"gpu.{key}" for key in SimulatedGpu.__struct_fields__}
    keys |= {f"workload.{key}" for key in SimulatedWorkload.__struct_fields__}
    assert named == keys


def test_the_tables_plain_defaults_are_the_programs() -> None:
    table = PAGE.read_text().split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    said = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| ([\w.\[\], ]+) \|$", table, re.MULTILINE))
    scenario = load_scenario({"workload": [{"gpus": [0]}]}, None, None)
    (workload,) = scenario.workload
    for key in ("seed", "devices", "repeat", "utc_offset_minutes", "jitter"):
        assert float(said[key]) == getattr(scenario, key)
    for key in ("idle_watts", "context_watts", "limit_watts", "memory_gib"):
        assert float(said[f"gpu.{key}"]) == getattr(scenario.gpu, key)
    for key in ("memory_gib", "busy", "weekend"):
        assert float(said[f"workload.{key}"]) == getattr(workload, key)
    assert said["gpu.name"] == scenario.gpu.name
