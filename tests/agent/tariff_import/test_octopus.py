"""Half-hourly unit rates: pence to pounds, each half hour its price, and nothing where rates do not follow each other."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.config.config import load
from agent.tariffs.ruled import RuledTariff
from agent.units import ATTO, NS_PER_HOUR
from tests.agent.tariffs.price_walk import local_ns

START_NS = local_ns("2026-03-29T00:00", "UTC")
HALF_NS = NS_PER_HOUR // 2


def at(half: int) -> str:
    return f"2026-03-29T{half // 2:02d}:{half % 2 * 30:02d}:00Z"


def row(half: int, pence: float, end: int | None = -1, method: str | None = None, vat: float = 1.05) -> dict[str, Any]:
    return {"value_exc_vat": pence, "value_inc_vat": round(pence * vat, 4), "valid_from": at(half),
            "valid_to": at(half + 1) if end == -1 else None if end is None else at(end), "payment_method": method}


def write(directory: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    file = directory / "agile.json"
    file.write_text(json.dumps({"count": len(rows), "next": None, "previous": None, **more, "results": rows[::-1]}))
    return file


def imported(directory: Path, rows: list[dict[str, Any]], *arguments: str) -> RuledTariff:
    output = directory / "agile.toml"
    assert main(["tariff", "import", "--format", "octopus", str(write(directory, rows)), "-o", str(output), "--force",
                 *arguments]) == 0
    assert main(["check", str(output)]) == 0
    return load(output, environ={}).tariffs["agile"]


def pence(tariff: RuledTariff, instant_ns: int) -> Fraction | None:
    price = tariff.price_at(instant_ns)
    return Fraction(price.atto_per_kwh * 100, ATTO) if price.known else None


def test_a_day_over_the_change_of_clocks(tmp_path: Path) -> None:
    prices = [round(18.2 + half * 0.37 - (half == 7) * 40, 2) for half in range(46)]
    tariff = imported(tmp_path, [row(half, price) for half, price in enumerate(prices)])
    assert (tariff.currency, tariff.timezone) == ("GBP", "Europe/London")
    for half, price in enumerate(prices):
        for instant_ns in (START_NS + half * HALF_NS, START_NS + (half + 1) * HALF_NS - 1):
            assert pence(tariff, instant_ns) == Fraction(str(round(price * 1.05, 4)))
    assert prices[7] < 0


def test_the_bill_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(tmp_path, [row(0, 18.2), row(1, 20.6), row(2, -1.5)])
    capsys.readouterr()
    assert main(["tariff", "bill", "agile", "--from", at(0), "--to", at(3), "--kw", "2", "--json", "--config.file",
                 str(tmp_path / "agile.toml")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["total"] == pytest.approx((19.11 + 21.63 - 1.575) / 100, abs=1e-12)
    (tax,) = [line for line in document["lines"] if line["kind"] == "tax"]
    assert (tax["price"], tax["included"]) == (0.05, True)
    assert tax["amount"] == pytest.approx((18.2 + 20.6 - 1.5) * 0.05 / 100, abs=1e-12)


def test_tax_of_no_one_rate_is_not_shown(tmp_path: Path) -> None:
    imported(tmp_path, [row(0, 18.2), row(1, 20.6, vat=1.2)])
    assert "tax" not in (tmp_path / "agile.toml").read_text()


@pytest.mark.parametrize("rows", [[row(0, 10, 3)], [row(0, 10), row(1, 20, 7)]])
def test_the_last_rate_ends_when_it_says(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    tariff = imported(tmp_path, rows)
    assert pence(tariff, START_NS + 9 * HALF_NS) is not None         # "last" holds on
    with_end = (tmp_path / "agile.toml").read_text().replace('"last"', '"error"')
    (tmp_path / "agile.toml").write_text(with_end)
    tariff = load(tmp_path / "agile.toml", environ={}).tariffs["agile"]
    end_ns = START_NS + (3 if len(rows) == 1 else 7) * HALF_NS
    assert pence(tariff, end_ns - 1) == Fraction(str(rows[-1]["value_inc_vat"]))
    assert pence(tariff, end_ns) is None


def test_a_rate_without_an_end_holds_on_whatever_is_asked(tmp_path: Path) -> None:
    tariff = imported(tmp_path, [row(0, 10, None)], "--missing", "error")
    assert pence(tariff, START_NS + 10**6 * NS_PER_HOUR) == Fraction("10.5")


def test_one_payment_method_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(0, 10, None, "DIRECT_DEBIT"), row(0, 20, None, "NON_DIRECT_DEBIT")]
    assert pence(imported(tmp_path, rows, "--payment-method", "NON_DIRECT_DEBIT"), START_NS) == 21
    capsys.readouterr()
    assert main(["tariff", "import", "--format", "octopus", str(write(tmp_path, rows)), "-o", str(tmp_path / "x.toml")]) == 2
    assert "payment_method: is one of DIRECT_DEBIT, NON_DIRECT_DEBIT" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "more", "said"), [
    ([row(0, 10), row(2, 10)], {}, "valid_to: the rate from 2026-03-29T00:00:00+00:00 is until 2026-03-29T00:30:00+00:00, and"),
    ([row(0, 10, 2), row(1, 10)], {}, "valid_to: the rate from"),
    ([row(0, 10, None), row(1, 10)], {}, "valid_to: the rate from 2026-03-29T00:00:00+00:00 is open"),
    ([row(0, 10)], {"next": "page 2"}, "next: names a further page"),
    ([{**row(0, 10), "unit": "p"}], {}, "results[0].unit: is a field that is not understood"),
    ([{**row(0, 10), "value_inc_vat": None}], {}, "results[0].value_inc_vat: is None, not a number"),
    ([{**row(0, 10), "valid_from": "2026-03-29T00:00:00"}], {}, "results[0].valid_from: '2026-03-29T00:00:00'"),
    ([row(3, 10, 1)], {}, "results[0].valid_to: is 2026-03-29T00:30:00Z, not after valid_from"),
    ([], {}, "results: is not a list with unit rates"),
])
def test_what_is_wrong_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]],
                                more: dict[str, Any], said: str) -> None:
    file = write(tmp_path, rows, **more)
    assert main(["tariff", "import", "--format", "octopus", str(file), "-o", str(tmp_path / "x.toml")]) == 2
    assert capsys.readouterr().err.startswith(f"gpu-finops: {file}: {said}")
    assert not (tmp_path / "x.toml").exists()


def test_prices_need_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "import", "--format", "octopus", str(write(tmp_path, [row(0, 1)]))]) == 2
    assert "write -o OUT.toml" in capsys.readouterr().err
