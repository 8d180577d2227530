"""Idle cost shared: the published example, exact sums, and the same answer whatever a report is by."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.idle_policy import EVEN, POLICIES, PROPORTIONAL, SEPARATE, share, usage_with_idle
from agent.ledger.query import UsageRow
from agent.model import IDLE
from agent.report import as_csv, as_table, documents, totals
from agent.units import NANO

KEYS = ("project", "model")
UTC = ZoneInfo("UTC")


class Booked:
    """Rows by every key, summed by those that are asked for."""

    every = (*KEYS, "gpu", "day")

    def __init__(self, *rows: tuple[tuple[str, str, str, str], int, str]) -> None:
        self.rows = rows

    def usage(self, from_ns: int | None, to_ns: int | None, by: Sequence[str], tag_keys: Sequence[str],
              zone: ZoneInfo) -> list[UsageRow]:
        sums: dict[tuple[tuple[str, ...], str], int] = {}
        for values, nano, currency in self.rows:
            key = (tuple(values[self.every.index(name)] for name in by), currency)
            sums[key] = sums.get(key, 0) + nano
        return [UsageRow(keys, currency, 10, 20, nano, 30) for (keys, currency), nano in sorted(sums.items())]


def shared(booked: Booked, policy: str, *by: str) -> dict[tuple[str, ...], int]:
    return {row.keys: row.cost_nano + row.idle_nano for row in usage_with_idle(booked, None, None, by, KEYS, UTC, policy)}


EXAMPLE = Booked(
    (("a", "m", "g0", "d1"), 60 * NANO, "CNY"), (("b", "m", "g0", "d1"), 30 * NANO, "CNY"),
    (("c", "m", "g1", "d1"), 10 * NANO, "CNY"), ((IDLE, "", "g1", "d2"), 50 * NANO, "CNY"))


@pytest.mark.parametrize(
    ("policy", "figures"),
    [
        (PROPORTIONAL, {"a": "90", "b": "45", "c": "15", IDLE: "0"}),
        (EVEN, {"a": "76.666666667", "b": "46.666666667", "c": "26.666666666", IDLE: "0"}),
        (SEPARATE, {"a": "60", "b": "30", "c": "10", IDLE: "50"}),
    ],
)
def test_the_published_example_with_the_raw_figures_beside(policy: str, figures: dict[str, str]) -> None:
    rows = usage_with_idle(EXAMPLE, None, None, ("project",), KEYS, UTC, policy)
    found = {row["project"]: row for row in documents(rows, ("project",))}
    assert {name: row["cost_with_idle"] for name, row in found.items()} == {k: Decimal(v) for k, v in figures.items()}
    assert {name: row["cost"] for name, row in found.items()} == {"a": 60, "b": 30, "c": 10, IDLE: 50}
    assert [(total.cost_nano, total.idle_nano) for total in totals(rows)] == [(150 * NANO, 0)]
    header = as_csv(rows, ("project",)).splitlines()[0]
    assert header == "project,energy_kwh,energy_joules,gpu_hours,emissions_kg,cost,cost_with_idle,currency"
    assert ("with idle" in as_table(rows, ("project",))) == (policy != SEPARATE)


def test_what_a_project_bears_is_the_same_by_gpu_and_by_day_and_each_day_keeps_its_sum() -> None:
    by_gpu, by_day = shared(EXAMPLE, PROPORTIONAL, "gpu", "project"), shared(EXAMPLE, PROPORTIONAL, "project", "day")
    assert by_gpu["g1", "a"] == 30 * NANO                  # of a GPU that it did not use
    assert sum(nano for (_, project), nano in by_gpu.items() if project == "a") == 90 * NANO
    assert sum(nano for (_, day), nano in by_day.items() if day == "d2") == 50 * NANO


def test_even_is_by_project_and_inside_a_project_by_cost() -> None:
    booked = Booked((("a", "x", "g", "d"), 30, "CNY"), (("a", "y", "g", "d"), 10, "CNY"), (("b", "x", "g", "d"), 1, "CNY"),
                    ((IDLE, "", "g", "d"), 80, "CNY"))
    assert shared(booked, EVEN, "project") == {("a",): 80, ("b",): 41, (IDLE,): 0}
    assert shared(booked, EVEN, "project", "model") == {("a", "x"): 60, ("a", "y"): 20, ("b", "x"): 41, (IDLE, ""): 0}


def test_currencies_do_not_mix_and_idle_that_nobody_can_bear_stays() -> None:
    booked = Booked((("a", "m", "g", "d"), 7, "CNY"), ((IDLE, "", "g", "d"), 9, "EUR"), ((IDLE, "", "h", "d"), 5, "CNY"))
    rows = usage_with_idle(booked, None, None, ("project",), KEYS, UTC, PROPORTIONAL)
    assert [(row.keys, row.currency, row.cost_nano, row.idle_nano) for row in rows] == [
        ((IDLE,), "CNY", 5, -5), ((IDLE,), "EUR", 9, 0), (("a",), "CNY", 7, 5)]


def test_idle_credits_are_shared_too_and_a_workload_in_credit_has_no_weight() -> None:
    assert share(-10, {("a",): 30, ("b",): 10, ("c",): -5}, 0, PROPORTIONAL) == {("a",): -7, ("b",): -3, ("c",): 0}
    assert share(9, {("a",): 0, ("b",): -1}, 0, PROPORTIONAL) == {("a",): 5, ("b",): 4}
    assert share(9, {}, 0, EVEN) == {}


Cell = tuple[tuple[str, str, str, str], int, str]
keys = st.tuples(st.sampled_from(["a", "b", "c", IDLE]), st.sampled_from("xy"), st.sampled_from("gh"), st.sampled_from("12"))
cells = st.tuples(keys, st.integers(-10**15, 10**15), st.sampled_from(["CNY", "EUR"]))


@given(st.lists(cells, max_size=30), st.sampled_from(POLICIES), st.lists(st.sampled_from(Booked.every), unique=True))
def test_not_a_nano_unit_comes_or_goes(rows: list[Cell], policy: str, by: list[str]) -> None:
    booked = Booked(*rows)
    found = usage_with_idle(booked, None, None, by, KEYS, UTC, policy)
    raw = {(row.keys, row.currency): row.cost_nano for row in booked.usage(None, None, by, KEYS, UTC)}
    assert {(row.keys, row.currency): row.cost_nano for row in found if (row.keys, row.currency) in raw} == raw
    assert all(row.cost_nano == 0 for row in found if (row.keys, row.currency) not in raw)
    moved: dict[tuple[str, ...], int] = {}
    for row in found:                                      # within each GPU and day, too
        place = (row.currency, *[value for key, value in zip(by, row.keys, strict=True) if key not in KEYS])
        moved[place] = moved.get(place, 0) + row.idle_nano
    assert not any(moved.values())
