"""A rate from a CSV file of prices: day-ahead and other hourly, half-hourly or quarter-hourly markets."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from msgspec import Struct

from agent.files.stamps import file_stamp
from agent.model import FOREVER_NS
from agent.series_csv import Series, read_series
from agent.tariffs.base import RateContext, RateKind
from agent.toml.document import Node
from agent.toml.table import Table, resolve_file

_ATTO_DIGITS = 18
_PER_UNIT_DIGITS = {"kWh": 0, "MWh": 3}          # 1 MWh is 10 ** 3 kWh
LAST, ERROR = "last", "error"                    # what ``missing`` may say besides another rate's name


class SeriesRate(Struct, frozen=True):
    """``rates = { spot = { csv = "day_ahead.csv", unit = "EUR/MWh", missing = "last" } }``.

    Each row's price holds until the next row. The last row is as long as the one before it; after it ``missing`` decides.
    Before the first row there is no price to carry on, so ``last`` and ``error`` both leave it unknown; another rate's
    name stands in there too.
    """

    file: Path
    series: Series
    atto_per_mantissa: int
    missing: str

    @property
    def fallback(self) -> str | None:
        return None if self.missing in {LAST, ERROR} else self.missing

    def atto_at(self, instant_ns: int, used_mj: int) -> int | None:
        row = bisect_right(self.series.starts_ns, instant_ns) - 1
        if row < 0 or (self.missing != LAST and instant_ns >= self.series.end_ns):
            return None
        return self.series.mantissas[row] * self.atto_per_mantissa

    def next_change(self, instant_ns: int) -> int:
        starts_ns = self.series.starts_ns
        row = bisect_right(starts_ns, instant_ns)
        if row < len(starts_ns):
            return starts_ns[row]
        return self.series.end_ns if self.missing != LAST and instant_ns < self.series.end_ns else FOREVER_NS

    def tier_end_mj(self, used_mj: int) -> None:
        return None


def _claims(node: Node) -> bool:
    return isinstance(node.value, dict)


def _read(node: Node, context: RateContext) -> SeriesRate | None:
    table = Table(node, context.faults)
    currency = context.currency or "EUR"
    text = table.need_text("csv", '"day_ahead.csv"')
    unit = table.need_text("unit", f'"{currency}/MWh" or "{currency}/kWh"')
    missing = table.need_text("missing", '"last", "error" or the name of another rate: what holds after the last row')
    table.close()
    unit_currency, _, per = unit.partition("/")
    if unit and per not in _PER_UNIT_DIGITS:
        context.faults.at(node.value["unit"], f'is {unit!r}; write "{currency}/MWh" or "{currency}/kWh"')
        text = ""
    elif unit and context.currency and unit_currency != context.currency:
        context.faults.at(node.value["unit"], f"is in {unit_currency}, but the tariff in {currency}; write prices in "
                                              f"{currency}, there are no exchange rates here")
        text = ""
    if not text:
        return None
    file = resolve_file(node.value["csv"], context.faults)
    if file is None:
        return None
    context.files[file] = file_stamp(file)
    series = read_series(file, "price", context.faults)
    if series is None or not unit or not missing:
        return None
    if missing != LAST and len(series.starts_ns) < 2:
        context.faults.line(file, 2, "row", f'one row alone does not say how long it holds, and missing = "{missing}" '
                                            f'asks for that; add a row, or write missing = "last"')
        return None
    # mantissas have at most 9 digits after the point, so that the exponent is never negative
    return SeriesRate(file, series, 10 ** (_ATTO_DIGITS - series.decimals - _PER_UNIT_DIGITS[per]), missing)


KIND = RateKind(form='{ csv = "day_ahead.csv", unit = "EUR/MWh", missing = "last" }', claims=_claims, read=_read)
