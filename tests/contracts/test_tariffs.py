"""Every kind of rate in the registry keeps the tariff's promises: total, pure, and no change that is not foreseen."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.config.config import load
from agent.tariffs import TARIFF_KINDS
from agent.tariffs.ruled import RuledTariff
from agent.units import MJ_PER_KWH, NS_PER_HOUR, NS_PER_S

# one tariff of each kind; "b" is the kind's own form with other numbers, so that rules and kind change prices both
EXAMPLES = {
    "flat": 'rates = { a = 0.75, b = -0.25 }',
    "series": 'rates = { a = { csv = "p.csv", unit = "EUR/MWh", missing = "last" }, '
              'b = { csv = "p.csv", unit = "EUR/kWh", missing = "error" } }',
    "tiers": 'tier_period = "day"\nrates = { a = [{ upto = 5, price = 1 }, { price = 2 }], '
             'b = [{ upto = 9, price = 3 }, { price = 0 }] }',
}
START_NS = 1_774_742_400 * NS_PER_S              # 2026-03-29T00:00:00Z: the clocks go forward in Berlin
SPAN_NS = 72 * NS_PER_HOUR


@pytest.fixture(params=sorted(TARIFF_KINDS))
def tariff(request: pytest.FixtureRequest, tmp_path: Path) -> RuledTariff:
    rows = "".join(f"2026-03-29T{quarter // 4:02d}:{quarter % 4 * 15:02d}:00Z,{quarter // 4 * 7 % 11}\n"
                   for quarter in range(96))
    (tmp_path / "p.csv").write_text("start,price\n" + rows)
    file = tmp_path / "tariff.toml"
    file.write_text(f'[tariff.t]\ncurrency = "EUR"\ntimezone = "Europe/Berlin"\n{EXAMPLES[request.param]}\n'
                    'rule = [{ rate = "a", hours = ["07:00-21:30"] }, { rate = "b" }]')
    return load(file, environ={}).tariffs["t"]


def instants() -> list[int]:
    chance = random.Random(7)
    return sorted(START_NS + chance.randrange(SPAN_NS) for _ in range(300))


def test_every_kind_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(TARIFF_KINDS)


def test_every_instant_has_an_answer(tariff: RuledTariff) -> None:
    for at_ns in [0, *instants(), 2**62]:
        price = tariff.price_at(at_ns)
        assert price.rate in {"a", "b"}
        assert isinstance(price.atto_per_kwh, int)


def test_the_same_instant_has_the_same_price_whatever_was_asked_before(tariff: RuledTariff) -> None:
    used_mj = 7 * MJ_PER_KWH
    rising = [(tariff.price_at(at, used_mj), tariff.next_change(at), tariff.period_start(at)) for at in instants()]
    falling = [(tariff.price_at(at, used_mj), tariff.next_change(at), tariff.period_start(at)) for at in reversed(instants())]
    assert rising == falling[::-1]


def test_nothing_changes_before_the_next_change(tariff: RuledTariff) -> None:
    at_ns, changes = START_NS, 0
    while at_ns < START_NS + SPAN_NS:
        change_ns = tariff.next_change(at_ns)
        assert change_ns > at_ns
        end_ns = min(change_ns, START_NS + SPAN_NS)
        for instant_ns in {end_ns - 1, *(i for i in instants() if at_ns < i < end_ns)}:
            for used_mj in (0, 6 * MJ_PER_KWH, 10 * MJ_PER_KWH):
                assert tariff.price_at(instant_ns, used_mj) == tariff.price_at(at_ns, used_mj)
                assert tariff.tier_end_mj(instant_ns, used_mj) == tariff.tier_end_mj(at_ns, used_mj)
            assert tariff.period_start(instant_ns) == tariff.period_start(at_ns)
            assert tariff.next_change(instant_ns) == change_ns
        at_ns, changes = end_ns, changes + 1
    assert changes >= 6                          # two rule changes on each of three days, at least


def test_a_tiers_end_is_where_the_price_changes_and_nowhere_before(tariff: RuledTariff) -> None:
    for at_ns in instants()[:50]:
        used_mj = 0
        for _ in range(3):
            end_mj = tariff.tier_end_mj(at_ns, used_mj)
            last_mj = 10**12 if end_mj is None else end_mj - 1
            assert tariff.price_at(at_ns, last_mj) == tariff.price_at(at_ns, used_mj)
            if end_mj is None:
                break
            assert tariff.price_at(at_ns, end_mj) != tariff.price_at(at_ns, last_mj)
            used_mj = end_mj
