"""A scenario as frozen records: what is to be planned, and the figures that somebody else has given for it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from msgspec import Struct

from agent.plan.plan import Deployment, Model, OwnOrRent


class Place(Struct, frozen=True):
    """Where in the scenario something stands, for sentences about it."""

    line: int
    key: str


class Claim(Struct, frozen=True):
    """A figure that the scenario gives and the inputs should too."""

    place: Place
    expected: Decimal | None = None
    published: Decimal | None = None


class At(Struct, frozen=True):
    """One point of a comparison, and who is said to be the cheaper there ("" where nobody says)."""

    place: Place
    amount: Fraction
    cheaper: str = ""


class BreakEven(Struct, frozen=True, kw_only=True):
    """Two models by requests a day. ``by_cost``: which of the two is the small one is left to their cost."""

    place: Place
    small: str
    large: str
    by_cost: bool
    small_capacity_per_day: int
    large_capacity_per_day: int | None
    at: tuple[At, ...]


class UnitCost(Struct, frozen=True, kw_only=True):
    """``hourly_cost``, or the deployment whose hours it is."""

    place: Place
    deployment: str
    hourly_cost: Fraction | None
    at: tuple[tuple[Fraction, Claim], ...]       # utilisation, cost of a useful hour


class Estimate(Struct, frozen=True, kw_only=True):
    """``actual`` is None where the ledger knows it: its costs from a day to a day, of the tags that match."""

    place: Place
    name: str
    estimated: Fraction
    actual: Fraction | None
    ledger_from: str
    ledger_to: str
    match: dict[str, str]
    variance: Claim | None


class Rental(Struct, frozen=True):
    """``at`` in hours of use a year; ``own`` or ``rent``."""

    choice: OwnOrRent
    at: tuple[At, ...]


class Job(Struct, frozen=True, kw_only=True):
    """A job of some kWh to be run in the cheapest hours between two moments, as they are written."""

    place: Place
    name: str
    tariff: str
    kwh: Fraction
    kw: Fraction
    start: str
    end: str
    interruptible: bool
    cost: Claim | None


class Scenario(Struct, frozen=True, kw_only=True):
    """A whole file. Models come with the electricity that is claimed for a year, deployments with their totals."""

    file: Path
    currency: str
    price_per_kwh: Fraction
    days_per_year: int
    models: tuple[tuple[Model, Claim | None], ...]
    deployments: tuple[tuple[Deployment, Claim | None, Claim | None], ...]
    break_evens: tuple[BreakEven, ...]
    unit_costs: tuple[UnitCost, ...]
    estimates: tuple[Estimate, ...]
    rentals: tuple[Rental, ...]
    jobs: tuple[Job, ...]
