"""Random tariffs over the days on which clocks change, and their comparison with the oracle."""

from __future__ import annotations

import datetime as dt
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.config.config import load
from agent.errors import ConfigError
from agent.tariffs.ruled import RuledTariff
from agent.units import ATTO, MJ_PER_KWH, NS_PER_S
from tests.agent.tariffs.minute_oracle import DAYS, Spec, price, toml

# a zone, and UTC days near which something happens there: clocks go on and back, years and leap days turn
MOMENTS = {
    "Asia/Kathmandu": ["2026-03-31", "2026-12-31", "2028-02-28"],
    "Australia/Lord_Howe": ["2026-04-04", "2026-10-03", "2027-01-01"],
    "America/Los_Angeles": ["2026-03-08", "2026-11-01", "2028-02-29"],
    "Europe/Berlin": ["2026-03-29", "2026-10-25", "2026-12-31"],
    "Asia/Shanghai": ["2026-07-31", "2026-12-31", "2028-02-28"],
    "Pacific/Chatham": ["2026-04-04", "2026-09-26", "2026-12-31"],
    "America/Havana": ["2026-03-08", "2026-11-01"],      # changes at midnight: 00:00 is missing, or comes twice
}
SPAN_MINUTES = 30 * 60
_UNREACHABLE = re.compile(r"tariff\.t(?:\.version\[(\d+)\])?\.rule\[(\d+)\]: can never match")

_prices = st.integers(-50_000, 300_000).map(lambda n: f"{n / 100_000:.5f}")
_times = st.integers(0, 95).map(lambda n: f"{n // 4:02d}:{n % 4 * 15:02d}")
_hours = st.tuples(_times, _times).filter(lambda t: t[0] != t[1]).map("-".join)
_days = st.one_of(st.sampled_from(DAYS), st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map("-".join))


@st.composite
def _rules(draw: st.DrawFn, day: dt.date, names: list[str]) -> list[Spec]:
    nearby = st.integers(-2, 3).map(lambda n: day + dt.timedelta(n))
    conditions = {
        "months": st.lists(st.sampled_from([day.month, day.month % 12 + 1, 2, 7]), min_size=1, max_size=3, unique=True),
        "days": st.lists(_days, min_size=1, max_size=2),
        "dates": st.lists(nearby, min_size=1, max_size=2, unique=True),
        "hours": st.lists(_hours, min_size=1, max_size=2),
    }
    rules = []
    for name in names[:-1]:
        chosen = draw(st.lists(st.sampled_from(sorted(conditions)), min_size=1, max_size=3, unique=True))
        rules.append({"rate": name} | {key: draw(conditions[key]) for key in sorted(chosen)})
    return [*rules, {"rate": names[-1]}]


@st.composite
def _rate(draw: st.DrawFn, start_s: int, other: str | None) -> Any:
    kind = draw(st.sampled_from(["flat", "flat", "tiers", "series"]))
    if kind == "flat":
        return draw(_prices)
    if kind == "tiers":
        limits = sorted(draw(st.sets(st.integers(1, 5_000), min_size=1, max_size=3)))
        return [(upto, draw(_prices)) for upto in [*limits, None]]
    step_s = draw(st.sampled_from([900, 1_800, 3_600]))
    first_s = start_s + draw(st.integers(-4, 20)) * 3_600
    rows = [(first_s + i * step_s, draw(_prices)) for i in range(draw(st.integers(2, 12)))]
    missing = draw(st.sampled_from(["last", "error", *([other] if other else [])]))
    return {"rows": rows, "missing": missing, "per": draw(st.sampled_from(["kWh", "MWh"]))}


@st.composite
def tariff_specs(draw: st.DrawFn) -> tuple[Spec, int, int]:
    """A tariff, the UTC second from which to compare, and the kWh used so far."""
    zone = draw(st.sampled_from(sorted(MOMENTS)))
    day = dt.date.fromisoformat(draw(st.sampled_from(MOMENTS[zone])))
    midnight_s = int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())
    start_s = midnight_s + draw(st.integers(-24 * 60, 12 * 60)) * 60
    versions: list[Spec] = []
    for number in range(draw(st.sampled_from([1, 1, 2]))):
        names = [f"r{i}" for i in range(draw(st.integers(1, 5)))]
        rates: Spec = {}
        for name in reversed(names):             # a stand-in comes later in the list, so that no chain is a ring
            rates[name] = draw(_rate(start_s, names[-1] if name != names[-1] else None))
        tiered = any(isinstance(rate, list) for rate in rates.values())
        versions.append({
            "valid_from": day + dt.timedelta(draw(st.integers(-1, 2))) if number else None,
            "rates": rates, "rules": draw(_rules(day, names)), "adders": draw(st.lists(_prices, max_size=2)),
            "tax": (draw(st.sampled_from(["0.0", "0.13", "0.19"])), draw(st.booleans())),
            "tier_period": draw(st.sampled_from(["day", "month", "quarter", "year"])) if tiered else None,
        })
    return {"zone": zone, "versions": versions}, start_s, draw(st.integers(0, 6_000))


def load_spec(spec: Spec, directory: Path) -> RuledTariff:
    """The tariff through the product's own reader. Rules that it calls unreachable (and rates that then have no rule) are
    taken out of what it reads, not out of what the oracle reads: so a rule wrongly called so shows as a difference."""
    spec = {**spec, "versions": [{**v, "rules": list(v["rules"]), "rates": dict(v["rates"])} for v in spec["versions"]]}
    while True:
        file = directory / "tariff.toml"
        file.write_text(toml(spec, directory))
        try:
            return load(file, environ={}).tariffs["t"]
        except ConfigError as error:
            removed = False
            for fault in reversed(error.faults):
                found = _UNREACHABLE.search(fault)
                if found:
                    version = spec["versions"][int(found[1]) + 1 if found[1] else 0]
                    del version["rules"][int(found[2])]
                    _drop_unused_rates(version)
                    removed = True
            if not removed:
                raise


def _drop_unused_rates(version: Spec) -> None:
    rates = version["rates"]
    used, ahead = set(), [rule["rate"] for rule in version["rules"]]
    while ahead:
        name = ahead.pop()
        used.add(name)
        if isinstance(rates[name], dict) and rates[name]["missing"] in rates:
            ahead.append(rates[name]["missing"])
    for name in rates.keys() - used:
        del rates[name]
    if not any(isinstance(rate, list) for rate in rates.values()):
        version["tier_period"] = None


def compare(spec: Spec, start_s: int, used_kwh: int, directory: Path) -> int:
    """Asserts that tariff and oracle agree in every minute of a span, and at its last nanosecond; the minutes compared."""
    tariff = load_spec(spec, directory)
    used_mj = used_kwh * MJ_PER_KWH
    next_ns = start_s * NS_PER_S
    before: tuple[str, Fraction | None] | None = None
    for minute in range(SPAN_MINUTES):
        at_ns = (start_s + minute * 60) * NS_PER_S
        expected = price(spec, start_s + minute * 60, Fraction(used_kwh))
        for instant_ns in (at_ns, at_ns + 60 * NS_PER_S - 1):
            given = tariff.price_at(instant_ns, used_mj)
            assert given.known == (expected[1] is not None), (spec, minute)
            assert given.rate == expected[0], (spec, minute, given)
            if expected[1] is not None:
                assert abs(Fraction(given.atto_per_kwh, ATTO) - expected[1]) <= Fraction(1, 2 * ATTO), (spec, minute, given)
        if before is not None and before != expected:
            assert next_ns == at_ns, (spec, minute, "a change that next_change did not foresee, or foresaw elsewhere")
        if at_ns >= next_ns:
            next_ns = tariff.next_change(at_ns)
            assert next_ns > at_ns
        before = expected
    return SPAN_MINUTES
