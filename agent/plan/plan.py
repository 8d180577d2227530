"""What a deployment costs over its life, and which of two ways is the cheaper: arithmetic over a scenario's figures.

Amounts are ``Fraction`` in units of the scenario's currency, so that no step rounds; ``agent.plan.report`` writes them as
decimals. Nothing here reads a file or knows a clock.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from msgspec import Struct

from agent.units import HOURS_PER_YEAR

SAME: Final = "same"                 # neither is the cheaper
MAX_STEPS: Final = 100_000           # capacity steps that a break-even looks at before it gives up


class Model(Struct, frozen=True, kw_only=True):
    """One model version as it is served. Without ``hardware`` its cost is its electricity."""

    name: str
    kwh_per_day: Fraction
    parameters: int | None = None
    gpu_minimum: str = ""
    gpu_recommended: str = ""
    requests_from: int | None = None             # requests a day that it is meant for
    requests_to: int | None = None
    hardware: Fraction = Fraction(0)
    years: Fraction | None = None
    maintenance_per_year: Fraction = Fraction(0)

    def electricity_per_year(self, price_per_kwh: Fraction, days_per_year: int) -> Fraction:
        return self.kwh_per_day * days_per_year * price_per_kwh

    def cost_per_year(self, price_per_kwh: Fraction, days_per_year: int) -> Fraction:
        """Electricity, maintenance, and the hardware's straight line."""
        line = self.hardware / self.years if self.years is not None else Fraction(0)
        return self.electricity_per_year(price_per_kwh, days_per_year) + self.maintenance_per_year + line


class Deployment(Struct, frozen=True, kw_only=True):
    """Something bought and run for years. ``None`` is what the scenario does not say."""

    name: str
    hardware: Fraction
    electricity_per_year: Fraction | None = None
    maintenance_per_year: Fraction = Fraction(0)
    fine_tuning_per_year: Fraction = Fraction(0)
    years: Fraction | None = None

    @property
    def total(self) -> Fraction | None:
        """Hardware + years x (electricity + maintenance); None where the electricity or the years are not known."""
        if self.years is None or self.electricity_per_year is None:
            return None
        return self.hardware + self.years * (self.electricity_per_year + self.maintenance_per_year)

    @property
    def total_with_fine_tuning(self) -> Fraction | None:
        if self.total is None or self.years is None:
            return None
        return self.total + self.years * self.fine_tuning_per_year

    @property
    def cost_per_hour(self) -> Fraction | None:
        """The whole cost over every hour of its years, used or idle."""
        if self.total_with_fine_tuning is None or self.years is None:
            return None
        return self.total_with_fine_tuning / (self.years * HOURS_PER_YEAR)


class Server(Struct, frozen=True):
    """One side of a break-even: what one more unit costs a year, and the requests a day it can take (None: any number)."""

    name: str
    cost_per_year: Fraction
    capacity_per_day: int | None

    def units(self, requests_per_day: int) -> int:
        return 1 if self.capacity_per_day is None else max(1, -(-requests_per_day // self.capacity_per_day))

    def cost_at(self, requests_per_day: int) -> Fraction:
        return self.units(requests_per_day) * self.cost_per_year


class Span(Struct, frozen=True):
    """Requests a day, both ends included; ``to`` is None where it goes on without end. ``cheaper`` may be SAME."""

    start: int
    to: int | None
    cheaper: str


def cheaper_at(small: Server, large: Server, requests_per_day: int) -> str:
    """The name of the cheaper one at so many requests a day, or SAME."""
    one, other = small.cost_at(requests_per_day), large.cost_at(requests_per_day)
    return SAME if one == other else small.name if one < other else large.name


def break_even(small: Server, large: Server) -> tuple[list[Span], bool]:
    """Who is cheaper from 1 request a day on, and whether that is the whole answer: with steps on both sides and equal cost
    per request the two may take turns for ever, and then only the first MAX_STEPS steps are told."""
    spans: list[Span] = []
    horizon = _settled_from(small, large)
    complete = horizon is not None and _steps(small, horizon) + _steps(large, horizon) <= MAX_STEPS
    at, looked = 1, 0
    while True:
        cheaper = cheaper_at(small, large, at)
        if not spans or spans[-1].cheaper != cheaper:
            if spans:
                spans[-1] = Span(spans[-1].start, at - 1, spans[-1].cheaper)
            spans.append(Span(at, None, cheaper))
        looked += 1
        following = [step for step in (_next_step(small, at), _next_step(large, at)) if step is not None]
        if not following or (complete and horizon is not None and at > horizon):
            return spans, complete
        if looked > MAX_STEPS:
            spans[-1] = Span(spans[-1].start, min(following) - 1, spans[-1].cheaper)
            return spans, False
        at = min(following)


def _next_step(server: Server, requests_per_day: int) -> int | None:
    """The first higher number of requests that needs one more unit."""
    if server.capacity_per_day is None:
        return None
    return server.units(requests_per_day) * server.capacity_per_day + 1


def _steps(server: Server, requests_per_day: int) -> int:
    return 0 if server.capacity_per_day is None else requests_per_day // server.capacity_per_day


def _slope(server: Server) -> Fraction:
    """Cost a request and year when every unit is full."""
    return Fraction(0) if server.capacity_per_day is None else server.cost_per_year / server.capacity_per_day


def _settled_from(small: Server, large: Server) -> int | None:
    """A number of requests past which the answer no longer changes; None where there may be none.

    With capacity k, a side costs at least R c/k and less than R c/k + c: past c_other / (difference of the slopes) the
    side with the lower slope stays the cheaper one.
    """
    one, other = _slope(small), _slope(large)
    if small.capacity_per_day is None and large.capacity_per_day is None:
        return 1
    if one == other:
        return None
    flatter, steeper = (small, large) if one < other else (large, small)
    return int(flatter.cost_per_year / (_slope(steeper) - _slope(flatter))) + (steeper.capacity_per_day or 0) + 1


def useful_hour_cost(hourly_cost: Fraction, utilisation: Fraction) -> Fraction:
    """What an hour of use costs when only this part of the hours paid for is used."""
    return hourly_cost / utilisation


def variance(estimated: Fraction, actual: Fraction) -> Fraction:
    """How far the actual is above the estimate (below: negative), as a part of the estimate."""
    return (actual - estimated) / estimated


class OwnOrRent(Struct, frozen=True, kw_only=True):
    """The same GPU owned or rented. ``rent_per_hour`` is all that is paid for a rented hour."""

    name: str
    hardware: Fraction
    years: Fraction
    rent_per_hour: Fraction
    salvage: Fraction = Fraction(0)
    maintenance_per_year: Fraction = Fraction(0)
    kw: Fraction = Fraction(0)                   # what it draws while used, cooling included
    price_per_kwh: Fraction = Fraction(0)

    @property
    def fixed_per_year(self) -> Fraction:
        return (self.hardware - self.salvage) / self.years + self.maintenance_per_year

    @property
    def energy_per_hour(self) -> Fraction:
        return self.kw * self.price_per_kwh

    @property
    def break_even_hours(self) -> Fraction | None:
        """Hours of use a year past which owning is the cheaper; None where no number of hours makes it so."""
        saved = self.rent_per_hour - self.energy_per_hour
        hours = self.fixed_per_year / saved if saved > 0 else None
        return hours if hours is not None and hours <= HOURS_PER_YEAR else None

    def own_cost(self, hours_per_year: Fraction) -> Fraction:
        return self.fixed_per_year + hours_per_year * self.energy_per_hour

    def rent_cost(self, hours_per_year: Fraction) -> Fraction:
        return hours_per_year * self.rent_per_hour

    def cheaper_at(self, hours_per_year: Fraction) -> str:
        """``own``, ``rent`` or SAME."""
        own, rent = self.own_cost(hours_per_year), self.rent_cost(hours_per_year)
        return SAME if own == rent else "own" if own < rent else "rent"
