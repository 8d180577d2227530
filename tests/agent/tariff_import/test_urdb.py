"""URDB rates: bills from the imported file are those that the fields themselves give; what cannot be billed is named."""

from __future__ import annotations

import datetime as dt
import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.cli import main
from agent.config.config import load
from agent.pricing.bill import Load, make_bill
from agent.series_csv import read_series
from agent.toml.document import Faults
from agent.units import NS_PER_S
from tests.agent.tariff_import.urdb_oracle import bill

ZONE = "America/Los_Angeles"
NIGHT, ALWAYS = [[0] * 24] * 12, [[0] * 24] * 12
AFTERNOON = [[1 if 12 <= hour < 18 and 5 <= month <= 8 else 0 for hour in range(24)] for month in range(12)]
EVENING = [[2 if 17 <= hour < 21 else 1 if hour < 6 or hour >= 22 else 0 for hour in range(24)] for _ in range(12)]
SEASONS = [[1 if 4 <= month <= 9 else 0] * 24 for month in range(12)]

RATES: dict[str, dict[str, Any]] = {
    "flat": {"energyratestructure": [[{"rate": 0.1037, "unit": "kWh"}]], "energyweekdayschedule": ALWAYS,
             "energyweekendschedule": ALWAYS, "fixedchargefirstmeter": 1.1, "fixedchargeunits": "$/day"},
    "time-of-use": {
        "energyratestructure": [[{"rate": 0.08, "adj": 0.005, "sell": 0.03}], [{"rate": 0.21}]],
        "energyweekdayschedule": AFTERNOON, "energyweekendschedule": NIGHT,
        "fixedchargefirstmeter": 30.5, "fixedchargeunits": "$/month"},
    "demand by hour and by month": {
        "energyratestructure": [[{"rate": 0.08}], [{"rate": 0.21}], [{"rate": 0.3, "adj": -0.01}]],
        "energyweekdayschedule": EVENING, "energyweekendschedule": AFTERNOON,
        "flatdemandstructure": [[{"rate": 5.5, "adj": 0.5}], [{"rate": 9}]],
        "flatdemandmonths": [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0], "flatdemandunit": "kW",
        "demandratestructure": [[{"rate": 0}], [{"rate": 12.25}]], "demandweekdayschedule": AFTERNOON,
        "demandweekendschedule": NIGHT, "demandrateunit": "kW", "demandwindow": 15},
    "blocks by season": {
        "energyratestructure": [[{"rate": 0.1, "max": 900, "unit": "kWh"}, {"rate": 0.13, "max": 3000}, {"rate": 0.2}],
                                [{"rate": 0.12, "max": 1000.5}, {"rate": 0.25, "adj": 0.01}]],
        "energyweekdayschedule": SEASONS, "energyweekendschedule": SEASONS},
    "blocks by day": {
        "energyratestructure": [[{"rate": 0.1, "max": 40, "unit": "kWh daily"}, {"rate": 0.4, "unit": "kWh daily"}]],
        "energyweekdayschedule": ALWAYS, "energyweekendschedule": ALWAYS},
}


def write(directory: Path, rate: dict[str, Any], *, wrapped: bool = True) -> Path:
    whole = {"label": "abc", "utility": "Example Power", "name": "GS-1", "country": "USA", "startdate": 1_383_199_200, **rate}
    file = directory / "rate.json"
    file.write_text(json.dumps({"items": [whole]} if wrapped else whole))
    return file


def imported(directory: Path, rate: dict[str, Any], *arguments: str) -> Path:
    output = directory / "out.toml"
    assert main(["tariff", "import", "--format", "urdb", str(write(directory, rate)), "--timezone", ZONE, "--name", "t",
                 "-o", str(output), *arguments]) == 0
    assert main(["check", str(output)]) == 0
    return output


@pytest.mark.parametrize("month", [(2026, 3), (2026, 7), (2026, 11), (2028, 2)], ids=str)
@pytest.mark.parametrize("name", sorted(RATES))
def test_a_months_bill_is_what_the_fields_give(tmp_path: Path, name: str, month: tuple[int, int]) -> None:
    chance = random.Random(f"{name} {month}")
    first = int(dt.datetime(*month, 1, tzinfo=ZoneInfo(ZONE)).timestamp())
    load_kw = {first + hour * 3_600: chance.randrange(9) for hour in range(-24, 32 * 24)}
    rows = "".join(f"{dt.datetime.fromtimestamp(at, dt.UTC).isoformat()},{kw}\n" for at, kw in load_kw.items())
    (tmp_path / "load.csv").write_text("start,kw\n" + rows)
    series = read_series(tmp_path / "load.csv", "kw", Faults())
    assert series is not None
    tariff = load(imported(tmp_path, RATES[name]), environ={}).tariffs["t"]
    after = dt.datetime(month[0] + month[1] // 12, month[1] % 12 + 1, 1, tzinfo=ZoneInfo(ZONE))
    given = make_bill(tariff, Load(series), first * NS_PER_S, int(after.timestamp()) * NS_PER_S)
    assert given.total == bill(RATES[name], ZONE, month, load_kw)
    assert given.total > 0


def test_a_month_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = imported(tmp_path, RATES["time-of-use"])
    capsys.readouterr()
    assert main(["tariff", "bill", "t", "--from", "2026-07-01", "--to", "2026-08-01", "--kw", "10", "--config.file", str(file),
                 "--json"]) == 0
    # July 2026 has 23 weekdays: 138 dear hours, 606 others
    assert json.loads(capsys.readouterr().out)["total"] == pytest.approx(10 * (138 * 0.21 + 606 * 0.085) + 30.5, abs=1e-9)


def test_blocks_by_day_are_a_months_allowance_and_not_each_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = imported(tmp_path, RATES["blocks by day"])
    (tmp_path / "load.csv").write_text("start,kw\n2026-01-01T00:00:00Z,0\n2026-07-10T00:00:00-07:00,100\n"
                                       "2026-07-10T13:00:00-07:00,0\n2026-08-10T00:00:00-07:00,1\n2026-08-10T01:00:00-07:00,0\n")
    totals = []
    for month in ("07", "08"):
        capsys.readouterr()
        assert main(["tariff", "bill", "t", "--from", f"2026-{month}-01", "--to", f"2026-{int(month) + 1:02d}-01", "--load",
                     str(tmp_path / "load.csv"), "--config.file", str(file), "--json"]) == 0
        totals.append(json.loads(capsys.readouterr().out)["total"])
    # 1,300 kWh on one day of July: the month's 31 x 40 kWh at 0.1, the other 60 at 0.4; August begins anew
    assert totals == pytest.approx([1240 * 0.1 + 60 * 0.4, 0.1], abs=1e-9)


def refused(directory: Path, rate: dict[str, Any], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = main(["tariff", "import", "--format", "urdb", str(write(directory, {**RATES["flat"], **rate})), "--timezone", ZONE,
                   *arguments])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix(f"gpu-finops: {directory}/rate.json: ")


TWO = [[{"rate": 0.1, "max": 5}, {"rate": 0.2}], [{"rate": 0.3}]]


@pytest.mark.parametrize(("rate", "said"), [
    ({"mincharge": 15}, "mincharge: is a minimum bill"),
    ({"fueladjustmentsmonthly": [0] * 11 + [0.01]}, "fueladjustmentsmonthly: changes the price"),
    ({"demandratchetpercentage": [0.8] * 12}, "demandratchetpercentage: bills the demand of months before"),
    ({"lookbackpercent": 50}, "lookbackpercent: bills the demand"),
    ({"coincidentratestructure": [[{"rate": 3}]]}, "coincidentratestructure: prices demand"),
    ({"demandreactivepowercharge": 0.3}, "demandreactivepowercharge: prices reactive power"),
    ({"energyattrs": [{"Fuel": "$0.02"}]}, "energyattrs: describes charges"),
    ({"novelcharge": 0}, "novelcharge: is a field that is not understood"),
    ({"country": "CAN"}, "country: is CAN"),
    ({"currency": "CAD"}, "currency: is CAD; write --currency with the code of its prices"),
    ({"fixedchargeunits": "$/year"}, "fixedchargeunits: is '$/year'"),
    ({"fixedmonthlycharge": 3}, "fixedmonthlycharge: differs"),
    ({"demandwindow": 7, "flatdemandstructure": [[{"rate": 1}]]}, "demandwindow: is 7 minutes"),
    ({"flatdemandstructure": [[{"rate": 1}]], "flatdemandunit": "kVA"}, "flatdemandunit: is kVA"),
    ({"flatdemandstructure": [[{"rate": 1, "max": 5}, {"rate": 2}]]}, "flatdemandstructure[0].max: prices demand in blocks"),
    ({"flatdemandstructure": [[{"rate": 1}], [{"rate": 2}]]}, "flatdemandmonths: is missing"),
    ({"energyratestructure": TWO, "energyweekdayschedule": AFTERNOON}, "energyratestructure.max: is a block in a period"),
    ({"energyratestructure": [[{"rate": 0.1, "unit": "kWh/kW"}]]}, "energyratestructure[0][0].unit: is kWh/kW"),
    ({"energyratestructure": [[{"rate": 0.1, "bonus": 1}]]}, "energyratestructure[0][0].bonus: is a field"),
    ({"energyratestructure": [[{"adj": 0.1}]]}, "energyratestructure[0][0].rate: is missing"),
    ({"energyratestructure": [[{"rate": "0.1"}]]}, "energyratestructure[0][0].rate: is '0.1', not a number"),
    ({"energyratestructure": TWO, "energyweekendschedule": None}, "energyweekendschedule: is missing"),
    ({"energyweekdayschedule": [[1] * 24] * 12}, "energyweekdayschedule: names period 1, and there are 1"),
    ({"energyweekdayschedule": [[0] * 23] * 12}, "energyweekdayschedule: is not 12 months of 24 hours"),
    ({"energyratestructure": []}, "energyratestructure: is missing"),
])
def test_what_cannot_be_billed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: dict[str, Any],
                                        said: str) -> None:
    assert refused(tmp_path, rate, capsys).startswith(said)


def test_a_field_may_be_left_out_on_demand_and_the_file_says_so(tmp_path: Path) -> None:
    assert "# Left out on demand: mincharge\n" in imported(tmp_path, {**RATES["flat"], "mincharge": 15},
                                                            "--ignore", "mincharge").read_text()


def test_the_currency_of_a_rate_may_be_told(tmp_path: Path) -> None:
    said = {**RATES["flat"], "currency": "CAD"}
    assert load(imported(tmp_path, said, "--currency", "CAD"), environ={}).tariffs["t"].currency == "CAD"
    assert load(imported(tmp_path, {**said, "currency": "USD"}, "--force"), environ={}).tariffs["t"].currency == "USD"


def test_what_says_nothing_is_no_obstacle(tmp_path: Path) -> None:
    imported(tmp_path, {**RATES["flat"], "mincharge": 0, "lookbackmonths": [0] * 12, "energyattrs": [], "fixedattrs": None,
                        "coincidentratestructure": [[{"rate": 0, "unit": "kW"}]], "usenetmetering": True, "dgrules": "Net"})


def test_the_zone_must_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, RATES["flat"], wrapped=False)
    assert main(["tariff", "import", "--format", "urdb", str(file)]) == 2
    assert "timezone: is in no field of a URDB rate; write --timezone" in capsys.readouterr().err
    assert main(["tariff", "import", "--format", "urdb", str(file), "--timezone", "Pacific"]) == 2
    assert "--timezone Pacific is not a name" in capsys.readouterr().err


def test_one_of_several_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"items": [{**RATES["flat"], "label": label, "name": f"rate {label}"} for label in "ab"]}))
    arguments = ["tariff", "import", "--format", "urdb", str(file), "--timezone", ZONE]
    assert main(arguments) == 2
    assert "items: holds 2 rates; choose one with --label: a, b" in capsys.readouterr().err
    assert main([*arguments, "--label", "b"]) == 0
    assert "[tariff.rate-b]\n" in capsys.readouterr().out


def test_no_file_is_written_over_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = imported(tmp_path, RATES["flat"])
    arguments = ["tariff", "import", "--format", "urdb", str(tmp_path / "rate.json"), "--timezone", ZONE, "-o", str(output)]
    output.write_text("mine")
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main([*arguments, "--force"]) == 0
    assert output.read_text() != "mine"
    assert main([*arguments[:-1], str(tmp_path / "none" / "x.toml")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_number_keeps_every_digit(tmp_path: Path) -> None:
    rate = {**RATES["flat"], "energyratestructure": [[{"rate": 0.1, "adj": 0.2}]]}
    tariff = load(imported(tmp_path, rate), environ={}).tariffs["t"]
    assert Fraction(tariff.price_at(0).atto_per_kwh, 10**18) == Fraction(3, 10)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[]", '{"items": []}', '{"energyratestructure": NaN}', "\xff"])
def test_no_rate_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(text.encode("latin-1"))
    assert main(["tariff", "import", "--format", "urdb", str(file), "--timezone", ZONE]) == 2
    assert capsys.readouterr().err.startswith(f"gpu-finops: {file}")
