"""Reads a scenario file: what is to be planned, and the figures that somebody else has given for it.

A figure may be written as a number (what the inputs should give) or as ``{ published = P, expected = E }``: what a source
prints, and what its own inputs give.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar

from agent.currencies import CURRENCIES
from agent.errors import ConfigError
from agent.plan.plan import SAME, Deployment, Model, OwnOrRent
from agent.plan.scenario import At, BreakEven, Claim, Estimate, Job, Place, Rental, Scenario, UnitCost
from agent.toml.document import Faults, Node, dotted, read_document
from agent.toml.table import Table, nearest, plain_number
from agent.units import HOURS_PER_YEAR

_MOST: Final = 10**15                            # the largest amount that means anything here
_SIDES: Final = ("own", "rent", SAME)
_T = TypeVar("_T")


def read_scenario(file: Path) -> Scenario:
    """A scenario, whole. Raises ConfigError with every fault that it has, each with its line."""
    faults = Faults()
    root = read_document(file, faults)
    if root is None:
        raise ConfigError(faults.lines())
    table = Table(root, faults)
    currency = table.need_text("currency", '"CNY"', CURRENCIES, 'a code of ISO 4217, such as "EUR"')
    price = _amount(table, "price_per_kwh")
    days = table.integer("days_per_year", 1, 366)
    models = [_model(entry) for entry in _named(table, "model")]
    if models:
        for key, example in (("price_per_kwh", "0.96"), ("days_per_year", "365")):
            if key not in table.names():
                table.missing(key, f"{key} = {example}, which every model's electricity needs")
    deployments = [_deployment(entry, price, days) for entry in _named(table, "deployment")]
    known_models, known_deployments = [model.name for model, _ in models], [d.name for d, _, _ in deployments]
    scenario = Scenario(
        file=file, currency=currency, price_per_kwh=price or Fraction(0), days_per_year=days or 365,
        models=tuple(models), deployments=tuple(deployments),
        break_evens=_present(_break_even(entry, known_models) for entry in table.tables("break_even")),
        unit_costs=_present(_unit_cost(entry, known_deployments) for entry in table.tables("unit_cost")),
        estimates=_present(_estimate(entry) for entry in table.tables("estimate")),
        rentals=_present(_rental(entry, price) for entry in _named(table, "own_or_rent")),
        jobs=_present(_job(entry) for entry in _named(table, "job")))
    table.close()
    if faults:
        raise ConfigError(faults.lines())
    return scenario


def _present(found: Iterable[_T | None]) -> tuple[_T, ...]:
    return tuple(item for item in found if item is not None)


def _place(node: Node, name: str | None = None) -> Place:
    return Place(node.line, node.key if name is None else dotted(node.key, name))


def _named(table: Table, kind: str) -> list[Table]:
    """The tables of a kind, each with a name of its own."""
    entries, names = table.tables(kind), set[str]()
    for entry in entries:
        name = entry.need_text("name", '"a name of its own"')
        if name and name in names:
            entry.fault(entry.node.value["name"], f"is {name!r} again; give each {kind} a name of its own")
        names.add(name)
    return entries


def _name(entry: Table) -> str:
    return entry.text("name") or ""


def _amount(table: Table, name: str, low: int | None = 0, above: int | None = None) -> Fraction | None:
    value = table.number(name, low=low, above=above, high=_MOST)
    return None if value is None else Fraction(value)


def _need(table: Table, name: str, example: str, above: int | None = None) -> Fraction:
    """An amount that must be there; 1, with a fault, where it is not."""
    value = _amount(table, name, above=above)
    if value is None and name not in table.names():
        table.missing(name, f"{name} = {example}")
    return Fraction(1) if value is None else value


def _claim(table: Table, name: str) -> Claim | None:
    node = table.get(name)
    if node is None:
        return None
    if not isinstance(node.value, dict):
        number = table.number(name)
        return None if number is None else Claim(_place(node), expected=number)
    given = Table(node, table.faults)
    expected, published = given.number("expected"), given.number("published")
    if not given.names():
        given.fault(node, "is empty; write a number, or { published = 1613, expected = 1612.80 }")
    given.close()
    return Claim(_place(node), expected, published)


def _model(entry: Table) -> tuple[Model, Claim | None]:
    requests = entry.table("requests_per_day")
    low = requests.integer("from", 1, _MOST) if requests else None
    high = requests.integer("to", 1, _MOST) if requests else None
    if requests:
        if low is not None and high is not None and low > high:
            requests.fault(requests.node, f"is from {low} to {high}; write the smaller number first")
        requests.close()
    hardware, years = _hardware(entry)
    model = Model(
        name=_name(entry), kwh_per_day=_need(entry, "kwh_per_day", "5.6"), parameters=entry.integer("parameters", 1, _MOST),
        gpu_minimum=entry.text("gpu_minimum") or "", gpu_recommended=entry.text("gpu_recommended") or "",
        requests_from=low, requests_to=high, hardware=hardware or Fraction(0), years=years if hardware is not None else None,
        maintenance_per_year=_amount(entry, "maintenance_per_year") or Fraction(0))
    claim = _claim(entry, "electricity_per_year")
    entry.close()
    return model, claim


def _hardware(entry: Table) -> tuple[Fraction | None, Fraction | None]:
    """Hardware that is spread over its years needs them."""
    hardware, years = _amount(entry, "hardware"), _amount(entry, "years", None, above=0)
    if hardware is not None and "years" not in entry.names():
        entry.missing("years", "years = 4, over which the hardware is spread")
    return hardware, years


def _deployment(entry: Table, price: Fraction | None, days: int | None) -> tuple[Deployment, Claim | None, Claim | None]:
    electricity, kwh = _amount(entry, "electricity_per_year"), _amount(entry, "kwh_per_day")
    if electricity is not None and kwh is not None:
        entry.fault(entry.node.value["kwh_per_day"], "stands beside electricity_per_year; keep one of the two")
    elif kwh is not None:
        if price is None or days is None:
            entry.fault(entry.node.value["kwh_per_day"], "has no price; write price_per_kwh and days_per_year at the top")
        else:
            electricity = kwh * days * price
    deployment = Deployment(
        name=_name(entry), hardware=_need(entry, "hardware", "4400, 0 where there is none"), electricity_per_year=electricity,
        maintenance_per_year=_amount(entry, "maintenance_per_year") or Fraction(0),
        fine_tuning_per_year=_amount(entry, "fine_tuning_per_year") or Fraction(0),
        years=_amount(entry, "years", None, above=0))
    total, tuned = _claim(entry, "total"), _claim(entry, "total_with_fine_tuning")
    for claim in (total, tuned):
        if claim is not None and deployment.total is None and not entry.faults:
            wanted = "years" if deployment.years is None else "electricity_per_year"
            entry.faults.line(entry.node.file, claim.place.line, claim.place.key,
                              f"cannot be computed without {wanted}; write {wanted} too, or leave the figure out")
    entry.close()
    return deployment, total, tuned


def _points(entry: Table, key: str, names: Iterable[str], whole: bool) -> list[At]:
    found = []
    for point in entry.tables("at"):
        amount = Fraction(point.integer(key, 1, _MOST) or 0) if whole else _amount(point, key)
        if key not in point.names():
            point.missing(key, f"{key} = 500")
        cheaper = point.text("cheaper", list(names)) or ""
        point.close()
        found.append(At(_place(point.node, "cheaper"), amount or Fraction(0), cheaper))
    return found


def _break_even(entry: Table, models: list[str]) -> BreakEven | None:
    if len(models) < 2:
        entry.fault(entry.node, "compares two models, and the scenario has fewer; write a [[model]] for each")
    at = _points(entry, "requests_per_day", [*models, SAME], whole=True)
    pair = [entry.text(side, models) for side in ("small", "large")]
    said = [point.cheaper for point in at if point.cheaper not in {"", SAME}]
    named = list(dict.fromkeys([*(name for name in pair if name), *said]))
    capacities = [entry.integer(f"{side}_capacity_per_day", 1, _MOST) for side in ("small", "large")]
    entry.close()
    if capacities[0] is None and "small_capacity_per_day" not in entry.names():
        entry.missing("small_capacity_per_day", "small_capacity_per_day = 500, past which a second one is needed")
    if len(models) >= 2 and len(named) != 2 and not entry.faults:
        entry.fault(entry.node, f"does not say which two models it compares; write small and large, {nearest('', models)}")
    if entry.faults or capacities[0] is None:
        return None
    small = pair[0] or next(name for name in named if name != pair[1])
    large = next(name for name in named if name != small)
    return BreakEven(place=_place(entry.node), small=small, large=large, by_cost=pair == [None, None],
                     small_capacity_per_day=capacities[0], large_capacity_per_day=capacities[1], at=tuple(at))


def _unit_cost(entry: Table, deployments: list[str]) -> UnitCost | None:
    deployment = entry.text("deployment", deployments)
    hourly = _amount(entry, "hourly_cost")
    if (deployment is None) == (hourly is None):
        entry.fault(entry.node, "wants one of hourly_cost and deployment; write hourly_cost = 2.0")
    found = []
    for point in entry.tables("at"):
        utilisation = point.number("utilisation", above=0, high=1)
        if "utilisation" not in point.names():
            point.missing("utilisation", "utilisation = 0.2, the part of the hours that is used")
        claim = _claim(point, "cost") or Claim(_place(point.node, "cost"))
        point.close()
        found.append((Fraction(utilisation or 1), claim))
    if not found:
        entry.missing("at", "at = [{ utilisation = 0.2 }]")
    entry.close()
    return UnitCost(place=_place(entry.node), deployment=deployment or "", hourly_cost=hourly, at=tuple(found))


def _estimate(entry: Table) -> Estimate:
    node, ledger_from, ledger_to, match = entry.get("actual"), "", "", dict[str, str]()
    actual: Fraction | None = None
    if node is not None and isinstance(node.value, dict):
        ledger = Table(node, entry.faults)
        ledger_from, ledger_to = (ledger.need_text(key, '"2026-01-01"') for key in ("from", "to"))
        tags = ledger.table("match")
        if tags is not None:
            match = {key: tags.text(key) or "" for key in tags.names()}
        ledger.close()
    else:
        actual = _need(entry, "actual", '130, or { from = "2026-01-01", to = "2026-02-01" } for what the ledger has')
    estimate = Estimate(
        place=_place(entry.node), name=entry.text("name") or "estimate", estimated=_need(entry, "estimated", "100", above=0),
        actual=actual, ledger_from=ledger_from, ledger_to=ledger_to, match=match, variance=_claim(entry, "variance"))
    entry.close()
    return estimate


def _rental(entry: Table, price: Fraction | None) -> Rental:
    hardware, years = _hardware(entry)
    if hardware is None and "hardware" not in entry.names():
        entry.missing("hardware", "hardware = 250000")
    salvage, kw = _amount(entry, "salvage"), _amount(entry, "kw")
    if salvage is not None and hardware is not None and salvage > hardware:
        entry.fault(entry.node.value["salvage"], f"is {plain_number(entry.node.value['salvage'].value)}, more than the "
                                                 "hardware cost; write less")
    if kw and price is None:
        entry.fault(entry.node.value["kw"], "has no price; write price_per_kwh at the top")
    at = _points(entry, "hours_per_year", _SIDES, whole=False)
    for point in at:
        if point.amount > HOURS_PER_YEAR:
            entry.faults.line(entry.node.file, point.place.line, point.place.key.removesuffix(".cheaper"),
                              f"has more than {HOURS_PER_YEAR} hours_per_year; write fewer")
    choice = OwnOrRent(
        name=_name(entry), hardware=hardware or Fraction(0), years=years or Fraction(1), salvage=salvage or Fraction(0),
        rent_per_hour=_need(entry, "rent_per_hour", "14.5"), kw=kw or Fraction(0), price_per_kwh=price or Fraction(0),
        maintenance_per_year=_amount(entry, "maintenance_per_year") or Fraction(0))
    entry.close()
    return Rental(choice, tuple(at))


def _job(entry: Table) -> Job:
    job = Job(
        place=_place(entry.node), name=_name(entry),
        tariff=entry.need_text("tariff", '"de-spot", a tariff of the configuration'),
        kwh=_need(entry, "kwh", "120", above=0), kw=_need(entry, "kw", "6, its power while it runs", above=0),
        start=entry.need_text("from", '"2026-06-01", a local date or an instant'), end=entry.need_text("to", '"2026-06-02"'),
        interruptible=entry.truth("interruptible") or False, cost=_claim(entry, "cost"))
    entry.close()
    return job
