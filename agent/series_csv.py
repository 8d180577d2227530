"""A series in a CSV file: rows ``start,VALUE``, each in force until the next. Prices, carbon intensities and loads."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path

from msgspec import Struct

from agent.calendar.instants import parse_instant_ns
from agent.files.inputs import open_input
from agent.toml.document import Faults

_MOST_DECIMALS = 9                               # with values below 1e9, every mantissa fits 64 bits
_VALUE_LIMIT = 10**9
_MOST_TOLD = 20                                  # bad rows: a file of another kind has nothing but

_Report = Callable[[int, str, str], None]        # line, key, sentence


class Series(Struct, frozen=True, gc=False):
    """Compact: 16 bytes a row. Row i holds from ``starts_ns[i]`` on, its value is ``mantissas[i]`` / 10 ** ``decimals``."""

    starts_ns: array[int]
    mantissas: array[int]
    decimals: int

    @property
    def end_ns(self) -> int:
        """Where the rows end: the last one is as long as the one before it. One row alone ends where it begins."""
        starts_ns = self.starts_ns
        return 2 * starts_ns[-1] - starts_ns[-2] if len(starts_ns) > 1 else starts_ns[-1]

    def value(self, i: int) -> Decimal:
        return Decimal(self.mantissas[i]).scaleb(-self.decimals)


def read_series(file: Path, column: str, faults: Faults) -> Series | None:
    """The rows of a file with the header ``start,<column>``; None, with a fault for every bad line, where it is not good.

    Instants carry their offset and rise strictly; values are finite decimals, of either sign.
    """
    starts_ns: array[int] = array("q")
    values: list[Decimal] = []
    good, told = True, 0

    def fault(line: int, key: str, sentence: str) -> None:
        nonlocal good, told
        good = False
        told += 1
        faults.line(file, line, key, sentence)

    try:
        with io.TextIOWrapper(open_input(file), encoding="utf-8-sig", newline="") as opened:
            rows = csv.reader(opened)
            header = [cell.strip() for cell in next(rows, [])]
            if header != ["start", column]:
                fault(1, "header", f"is {','.join(header)!r}; write start,{column}")
                return None
            for row in rows:
                if told >= _MOST_TOLD:
                    fault(rows.line_num, "row", "and what follows was not looked at; mend the rows above first")
                    break
                if not row:
                    continue
                if len(row) != 2:
                    fault(rows.line_num, "row", f"has {len(row)} columns; write start,{column}")
                    continue
                start_ns, value = _start(row[0], fault, rows.line_num), _value(row[1], column, fault, rows.line_num)
                if start_ns is None or value is None:
                    continue
                if starts_ns and start_ns <= starts_ns[-1]:
                    fault(rows.line_num, "start", f"{row[0]} is not after the row before; sort the rows, one per instant")
                    continue
                starts_ns.append(start_ns)
                values.append(value)
    except OSError as error:
        fault(0, "", f"cannot be read ({error.strerror}); give the path of a readable CSV file")
    except (UnicodeDecodeError, csv.Error) as error:
        fault(0, "", f"is not a CSV file in UTF-8 ({error}); export it again as plain CSV")
    if good and not values:
        fault(1, "row", f"no row follows the header; write at least one start,{column}")
    if not good:
        return None
    decimals = max(_decimals(value) for value in values)
    mantissas = array("q", (int(value.scaleb(decimals)) for value in values))
    return Series(starts_ns, mantissas, decimals)


def _start(cell: str, fault: _Report, line: int) -> int | None:
    try:
        return parse_instant_ns(cell.strip())
    except ValueError as error:
        fault(line, "start", f"{cell.strip()!r} {error}")
        return None


def _value(cell: str, column: str, fault: _Report, line: int) -> Decimal | None:
    try:
        value = Decimal(cell.strip())
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        fault(line, column, f"{cell.strip()!r} is not a number; write one with a decimal point, such as 81.5")
    elif abs(value) >= _VALUE_LIMIT or _decimals(value) > _MOST_DECIMALS:
        fault(line, column, f"{cell.strip()} is too large or too fine; write it below {_VALUE_LIMIT} and with at most "
                            f"{_MOST_DECIMALS} decimals")
    else:
        return value
    return None


def _decimals(value: Decimal) -> int:
    """Digits after the point, trailing zeros not counted."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
