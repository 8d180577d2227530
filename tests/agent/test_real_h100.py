"""What a real H100 did, through the whole pipeline. tests/traces/README.md says what went on and when.

What is expected comes from the card's own counter, from what the processes were told to do, and from nvidia-smi, which ran
beside the recording and wrote power.draw.instant every 20 ms: its area between the moments at which two readings took the
counter, each value in force until the next, less ``BARE_W`` for that time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.config.config import load
from agent.errors import SourceEnded
from agent.idle import IdleJudge
from agent.ledger.ledger import Ledger
from agent.model import Snapshot, Totals
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.sources.replay import ReplaySource
from agent.tags.resolver import WorkloadResolver
from tests.agent.random_fleet import HandClock

TRACE = Path(__file__).resolve().parents[1] / "traces" / "nvidia-h100-v1.jsonl.gz"
UUID = "GPU-5a1e0000-0000-4000-8000-000000000100"
PRICE = Fraction("0.3127")
CONFIG = f"""
[site]
tariff = "flat"
[tariff.flat]
currency = "EUR"
timezone = "Europe/Berlin"
rates = {{ all = {float(PRICE)} }}
rule = [{{ rate = "all" }}]
"""
BARE_W = 70.58                       # nvidia-smi's median from reading 2 to reading 19, with nobody on the card
CONTEXT_W = 119.47 - BARE_W          # its mean from reading 126 to reading 144, with one process parked: 2150.1 J in 17.997 s
DRIVERS_LOOKS = 5 * 20               # the rows come in fifths: five looks a second, for 20 s


class Played(NamedTuple):
    """The ledger's totals and the snapshot after each reading; the recording as it is written."""

    totals: list[Totals]
    seen: list[Snapshot]
    raw: list[dict[str, Any]]

    def joules(self, project: str, first: int, last: int) -> float:
        """What was booked on a project between two readings."""
        key = (UUID, (project, "", "", ""))
        return (self.totals[last].energy_mj.get(key, 0) - self.totals[first].energy_mj.get(key, 0)) / 1_000

    def states_s(self, first: int, last: int) -> dict[str, float]:
        """The time in each state between two readings, where there was any."""
        before, after = self.totals[first].device_state_ns, self.totals[last].device_state_ns
        return {state: (ns - before.get((uuid, state), 0)) / 1e9
                for (uuid, state), ns in after.items() if ns > before.get((uuid, state), 0)}

    def counter_mj(self, n: int) -> int:
        return int(self.raw[n]["devices"][0]["energy_mj"])

    def at_s(self, n: int) -> float:
        """When the counter of a reading was taken."""
        return float(self.raw[n]["devices"][0]["boottime_ns"]) / 1e9


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("real")
    (folder / "config.toml").write_text(CONFIG)
    config = load(folder / "config.toml", environ={"HOME": "/"})
    resolver = WorkloadResolver(config.tags)
    pricing = Pricing(config.tariff, "flat", config.site.pue, config.hardware, config.carbon, {})
    source, clock = ReplaySource({"file": str(TRACE)}), HandClock()
    ledger = Ledger(folder / "state", clock.utc_ns())
    pipeline = Pipeline(
        Stages(site="", tag_keys=config.tags.keys, resolver=resolver, pricing=pricing, idle=IdleJudge(config.idle),
               attribution=Attribution(resolver.resolve, config.tags.keys),
               budgets=BudgetBook((), config.tags.keys, "EUR", config.timezone)), ledger, clock, 0)
    totals, seen = [], []
    source.open()
    with pytest.raises(SourceEnded):
        while True:
            reading = source.read(len(seen))
            seen.append(pipeline.tick(reading))
            pipeline.journal.flush(reading.utc_ns)
            totals.append(ledger.totals)
    source.close()
    with gzip.open(TRACE, "rt") as lines:
        raw = [json.loads(line) for line in lines][1:]
    yield Played(totals, seen, raw)
    ledger.close()


def test_what_is_booked_is_what_the_counter_counted(played: Played) -> None:
    counted_mj = played.counter_mj(-1) - played.counter_mj(0)
    totals = played.totals[-1]
    assert len(played.raw) == len(played.totals) == 241
    assert totals.device_energy_mj == {UUID: counted_mj}
    assert sum(totals.energy_mj.values()) == counted_mj
    assert sum(totals.gpu_ns.values()) == round((played.at_s(-1) - played.at_s(0)) * 1e9)
    assert {project for _, (project, *_) in totals.energy_mj} == {
        "__idle__", "steady", "pulse", "one", "other", "parked", "killed"}


def test_nothing_is_a_gap_and_nothing_suspect(played: Played) -> None:
    assert played.totals[-1].device_gap_ns == {UUID: 0}
    checked = [snapshot.devices[0].energy_suspect for snapshot in played.seen]
    assert checked.count(True) == 0
    assert checked.count(False) > 170                    # a minute has to pass before the first


def test_each_energy_cost_is_energy_times_price(played: Played) -> None:
    totals = played.totals[-1]
    assert len(totals.cost_nano) == len(totals.energy_mj) == 7
    for (uuid, workload, component, currency), nano in totals.cost_nano.items():
        owed_nano = totals.energy_mj[uuid, workload] * PRICE * 10**9 / 3_600_000_000
        assert (component, currency) == ("energy", "EUR")
        assert 0 <= owed_nano - nano < 1


@pytest.mark.parametrize(("project", "first", "last", "smi_j", "seconds"), [
    ("steady", 20, 42, 14169.8, 21.896),
    ("pulse", 71, 93, 6485.6, 21.999),                   # the wave of 1.7 s: instants every 100 ms see it well
    ("parked", 123, 145, 2614.2, 21.999),
    ("killed", 163, 240, 53248.7, 76.996),
])
def test_one_alone_bears_all_that_the_card_draws_above_bare(
        played: Played, project: str, first: int, last: int, smi_j: float, seconds: float) -> None:
    assert played.at_s(last) - played.at_s(first) == pytest.approx(seconds, abs=0.001)
    assert played.joules(project, first, last) == pytest.approx(smi_j - BARE_W * seconds, rel=0.01)
    assert played.joules(project, first, last) + played.joules("__idle__", first, last) == pytest.approx(
        (played.counter_mj(last) - played.counter_mj(first)) / 1_000, abs=1e-6)


def test_two_at_once_share_as_they_worked(played: Played) -> None:
    """``one`` works without a pause, ``other`` 0.3 s of each second: 0.85 and 0.15 of the work where they take turns evenly.
    A look of the driver's names one of the two, so that its share of 100 looks is 0.15 +- 1.96 sqrt(0.15 x 0.85 / 100)."""
    one_j, other_j = played.joules("one", 97, 119), played.joules("other", 97, 119)
    assert other_j / (one_j + other_j) == pytest.approx(0.15, abs=1.96 * (0.15 * 0.85 / DRIVERS_LOOKS) ** 0.5)
    assert one_j + other_j == pytest.approx(14131.6 - BARE_W * 21.998, rel=0.01)
    project = {facts["pid"]: facts["environ"]["FINOPS_PROJECT"] for line in played.raw for facts in line.get("started", ())}
    percents = {"one": 0, "other": 0}        # of all the driver's rows; power hardly changes, so they tell the energy
    for line in played.raw[98:120]:
        for pid, _, percent in line["devices"][0].get("utilization_samples", ()):
            percents[project[pid]] += percent
    assert other_j / (one_j + other_j) == pytest.approx(percents["other"] / sum(percents.values()), abs=0.005)


def test_how_sure_a_share_is_follows_from_the_drivers_looks(played: Played) -> None:
    """Five looks a second for the 20 s of the two, with two for and two against: 0.15 of about 104."""
    errors = {status.workload[0]: status.share_error_ratio for status in played.seen[118].workloads}
    assert errors["other"] == pytest.approx(1.96 * (0.165 * 0.835 / (DRIVERS_LOOKS + 4)) ** 0.5, rel=0.1)
    assert errors["one"] == pytest.approx(errors["other"], rel=0.01)
    alone = {status.workload[0]: status.share_error_ratio for status in played.seen[140].workloads}
    assert alone["parked"] == 0                          # others shared the card two minutes before, it did not


def test_who_is_parked_gets_what_contexts_add_and_no_more(played: Played) -> None:
    """Its first reading has a row of 1 %, below the threshold of 5 %: that one and those of the 5 s after it are ``underused``,
    and each tells of the second that ends with it."""
    seconds = played.at_s(145) - played.at_s(123)
    assert 0.95 * CONTEXT_W * seconds < played.joules("parked", 123, 145) < CONTEXT_W * seconds
    learned = played.seen[163].devices[0]
    assert learned.bare_power_mw == pytest.approx(1_000 * BARE_W, rel=0.01)
    assert learned.context_power_mw == pytest.approx(1_000 * CONTEXT_W, rel=0.02)
    states_s = played.states_s(123, 145)
    assert set(states_s) == {"underused", "parked"}
    assert 4.9 < states_s["underused"] < 6.1


@pytest.mark.parametrize(("first", "last"), [(0, 20), (120, 123), (145, 163)])
def test_time_and_energy_of_nobody_are_unallocated(played: Played, first: int, last: int) -> None:
    seconds = played.at_s(last) - played.at_s(first)
    assert played.states_s(first, last) == {"unallocated": pytest.approx(seconds, abs=1e-6)}
    assert played.joules("__idle__", first, last) * 1_000 == pytest.approx(
        played.counter_mj(last) - played.counter_mj(first), abs=0.001)
