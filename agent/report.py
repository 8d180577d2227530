"""Usage rows as a table for people, CSV for spreadsheets, JSON for programs. Every figure is exact."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from agent.files.printable import printable
from agent.ledger.query import UsageRow
from agent.units import MJ_PER_J, MJ_PER_KWH, NANO, NS_PER_HOUR

FIGURES = ("energy_kwh", "energy_joules", "gpu_hours", "emissions_kg", "cost", "cost_with_idle", "currency")
_UG_PER_KG = 10**9


def _ratio(amount: int, unit: int, places: int) -> Decimal:
    return (Decimal(amount) / Decimal(unit)).quantize(Decimal(1).scaleb(-places))


def figures(row: UsageRow) -> dict[str, Any]:
    """A row's figures: energy in kWh and, exactly, in joules; time in hours; emissions in kg, None where no carbon intensity
    was configured; cost in currency units, exactly."""
    return {
        "energy_kwh": _ratio(row.energy_mj, MJ_PER_KWH, 12),
        "energy_joules": _ratio(row.energy_mj, MJ_PER_J, 3),
        "gpu_hours": _ratio(row.gpu_ns, NS_PER_HOUR, 12),
        "emissions_kg": _ratio(row.emissions_ug, _UG_PER_KG, 9) if row.emissions_ug else None,
        "cost": _ratio(row.cost_nano, NANO, 9),
        "cost_with_idle": _ratio(row.cost_nano + row.idle_nano, NANO, 9),
        "currency": row.currency,
    }


def documents(rows: Sequence[UsageRow], by: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as plain mappings: keys, then figures. What ``--format json`` and the API give."""
    return [dict(zip(by, row.keys, strict=True)) | figures(row) for row in rows]


def totals(rows: Sequence[UsageRow]) -> list[UsageRow]:
    """One sum a currency. Energy and time stand once, on the rows where they were booked."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        total = sums.setdefault(row.currency, [0, 0, 0, 0])
        for i, amount in enumerate((row.energy_mj, row.gpu_ns, row.cost_nano, row.emissions_ug)):
            total[i] += amount
    return [UsageRow((), currency, *total) for currency, total in sorted(sums.items())]


def as_json(rows: Sequence[UsageRow], by: Sequence[str]) -> str:
    encoder = msgspec.json.Encoder(decimal_format="number")
    document = {"by": list(by), "rows": documents(rows, by), "totals": [figures(total) for total in totals(rows)]}
    return msgspec.json.format(encoder.encode(document), indent=2).decode() + "\n"


def as_csv(rows: Sequence[UsageRow], by: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [*by, *FIGURES], lineterminator="\n")
    writer.writeheader()
    for document in documents(rows, by):              # str(Decimal("0.000000000")) is 0E-9, which sheets take for text
        writer.writerow({name: f"{value:f}" if isinstance(value, Decimal) else _harmless(value)
                         for name, value in document.items()})
    return out.getvalue()


def _harmless(value: str | None) -> str:
    """A tag as a cell that no spreadsheet takes for a formula: tags are what processes wrote."""
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value or ""


def as_table(rows: Sequence[UsageRow], by: Sequence[str]) -> str:
    """Columns for the eye: cost to a hundredth of a cent, a total line for each currency."""
    shared = any(row.idle_nano for row in rows)      # without a policy that moves idle cost it would be the same twice
    header = [*by, "kWh", "GPU hours", "kg CO2e", "cost", *(["with idle"] if shared else []), ""]
    lines = [[*map(printable, row.keys), *_cells(row, shared)] for row in rows]
    sums = [["total" if i == 0 else "" for i in range(len(by))] + _cells(total, shared) for total in totals(rows)]
    widths = [max(len(line[i]) for line in [header, *lines, *sums]) for i in range(len(header))]
    texts = len(by)

    def text(line: list[str]) -> str:
        cells = [c.ljust(w) if i < texts or i == len(header) - 1 else c.rjust(w)
                 for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        return "  ".join(cells).rstrip()

    ruler = "  ".join("-" * width for width in widths)
    return "\n".join([text(header), ruler, *map(text, lines), ruler, *map(text, sums)]) + "\n"


def _cells(row: UsageRow, shared: bool) -> list[str]:
    costs = [row.cost_nano, row.cost_nano + row.idle_nano] if shared else [row.cost_nano]
    return [f"{_ratio(row.energy_mj, MJ_PER_KWH, 3):,}", f"{_ratio(row.gpu_ns, NS_PER_HOUR, 2):,}",
            f"{_ratio(row.emissions_ug, _UG_PER_KG, 3):,}" if row.emissions_ug else "-",
            *[f"{_ratio(nano, NANO, 4):,}" for nano in costs],
            row.currency or "(no price)"]


FORMATS: dict[str, Callable[[Sequence[UsageRow], Sequence[str]], str]] = {"table": as_table, "csv": as_csv, "json": as_json}
