"""What a scenario comes to: every figure computed, beside what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact
from fractions import Fraction
from typing import Final

from msgspec import Struct

from agent.plan.hours import Run
from agent.plan.plan import Deployment, Model, Server, Span, break_even, cheaper_at, useful_hour_cost, variance
from agent.plan.scenario import BreakEven, Claim, Place, Scenario

_PLACES: Final = Decimal("1e-12")
_CONTEXT: Final = Context(prec=60)


def decimal_of(amount: Fraction) -> Decimal:
    """An amount as a decimal: exact where it ends, else to 12 places."""
    context = _CONTEXT.copy()
    quotient = context.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    return quotient.quantize(_PLACES, context=context) if context.flags[Inexact] else quotient


class Figure(Struct, frozen=True):
    """One claimed figure and what the inputs give."""

    what: str
    place: Place
    computed: Fraction
    expected: Decimal | None
    published: Decimal | None

    @property
    def reproduced(self) -> bool:
        """Whether the inputs give what is expected, exactly; one that never ends, to the digits expected."""
        if self.expected is None or Fraction(self.expected) == self.computed:
            return True
        ending = decimal_of(self.computed)
        return Fraction(ending) != self.computed and ending.quantize(self.expected, ROUND_HALF_UP, _CONTEXT) == self.expected

    @property
    def published_is(self) -> str:
        """``exact``, ``rounded to N`` or ``not given by its inputs``; "" where nothing is published."""
        if self.published is None:
            return ""
        if Fraction(self.published) == self.computed:
            return "exact"
        # Zeros at a number's end may stand for digits or for their absence; two digits at least are read as meant.
        digits = self.published.as_tuple()
        exponent = digits.exponent if isinstance(digits.exponent, int) else 0
        for place in range(exponent, self.published.adjusted()):
            unit = Decimal(1).scaleb(place)
            if _CONTEXT.remainder(self.published, unit) != 0:
                break
            steps = _CONTEXT.divide(decimal_of(self.computed), unit).to_integral_value(ROUND_HALF_UP)
            if _CONTEXT.multiply(steps, unit) == self.published:
                return f"rounded to {unit:f}"
        return "not given by its inputs"


class Verdict(Struct, frozen=True):
    """Who is the cheaper at one point, and who was said to be."""

    what: str
    place: Place
    cheaper: str
    said: str

    @property
    def reproduced(self) -> bool:
        return self.said in {"", self.cheaper}


class Comparison(Struct, frozen=True):
    small: Server
    large: Server
    spans: tuple[Span, ...]
    complete: bool                               # False: they take turns past the last span


class Outcome(Struct, frozen=True, kw_only=True):
    """Everything computed. ``actuals`` and ``runs`` are in the scenario's order of estimates and jobs."""

    scenario: Scenario
    comparisons: tuple[Comparison, ...]
    actuals: tuple[Fraction, ...]
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def not_given(self) -> list[Figure]:
        """Published figures that their own inputs do not give."""
        return [figure for figure in self.figures if figure.published_is.startswith("not")]

    def faults(self) -> list[str]:
        """``FILE:LINE: KEY: sentence`` for everything expected that the inputs do not give."""
        file = self.scenario.file
        found = [(figure.place, f"expects {figure.expected}, and the inputs give {decimal_of(figure.computed):f}; correct the "
                                "inputs or the figure") for figure in self.figures if not figure.reproduced]
        found += [(verdict.place, f"says {verdict.said}, and the inputs say {verdict.cheaper}; correct the inputs or "
                                  "the name") for verdict in self.verdicts if not verdict.reproduced]
        return [f"{file}:{place.line}: {place.key}: {sentence}" for place, sentence in found]


def compute(scenario: Scenario, actuals: tuple[Fraction, ...], runs: tuple[Run, ...]) -> Outcome:
    """``actuals`` for each estimate (given or from the ledger), ``runs`` for each job."""
    figures: list[Figure] = []
    verdicts: list[Verdict] = []

    def check(what: str, claim: Claim | None, computed: Fraction | None) -> None:
        if claim is not None and computed is not None and (claim.expected, claim.published) != (None, None):
            figures.append(Figure(what, claim.place, computed, claim.expected, claim.published))

    models = {model.name: model for model, _ in scenario.models}
    for model, claim in scenario.models:
        check(f"{model.name}: electricity a year", claim,
              model.electricity_per_year(scenario.price_per_kwh, scenario.days_per_year))
    for deployment, total, tuned in scenario.deployments:
        check(f"{deployment.name}: total", total, deployment.total)
        check(f"{deployment.name}: total with fine-tuning", tuned, deployment.total_with_fine_tuning)
    comparisons = tuple(_compare(asked, models, scenario) for asked in scenario.break_evens)
    for asked, comparison in zip(scenario.break_evens, comparisons, strict=True):
        for point in asked.at:
            requests = int(point.amount)
            verdicts.append(Verdict(f"{requests} requests a day", point.place,
                                    cheaper_at(comparison.small, comparison.large, requests), point.cheaper))
    deployments = {deployment.name: deployment for deployment, _, _ in scenario.deployments}
    for unit in scenario.unit_costs:
        hourly = hourly_cost(unit.hourly_cost, deployments.get(unit.deployment))
        for utilisation, claim in unit.at:
            cost = None if hourly is None else useful_hour_cost(hourly, utilisation)
            check(f"useful hour at {decimal_of(utilisation * 100):f} %", claim, cost)
    for estimate, actual in zip(scenario.estimates, actuals, strict=True):
        check(f"{estimate.name}: variance", estimate.variance, variance(estimate.estimated, actual))
    for rental in scenario.rentals:
        for point in rental.at:
            verdicts.append(Verdict(f"{rental.choice.name}: {decimal_of(point.amount):f} hours a year", point.place,
                                    rental.choice.cheaper_at(point.amount), point.cheaper))
    for job, run in zip(scenario.jobs, runs, strict=True):
        check(f"{job.name}: cost", job.cost, run.cost)
    return Outcome(scenario=scenario, comparisons=comparisons, actuals=actuals, runs=runs, figures=tuple(figures),
                   verdicts=tuple(verdicts))


def hourly_cost(given: Fraction | None, deployment: Deployment | None) -> Fraction | None:
    """An hour's cost as it is given, or that of a deployment; None where the deployment's total is not known."""
    return given if deployment is None else deployment.cost_per_hour


def _compare(asked: BreakEven, models: Mapping[str, Model], scenario: Scenario) -> Comparison:
    cost = {name: models[name].cost_per_year(scenario.price_per_kwh, scenario.days_per_year)
            for name in (asked.small, asked.large)}
    first, second = (asked.small, asked.large)
    if asked.by_cost and cost[second] < cost[first]:
        first, second = second, first
    small = Server(first, cost[first], asked.small_capacity_per_day)
    large = Server(second, cost[second], asked.large_capacity_per_day)
    spans, complete = break_even(small, large)
    return Comparison(small, large, tuple(spans), complete)
