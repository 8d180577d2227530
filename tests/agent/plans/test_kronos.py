"""The published cost guide: what its own inputs give, and which of its figures they do not."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
KRONOS = ROOT / "tests" / "vectors" / "kronos.toml"


def plan(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    done = plan(KRONOS, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout, parse_float=Decimal)
    return document


def claims(node: Any, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every table of the file that has an expected figure."""
    if isinstance(node, dict):
        if "expected" in node:
            found.append(node)
        for value in node.values():
            claims(value, found)
    elif isinstance(node, list):
        for value in node:
            claims(value, found)
    return found


def test_each_expected_figure_is_computed_exactly(told: dict[str, Any]) -> None:
    data = tomllib.loads(KRONOS.read_text(), parse_float=Decimal)
    expected = [claim["expected"] for claim in claims(data, [])]
    expected += [at["cost"] for at in data["unit_cost"][0]["at"]] + [data["estimate"][0]["variance"]]
    assert len(expected) == 8
    figures = told["figures"]
    assert [Decimal(figure["computed"]) for figure in figures] == [Decimal(value) for value in expected]
    assert all(figure["reproduced"] is True for figure in figures)


def test_the_figures_are_those_of_the_file_by_hand(told: dict[str, Any]) -> None:
    electricity = [model["electricity_per_year"] for model in told["models"]]
    assert electricity == [Decimal("1612.8"), Decimal("2995.2"), Decimal("5529.6")]
    personal, professional = told["deployments"]
    assert (personal["total"], personal["total_with_fine_tuning"]) == (4400 + 3 * (323 + 86), 5627 + 3 * 86)
    assert (professional["total"], professional["electricity_per_year"]) == (None, None)
    assert told["break_even"] == [{
        "small": "kronos-small", "large": "kronos-base", "small_capacity_per_day": 500, "large_capacity_per_day": None,
        "complete": True, "spans": [{"from": 1, "to": 500, "cheaper": "kronos-small"},
                                    {"from": 501, "to": None, "cheaper": "kronos-base"}]}]
    assert [verdict["reproduced"] for verdict in told["verdicts"]] == [True, True]
    # 2995.20 over 300 days of 100 requests and of 300
    cost = told["models"][1]["cost_per_request"]
    assert (cost["100"], cost["300"]) == (Decimal("0.09984"), Decimal("0.03328"))


def test_the_published_figure_that_its_inputs_do_not_give_is_named(told: dict[str, Any]) -> None:
    published = {figure["published"]: figure["published_is"] for figure in told["figures"] if figure["published"] is not None}
    assert published == {1613: "rounded to 1", 3000: "rounded to 10", 5530: "rounded to 1", 5475: "not given by its inputs"}
    (named,) = [line for line in plan(KRONOS).stdout.splitlines() if line.startswith("Published, and not")]
    assert named == "Published, and not what its own inputs give: personal: total, line 41: 5475, where they give 5627."


def test_a_wrong_expectation_is_told_with_its_line_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    text = KRONOS.read_text().replace("expected = 5627", "expected = 5628").replace(
        'requests_per_day = 501, cheaper = "kronos-base"', 'requests_per_day = 501, cheaper = "kronos-small"').replace(
        "[[break_even]]", '[[break_even]]\nsmall = "kronos-small"\nlarge = "kronos-base"')
    file.write_text(text)
    done = plan(file)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{file}:41: deployment[0].total: expects 5628, and the inputs give 5627; correct the inputs or the figure",
        f"{file}:53: break_even[0].at[1].cheaper: says kronos-small, and the inputs say kronos-base; correct the inputs or "
        "the name"]
