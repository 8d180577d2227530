"""``gpu-finops plan``: the pages' examples, jobs on a configured tariff, estimates against a ledger, and every fault."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from agent.ledger.batch import Batch
from agent.ledger.ledger import Ledger
from agent.model import Charge
from tests.agent.plans.test_kronos import ROOT, plan
from tests.agent.records import NOON_NS, UUID

NIGHT = """
[site]
tariff = "night"
[tariff.night]
currency = "EUR"
timezone = "Europe/Berlin"
rates = { low = 0.10, high = 0.40 }
rule = [{ rate = "low", hours = ["22:00-06:00"] }, { rate = "high" }]
[tariff.blocks]
currency = "EUR"
timezone = "Europe/Berlin"
tier_period = "year"
rates = { all = [{ upto = 100, price = 0.2 }, { price = 0.3 }] }
rule = [{ rate = "all" }]
[tariff.yuan]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 1 }
rule = [{ rate = "all" }]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gpu-finops.toml"
    file.write_text(NIGHT)
    return file


def scenario(directory: Path, text: str) -> Path:
    file = directory / "s.toml"
    file.write_text(text)
    return file


def faults(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stdout == ""
    return [re.sub(r"^.*/s\.toml", "s.toml", line) for line in done.stderr.splitlines()]


def test_the_pages_example_comes_out_as_it_says(tmp_path: Path, config: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "plan.md").read_text(), re.DOTALL)
    done = plan(scenario(tmp_path, block), "--config.file", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "inputs give: large: electricity a year, line 12: 1400, where they give 1250." in done.stdout
    told = json.loads(plan(scenario(tmp_path, block), "--config.file", config, "--json").stdout)
    assert [(span["from"], span["to"], span["cheaper"]) for span in told["break_even"][0]["spans"]] == [
        (1, 800, "small"), (801, None, "large")]
    assert told["own_or_rent"][0]["break_even_hours_per_year"] == 3000
    (job,) = told["jobs"]
    assert [(p["from"], p["to"]) for p in job["pieces"]] == [("2026-06-01T00:00:00+02:00", "2026-06-01T04:00:00+02:00")]
    assert job["cost"] == 1.2


@pytest.mark.parametrize("opened", [False, True])
def test_the_commented_example_is_good_as_it_is_and_with_every_comment_opened(tmp_path: Path, opened: bool) -> None:
    lines = (ROOT / "deploy" / "plan.toml").read_text().splitlines()
    if opened:
        lines = [line[1:] if re.match(r"#[\[a-z]", line) else line for line in lines]
        lines = [re.sub(r"^actual = \{ from.*", "actual = 1", line) for line in lines]
    done = plan(scenario(tmp_path, "\n".join(lines)), "--config.file", ROOT / "tests" / "vectors" / "tariffs.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("nightly fine-tuning" in done.stdout) is opened


def test_a_job_may_be_cut_at_the_ends_of_the_night(tmp_path: Path, config: Path) -> None:
    file = scenario(tmp_path, """currency = "EUR"
[[job]]
name = "cut"
tariff = "night"
kwh = 16
kw = 2
from = "2026-06-01"
to = "2026-06-02"
interruptible = true
cost = 1.6
""")
    told = json.loads(plan(file, "--config.file", config, "--json").stdout)
    pieces = [(piece["from"][11:16], piece["to"][11:16]) for piece in told["jobs"][0]["pieces"]]
    assert pieces == [("00:00", "06:00"), ("22:00", "00:00")]
    assert told["figures"][0]["reproduced"] is True


def test_an_estimate_is_compared_with_the_ledger(tmp_path: Path, config: Path) -> None:
    ledger = Ledger(tmp_path / "state", NOON_NS)
    batch = Batch()
    for project, nano in (("kronos", 30_000_000_000), ("kronos-2", 100_000_000_000), ("atlas", 7)):
        batch._add_charge(Charge(
            uuid=UUID, workload=(project, "", "", ""), component="energy", currency="EUR", tariff="night", rate="low",
            price=10**17, start_utc_ns=NOON_NS, end_utc_ns=NOON_NS + 1, energy_mj=1, gpu_ns=1, cost_nano=nano, carry=0,
            state="active", slot_utc_ns=(NOON_NS, NOON_NS + 1)))
    batch.sequences["s"] = batch.first_sequences["s"] = 0
    batch.names[UUID] = "NVIDIA H100"
    ledger.commit(batch, NOON_NS)
    ledger.close()
    text = """currency = "EUR"
[[estimate]]
estimated = 100
actual = { from = "2026-06-01", to = "2026-07-01", match = { project = "kronos*" } }
variance = 0.3
"""
    options = ("--config.file", config, "--state.dir", tmp_path / "state")
    told = json.loads(plan(scenario(tmp_path, text), *options, "--json").stdout)
    assert told["estimates"] == [{"name": "estimate", "estimated": 100, "actual": 130, "variance": 0.3}]
    done = plan(scenario(tmp_path, text.replace("kronos*", "nobody")), *options)
    assert done.returncode == 1
    assert "has no cost in EUR for this from 2026-06-01 to 2026-07-01; choose a time that it covers" in done.stderr


@pytest.mark.parametrize(("text", "expected"), [
    ("", ['s.toml:1: currency: is missing; write currency = "CNY"']),
    ('currency = "EUR"\nprice_per_kw = 1', ["s.toml:2: price_per_kw: is an unknown key; did you mean 'price_per_kwh'?"]),
    ('currency = "EUR"\n[[model]]\nname = "a"\nkwh_per_day = "5"', [
        "s.toml:1: price_per_kwh: is missing; write price_per_kwh = 0.96, which every model's electricity needs",
        "s.toml:1: days_per_year: is missing; write days_per_year = 365, which every model's electricity needs",
        "s.toml:4: model[0].kwh_per_day: is text; write 5 without quotes"]),
    ('currency = "EUR"\n[[deployment]]\nname = "d"\nhardware = 1\ntotal = 3', [
        "s.toml:5: deployment[0].total: cannot be computed without years; write years too, or leave the figure out"]),
    ('currency = "EUR"\n[[deployment]]\nname = "d"\nhardware = 1\nkwh_per_day = 3', [
        "s.toml:5: deployment[0].kwh_per_day: has no price; write price_per_kwh and days_per_year at the top"]),
    ('currency = "EUR"\n[[unit_cost]]\nhourly_cost = 1\nat = [{ utilisation = 0 }]', [
        "s.toml:4: unit_cost[0].at[0].utilisation: is 0; write more than 0"]),
    ('currency = "EUR"\n[[unit_cost]]\nat = [{ utilisation = 1 }]', [
        "s.toml:2: unit_cost[0]: wants one of hourly_cost and deployment; write hourly_cost = 2.0"]),
    ('currency = "EUR"\n[[estimate]]\nestimated = 0\nactual = 1', ["s.toml:3: estimate[0].estimated: is 0; write more than 0"]),
    ('currency = "EUR"\n[[break_even]]\nsmall_capacity_per_day = 5', [
        "s.toml:2: break_even[0]: compares two models, and the scenario has fewer; write a [[model]] for each"]),
    ('currency = "EUR"\n[[own_or_rent]]\nname = "x"\nhardware = 5\nyears = 1\nkw = 1\nrent_per_hour = 1\n'
     "at = [{ hours_per_year = 9000 }]", [
        "s.toml:6: own_or_rent[0].kw: has no price; write price_per_kwh at the top",
        "s.toml:8: own_or_rent[0].at[0]: has more than 8760 hours_per_year; write fewer"]),
])
def test_every_fault_is_told_with_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    done = plan(scenario(tmp_path, text))
    assert done.returncode == 2
    assert faults(done) == expected


@pytest.mark.parametrize(("change", "status", "expected"), [
    (('tariff = "night"', 'tariff = "nigth"'), 2,
     "s.toml:2: job[0].tariff: is 'nigth', which is not in the configuration; did you mean 'night'?"),
    (('tariff = "night"', 'tariff = "yuan"'), 2,
     "s.toml:2: job[0].tariff: is in CNY and the scenario in EUR; there are no exchange rates, write a scenario for each "
     "currency"),
    (('tariff = "night"', 'tariff = "blocks"'), 1,
     "gpu-finops: tariff blocks prices by the kWh used, not by the hour alone; name one without blocks"),
    (("kw = 3", "kw = 0.1"), 2,
     "s.toml:2: job[0].to: leaves too little time with a known price: the job takes 120 h in one piece; give it more, or "
     "more kw"),
    (('to = "2026-06-02"', 'to = "2026-06-01"'), 2,
     "s.toml:2: job[0].to: is 2026-06-01, not after from; the span is half-open"),
    (('to = "2026-06-02"', 'to = "June"'), 2,
     "s.toml:2: job[0].to: is 'June', which is not an instant; write it as 2026-07-15T08:00:00+08:00 or "
     "2026-07-15T00:00:00Z, or as a local date such as 2026-07-15"),
])
def test_a_job_that_cannot_be_placed_says_why(tmp_path: Path, config: Path, change: tuple[str, str], status: int,
                                              expected: str) -> None:
    text = ('currency = "EUR"\n[[job]]\nname = "n"\ntariff = "night"\nkwh = 12\nkw = 3\n'
            'from = "2026-06-01"\nto = "2026-06-02"\n')
    done = plan(scenario(tmp_path, text.replace(*change)), "--config.file", config)
    assert (done.returncode, faults(done)) == (status, [expected])


def test_a_missing_scenario_is_named(tmp_path: Path) -> None:
    done = plan(tmp_path / "none.toml")
    assert done.returncode == 2
    assert "none.toml: cannot be read (No such file or directory); give the path of a readable TOML file" in done.stderr
