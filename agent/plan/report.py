"""A plan's outcome as one JSON document, and as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from agent.calendar.instants import format_instant
from agent.files.printable import printable
from agent.plan.outcome import Outcome, decimal_of, hourly_cost
from agent.plan.plan import variance
from agent.units import ATTO, NS_PER_HOUR

_SHOWN_PLACES: Final = 6
_SPANS_SHOWN: Final = 20             # two ways that take turns would fill the screen


def _number(amount: Fraction | None) -> Decimal | None:
    return None if amount is None else decimal_of(amount)


def document(outcome: Outcome, zones: Sequence[ZoneInfo]) -> dict[str, Any]:
    """``zones`` are those of the jobs' tariffs, in order. Amounts are Decimal: exact, or to 12 places where they never end."""
    scenario = outcome.scenario
    price, days = scenario.price_per_kwh, scenario.days_per_year
    deployments = {deployment.name: deployment for deployment, _, _ in scenario.deployments}
    return {
        "file": str(scenario.file), "currency": scenario.currency, "price_per_kwh": _number(price), "days_per_year": days,
        "models": [{
            "name": m.name, "parameters": m.parameters, "gpu_minimum": m.gpu_minimum or None,
            "gpu_recommended": m.gpu_recommended or None, "kwh_per_day": _number(m.kwh_per_day),
            "electricity_per_year": _number(m.electricity_per_year(price, days)),
            "cost_per_year": _number(m.cost_per_year(price, days)),
            "cost_per_request": None if m.requests_from is None or m.requests_to is None else {
                str(r): _number(m.cost_per_year(price, days) / (days * r)) for r in (m.requests_from, m.requests_to)},
        } for m, _ in scenario.models],
        "deployments": [{
            "name": d.name, "hardware": _number(d.hardware), "electricity_per_year": _number(d.electricity_per_year),
            "maintenance_per_year": _number(d.maintenance_per_year), "fine_tuning_per_year": _number(d.fine_tuning_per_year),
            "years": _number(d.years), "total": _number(d.total),
            "total_with_fine_tuning": _number(d.total_with_fine_tuning), "cost_per_hour": _number(d.cost_per_hour),
        } for d, _, _ in scenario.deployments],
        "break_even": [{
            "small": c.small.name, "large": c.large.name, "small_capacity_per_day": c.small.capacity_per_day,
            "large_capacity_per_day": c.large.capacity_per_day, "complete": c.complete,
            "spans": [{"from": s.start, "to": s.to, "cheaper": s.cheaper} for s in c.spans],
        } for c in outcome.comparisons],
        "unit_cost": [{
            "deployment": u.deployment or None, "hourly_cost": _number(hourly), "at": [
                {"utilisation": _number(part), "cost": None if hourly is None else _number(hourly / part)} for part, _ in u.at],
        } for u in scenario.unit_costs for hourly in [hourly_cost(u.hourly_cost, deployments.get(u.deployment))]],
        "own_or_rent": [{
            "name": c.name, "own_fixed_per_year": _number(c.fixed_per_year), "own_energy_per_hour": _number(c.energy_per_hour),
            "rent_per_hour": _number(c.rent_per_hour), "break_even_hours_per_year": _number(c.break_even_hours),
        } for c in (rental.choice for rental in scenario.rentals)],
        "jobs": [{
            "name": job.name, "tariff": job.tariff, "kwh": _number(job.kwh), "interruptible": job.interruptible,
            "hours": _number(Fraction(run.duration_ns, NS_PER_HOUR)), "cost": _number(run.cost), "pieces": [{
                "from": format_instant(p.start_ns, zone), "to": format_instant(p.end_ns, zone), "rate": p.rate,
                "price_per_kwh": _number(Fraction(p.atto_per_kwh, ATTO))} for p in run.pieces],
        } for job, run, zone in zip(scenario.jobs, outcome.runs, zones, strict=True)],
        "estimates": [{
            "name": e.name, "estimated": _number(e.estimated), "actual": _number(actual),
            "variance": _number(variance(e.estimated, actual)),
        } for e, actual in zip(scenario.estimates, outcome.actuals, strict=True)],
        "figures": [{
            "figure": f.what, "line": f.place.line, "key": f.place.key, "computed": _number(f.computed), "expected": f.expected,
            "reproduced": f.reproduced, "published": f.published, "published_is": f.published_is or None,
        } for f in outcome.figures],
        "verdicts": [{"at": v.what, "line": v.place.line, "cheaper": v.cheaper, "said": v.said or None,
                      "reproduced": v.reproduced} for v in outcome.verdicts],
    }


def as_table(outcome: Outcome, zones: Sequence[ZoneInfo]) -> str:
    """Every part that the scenario has, then each claimed figure, then the published ones that their inputs do not give."""
    told = document(outcome, zones)
    parts = [f"{printable(told['file'])}: in {told['currency']}\n"]
    parts += _part("MODELS", ("model", "kWh a day", "electricity a year", "cost a year"), [
        (m["name"], m["kwh_per_day"], m["electricity_per_year"], m["cost_per_year"]) for m in told["models"]])
    parts += _part("TOTAL COST OF OWNERSHIP", ("deployment", "hardware", "electricity", "maintenance", "fine-tuning", "years",
                                               "total", "with fine-tuning"), [
        (d["name"], d["hardware"], d["electricity_per_year"], d["maintenance_per_year"], d["fine_tuning_per_year"], d["years"],
         d["total"], d["total_with_fine_tuning"]) for d in told["deployments"]])
    for c in told["break_even"]:
        spans = c["spans"][:_SPANS_SHOWN]
        rows = [(s["from"], "" if s["to"] is None else s["to"], s["cheaper"]) for s in spans]
        if len(c["spans"]) > len(spans) or not c["complete"]:
            rows.append(("...", "", "they take turns"))
        parts += _part(f"BREAK-EVEN {c['small']} / {c['large']}", ("requests a day from", "to", "cheaper"), rows)
    parts += _part("COST OF A USEFUL HOUR", ("an hour costs", "utilisation", "a useful hour"), [
        (u["hourly_cost"], at["utilisation"], at["cost"]) for u in told["unit_cost"] for at in u["at"]])
    parts += _part("OWN OR RENT", ("choice", "own, a year", "and a used hour", "rent, an hour", "own from hours a year"), [
        (o["name"], o["own_fixed_per_year"], o["own_energy_per_hour"], o["rent_per_hour"],
         "never" if o["break_even_hours_per_year"] is None else o["break_even_hours_per_year"]) for o in told["own_or_rent"]])
    for job in told["jobs"]:
        head = f"{job['name']}: {_cell(job['kwh'])} kWh in {_cell(job['hours'])} h on {job['tariff']} for {_cell(job['cost'])}"
        parts += _part(head, ("from", "to", "rate", "a kWh"), [
            (p["from"], p["to"], p["rate"], p["price_per_kwh"]) for p in job["pieces"]])
    parts += _part("ESTIMATE AND ACTUAL", ("name", "estimated", "actual", "variance"), [
        (e["name"], e["estimated"], e["actual"], e["variance"]) for e in told["estimates"]])
    parts += _part("FIGURES", ("line", "figure", "the inputs give", "expected", "", "published", ""), [
        (f["line"], f["figure"], f["computed"], f["expected"],
         "" if f["expected"] is None else "yes" if f["reproduced"] else "NO", f["published"], f["published_is"] or "")
        for f in told["figures"]] + [
        (v["line"], v["at"], v["cheaper"], v["said"], "" if v["said"] is None else
         "yes" if v["reproduced"] else "NO", None, "") for v in told["verdicts"]])
    parts += [f"\nPublished, and not what its own inputs give: {f.what}, line {f.place.line}: {f.published}, where they give "
              f"{_cell(decimal_of(f.computed))}.\n" for f in outcome.not_given]
    return "".join(parts)


def _cell(value: object) -> str:
    """An amount to at most six places; "-" for what is not known."""
    if isinstance(value, Decimal):
        text = f"{value:.6f}" if value != round(Fraction(value), _SHOWN_PLACES) else f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "-" if value is None else printable(str(value))


def _part(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A titled table, numbers to the right; nothing where there are no rows."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return []
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    numeric = [all(_is_number(line[i]) for line in cells) for i in range(len(header))]

    def text(line: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)).rstrip()

    return [f"\n{printable(title)}\n", *(text(line) + "\n" for line in [header, *cells])]


def _is_number(text: str) -> bool:
    return text in {"", "-", "never"} or text.lstrip("-").replace(".", "", 1).isdigit()
