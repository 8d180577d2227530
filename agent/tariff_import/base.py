"""What an importer is told, what it gives, and how it reads JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from agent.errors import UsageError
from agent.files.inputs import read_input


class Wishes(Struct, frozen=True, kw_only=True):
    """What the file itself does not say. None: not given."""

    name: str | None = None
    timezone: str | None = None                  # IANA, known to be good
    currency: str | None = None                  # ISO 4217, known to be good
    label: str | None = None                     # which of several rates in a file
    payment_method: str | None = None
    missing: str = "last"
    ignore: frozenset[str] = frozenset()         # fields that are left out though they may change the bill


class Imported(Struct, frozen=True, kw_only=True):
    """A tariff: the keys of its table in order, as Python values; ``csv`` is the text of a price series beside it, which the
    table names by ``CSV``. ``notes`` are comments for its head."""

    name: str
    table: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    csv: str | None = None


_MOST_DIGITS = 12

CSV = "<csv>"                                    # stands in a table for the name of the series' file

Importer = Callable[[Path, Wishes], Imported]


def read_json(file: Path) -> Any:
    """The document in a file, numbers with a point as Decimal. Raises UsageError."""
    try:
        return json.loads(read_input(file).decode("utf-8-sig"), parse_float=_decimal, parse_constant=_no_constant)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); give the path of a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON ({error}); save the service's answer as it came") from error


def refuse(file: Path, field: str, sentence: str) -> NoReturn:
    raise UsageError(f"{file}: {field}: {sentence}")


def number(file: Path, field: str, value: object) -> Decimal:
    """A finite number, exact, of a size that an amount has."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        refuse(file, field, f"is {value!r}, not a number; correct the file")
    if value and not -_MOST_DIGITS <= Decimal(value).adjusted() < _MOST_DIGITS:
        refuse(file, field, f"is {Decimal(value):.3g}, which no amount is; correct the file")
    return Decimal(value)


def slug(text: str) -> str:
    """A name that needs no quotes: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "imported"


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text[:40]} is too large") from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")
