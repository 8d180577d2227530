"""Energy of a constant load over a span, priced piece by piece as the pipeline does: at each next_change."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.config.config import load
from agent.tariffs.base import Tariff
from agent.tariffs.ruled import RuledTariff
from agent.units import ATTO, NS_PER_HOUR, NS_PER_S

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "tariffs.toml"


def vector(name: str) -> RuledTariff:
    return load(VECTORS, environ={}).tariffs[name]


def read(directory: Path, text: str) -> RuledTariff:
    """A tariff ``t`` from the text after its currency and zone lines."""
    file = directory / "tariff.toml"
    file.write_text(f'[tariff.t]\ncurrency = "EUR"\n{text}\n')
    return load(file, environ={}).tariffs["t"]


def local_ns(text: str, zone: str, fold: int = 0) -> int:
    moment = dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * NS_PER_S


def cost(tariff: Tariff, from_ns: int, to_ns: int) -> tuple[Fraction, Fraction]:
    """kWh and cost of 1 kW."""
    kwh = total = Fraction(0)
    while from_ns < to_ns:
        end_ns = min(to_ns, tariff.next_change(from_ns))
        price = tariff.price_at(from_ns)
        assert price.known
        kwh += Fraction(end_ns - from_ns, NS_PER_HOUR)
        total += Fraction(end_ns - from_ns, NS_PER_HOUR) * Fraction(price.atto_per_kwh, ATTO)
        from_ns = end_ns
    return kwh, total
