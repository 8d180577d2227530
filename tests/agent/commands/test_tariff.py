"""``gpu-finops tariff``: prices and bills as people and programs read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.agent.tariffs.test_vectors import DAYS

VECTORS = str(Path(__file__).resolve().parents[2] / "vectors" / "tariffs.toml")


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main(["tariff", *arguments, "--json", "--config.file", VECTORS]) == status
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["tariff", *arguments, "--config.file", VECTORS]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_price_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of(capsys, "price", "cn-industrial", "--at", "2026-07-15T05:30:00Z") == {
        "tariff": "cn-industrial", "at": "2026-07-15T13:30:00+08:00", "rate": "sharp", "currency": "CNY",
        "price_per_kwh": 1.53, "until": "2026-07-15T14:00:00+08:00"}
    assert json_of(capsys, "price", "flat", "--at", "2026-07-15T05:30:00Z")["until"] is None


def test_a_price_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "price", "cn-industrial", "--at", "2026-07-15T13:30:00+08:00", "--config.file", VECTORS]) == 0
    assert capsys.readouterr().out == "1.53 CNY/kWh  sharp  until 2026-07-15T14:00:00+08:00\n"


def test_a_price_in_a_later_block(capsys: pytest.CaptureFixture[str]) -> None:
    document = json_of(capsys, "price", "cn-residential-step", "--at", "2026-07-15T05:30:00Z", "--used-kwh", "3120")
    assert (document["price_per_kwh"], document["until"]) == (0.677, "2027-01-01T00:00:00+08:00")


@pytest.mark.parametrize(("name", "day", "kwh", "total"), DAYS)
def test_bills_of_the_published_days(
        capsys: pytest.CaptureFixture[str], name: str, day: str, kwh: int, total: str) -> None:
    after = f"{day[:-2]}{int(day[-2:]) + 1:02d}"
    document = json_of(capsys, "bill", name, "--from", day, "--to", after, "--kw", "1")
    counted = [line for line in document["lines"] if line["kind"] in {"energy", "adder", "tax"} and not line["included"]]
    assert document["kwh"] == kwh
    assert sum(line["amount"] for line in counted) == pytest.approx(float(total), abs=1e-6)


def test_a_bill_for_people_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "bill", "ca-commercial", "--from", "2026-07-01", "--to", "2026-08-01", "--kw", "100",
                 "--config.file", VECTORS]) == 0
    assert capsys.readouterr().out == """\
ca-commercial: 2026-07-01T00:00:00-07:00 to 2026-08-01T00:00:00-07:00, 74400 kWh
energy  s_off                46500 kWh  x 0.15   6975.0000
energy  s_part               12400 kWh  x 0.18   2232.0000
energy  s_peak               15500 kWh  x 0.24   3720.0000
demand  any time 2026-07        100 kW    x 30   3000.0000
demand  summer peak 2026-07     100 kW    x 35   3500.0000
fixed   customer charge         31 day    x 24    744.0000
total                                           20171.0000 USD
"""


def test_a_load_from_a_file_and_instants_with_offset(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    load = tmp_path / "load.csv"
    load.write_text("start,kw\n2026-07-14T00:00:00Z,2\n2026-07-15T13:30:00+08:00,0.5\n")
    document = json_of(capsys, "bill", "cn-industrial", "--from", "2026-07-15T13:00:00+08:00", "--to",
                       "2026-07-15T14:30:00+08:00", "--load", str(load))
    energy = {line["name"]: (line["quantity"], line["amount"]) for line in document["lines"] if line["kind"] == "energy"}
    assert energy == {"sharp": (1.25, 1.875), "peak": (0.25, 0.3)}
    demand = next(line for line in document["lines"] if line["kind"] == "demand")
    assert demand["quantity"] == 2


def test_energy_without_a_price_is_said_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "bill", "de-spot", "--from", "2025-12-31T23:00:00Z", "--to", "2026-01-01T01:00:00Z", "--kw", "3",
                 "--config.file", VECTORS]) == 1
    out, err = capsys.readouterr()
    assert "3 kWh fall where tariff de-spot has no price" in err
    assert out.splitlines()[-1].split() == ["total", "0.6783", "EUR"]        # 3 kWh x (0.08 + 0.11) x 1.19: the other hour
    assert main(["tariff", "price", "de-spot", "--at", "2025-12-31T23:00:00Z", "--config.file", VECTORS]) == 1
    assert "has no price at 2026-01-01T00:00:00+01:00" in capsys.readouterr().err


def test_wrong_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bill = ("bill", "flat", "--from", "2026-07-01", "--to", "2026-07-02")
    assert "there is no tariff 'falt'" in refused(capsys, "price", "falt", "--at", "2026-07-15T05:30:00Z")
    assert "did you mean 'flat'?" in refused(capsys, "price", "falt", "--at", "2026-07-15T05:30:00Z")
    assert "--at 2026-07-15T05:30 has no offset" in refused(capsys, "price", "flat", "--at", "2026-07-15T05:30")
    end = ("--to", "2026-07-02", "--kw", "1")
    assert "--from July is not an instant" in refused(capsys, "bill", "flat", "--from", "July", *end)
    assert "is not after --from" in refused(capsys, "bill", "flat", "--from", "2026-07-02", *end)
    assert "--kw -1 is not an amount" in refused(capsys, *bill, "--kw=-1")
    assert "--kw nan is not an amount" in refused(capsys, *bill, "--kw", "nan")
    assert "one of the arguments --kw --load is required" in refused(capsys, *bill)
    load = tmp_path / "load.csv"
    load.write_text("start,kw\n2026-07-01T12:00:00+08:00,1\n")
    assert "begins at 2026-07-01T12:00:00+08:00, after --from" in refused(capsys, *bill, "--load", str(load))
    load.write_text("start,kw\n2026-06-01T12:00:00+08:00,-1\n")
    assert "has a negative load" in refused(capsys, *bill, "--load", str(load))
    load.write_text("start,kw\nnoon,1\n")
    assert f"{load}:2: start: 'noon' is not an instant" in refused(capsys, *bill, "--load", str(load))
    assert "cannot be read" in refused(capsys, *bill, "--load", str(tmp_path / "absent.csv"))
