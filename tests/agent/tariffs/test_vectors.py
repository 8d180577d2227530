"""The published worked examples: what a constant load of 1 kW costs on one local day."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import pytest

from agent.units import ATTO, MJ_PER_KWH
from tests.agent.tariffs.price_walk import cost, local_ns, vector

DAYS = [
    ("cn-industrial", "2026-07-15", 24, "20.46"),
    ("cn-industrial", "2026-09-15", 24, "19.86"),
    ("cn-industrial", "2026-01-15", 24, "18.66"),
    ("cn-industrial", "2026-04-15", 24, "18.06"),
    ("ca-commercial", "2026-07-15", 24, "4.17"),
    ("ca-commercial", "2026-01-15", 24, "3.61"),
    ("ca-commercial", "2026-03-08", 23, "3.17"),
    ("de-spot", "2026-06-01", 24, "5.4264"),
    ("de-spot", "2026-10-25", 25, "5.6525"),
]


@pytest.mark.parametrize(("name", "day", "kwh", "total"), DAYS)
def test_a_local_day(name: str, day: str, kwh: int, total: str) -> None:
    tariff = vector(name)
    after = (dt.date.fromisoformat(day) + dt.timedelta(1)).isoformat()
    given = cost(tariff, local_ns(day, tariff.timezone), local_ns(after, tariff.timezone))
    assert given == (kwh, Fraction(Decimal(total)))


@pytest.mark.parametrize(("kwh", "total"), [(3000, "1851.00"), (4000, "2520.80"), (5000, "3257.80")])
def test_a_year_of_steps(kwh: int, total: str) -> None:
    tariff = vector("cn-residential-step")
    at_ns = local_ns("2026-05-05", tariff.timezone)
    used_mj, spent = 0, Fraction(0)
    while used_mj < kwh * MJ_PER_KWH:
        end_mj = min(kwh * MJ_PER_KWH, tariff.tier_end_mj(at_ns, used_mj) or kwh * MJ_PER_KWH)
        spent += Fraction(end_mj - used_mj, MJ_PER_KWH) * Fraction(tariff.price_at(at_ns, used_mj).atto_per_kwh, ATTO)
        used_mj = end_mj
    assert spent == Fraction(Decimal(total))
