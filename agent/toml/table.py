"""Reads one table of a configuration, key by key: what is there with the right type and range, or a fault with a sentence.

Every getter returns something usable even where it found a fault, so that the reader goes on and all faults are found.
``close`` reports the keys that nobody asked for.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.calendar.durations import format_duration, parse_duration_ns
from agent.files.inputs import is_file
from agent.toml.document import Faults, Node, dotted

_TYPE_NAMES = {
    bool: "true or false", int: "a whole number", Decimal: "a number", str: "text", dict: "a table",
    dt.datetime: "a date with a time", dt.date: "a date", dt.time: "a time of day", list: "a list",
}


def type_name(value: object) -> str:
    """What a TOML value is, in words."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def nearest(name: str, names: Collection[str]) -> str:
    """A hint at the likeliest of some names, or a list of them where none is near."""
    close = difflib.get_close_matches(name, names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"write one of {', '.join(sorted(names))}" if names else "there is none to choose from"


class Table:
    """A cursor over one TOML table."""

    def __init__(self, node: Node, faults: Faults) -> None:
        """``node`` holds a dict; anything else is a fault, and reads as an empty table."""
        self.node = node
        self.faults = faults
        self._asked: set[str] = set()
        if isinstance(node.value, dict):
            self._nodes: dict[str, Node] = node.value
        else:
            self._nodes = {}
            self.fault(node, f"is {type_name(node.value)}; write a table")

    def fault(self, node: Node, sentence: str) -> None:
        self.faults.at(node, sentence)

    def missing(self, name: str, instead: str) -> None:
        self.faults.at(self.node, f"is missing; write {instead}", dotted(self.node.key, name))

    def close(self) -> None:
        """Report the keys that no getter asked for."""
        for name, node in self._nodes.items():
            if name not in self._asked:
                self.fault(node, f"is an unknown key; {nearest(name, self._asked)}")

    def names(self) -> list[str]:
        return list(self._nodes)

    def get(self, name: str) -> Node | None:
        """The raw value of a key, None where it is not given."""
        self._asked.add(name)
        return self._nodes.get(name)

    @property
    def is_table(self) -> bool:
        """False where something else stands in a table's place, which is a fault already."""
        return isinstance(self.node.value, dict)

    def text(self, name: str, choices: Collection[str] | None = None, instead: str = "") -> str | None:
        """A text, one of ``choices`` where there are some; ``instead`` is what to write where naming them all is no help."""
        node = self.get(name)
        if node is None:
            return None
        if not isinstance(node.value, str) or not node.value.strip():
            shown = "empty" if node.value == "" else type_name(node.value)
            self.fault(node, f"is {shown}; write text in quotes")
            return None
        if "\0" in node.value:
            self.fault(node, "holds a NUL character; write it without")
            return None
        if choices is not None and node.value not in choices:
            hint = f"write {instead}" if instead else nearest(node.value, choices)
            self.fault(node, f"is {node.value!r}, which is not known here; {hint}")
            return None
        return node.value

    def need_text(self, name: str, example: str, choices: Collection[str] | None = None, instead: str = "") -> str:
        """A text that must be there; "" where it is not or is wrong."""
        if name not in self._nodes:
            self._asked.add(name)
            self.missing(name, f"{name} = {example}")
            return ""
        return self.text(name, choices, instead) or ""

    def texts(self, name: str, choices: Collection[str] | None = None) -> tuple[str, ...] | None:
        """A list of different texts, each one of ``choices``."""
        found: list[str] = []
        items = self.items(name)
        if items is None:
            return None
        for item in items:
            if not isinstance(item.value, str) or not item.value:
                self.fault(item, f"is {type_name(item.value)}; write text in quotes")
            elif choices is not None and item.value not in choices:
                self.fault(item, f"is {item.value!r}, which is not known here; {nearest(item.value, choices)}")
            elif item.value in found:
                self.fault(item, f"repeats {item.value!r}; write it once")
            else:
                found.append(item.value)
        return tuple(found)

    def number(self, name: str, low: int | None = None, high: int | None = None, above: int | None = None,
               ) -> Decimal | None:
        """A finite number: at least ``low``, at most ``high``, more than ``above``."""
        node = self.get(name)
        if node is None:
            return None
        value = plain_number(node.value)
        if value is None:
            hint = f"{node.value} without quotes" if _looks_numeric(node.value) else "a number"
            shown = "not finite" if isinstance(node.value, Decimal) else type_name(node.value)
            self.fault(node, f"is {shown}; write {hint}")
            return None
        if value and not -18 <= value.adjusted() <= 12:
            self.fault(node, f"is {value:.3g}; write a number that a price, a time or an amount can have")
        elif low is not None and value < low:
            self.fault(node, f"is {value}; write {low} or more")
        elif high is not None and value > high:
            self.fault(node, f"is {value}; write {high} or less")
        elif above is not None and value <= above:
            self.fault(node, f"is {value}; write more than {above}")
        else:
            return value
        return None

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.number(name, low, high)
        if value is None:
            return None
        if value != int(value):
            self.fault(self._nodes[name], f"is {value}; write a whole number")
            return None
        return int(value)

    def truth(self, name: str) -> bool | None:
        node = self.get(name)
        if node is None:
            return None
        if not isinstance(node.value, bool):
            self.fault(node, f"is {type_name(node.value)}; write true or false, without quotes")
            return None
        return node.value

    def duration_ns(self, name: str, low_ns: int, high_ns: int) -> int | None:
        node = self.get(name)
        if node is None:
            return None
        if plain_number(node.value) is not None:
            self.fault(node, f"is {node.value}, a number without a unit; write it as text with one of ms, s, m, h, d,"
                             f' such as "{node.value}s"')
            return None
        if not isinstance(node.value, str):
            self.fault(node, f'is {type_name(node.value)}; write a duration such as "15m"')
            return None
        try:
            duration_ns = parse_duration_ns(node.value)
        except ValueError as error:
            self.fault(node, f'{error}; write a number with one of the units ms, s, m, h, d, such as "15m"')
            return None
        if not low_ns <= duration_ns <= high_ns:
            self.fault(node, f'is "{node.value}"; write from "{format_duration(low_ns)}" to "{format_duration(high_ns)}"')
            return None
        return duration_ns

    def date(self, name: str) -> dt.date | None:
        node = self.get(name)
        return None if node is None else plain_date(node, self.faults)

    def items(self, name: str) -> Sequence[Node] | None:
        """The elements of a list."""
        node = self.get(name)
        if node is None:
            return None
        if not isinstance(node.value, list):
            self.fault(node, f"is {type_name(node.value)}; write a list in [ ]")
            return None
        return node.value

    def table(self, name: str) -> Table | None:
        node = self.get(name)
        return None if node is None else Table(node, self.faults)

    def tables(self, name: str) -> list[Table]:
        """The tables of an array of tables; none where it is not given."""
        node = self.get(name)
        if node is not None and isinstance(node.value, dict):
            self.fault(node, f"is one table; write [[{node.key}]], or a list of tables in [ ]")
            return []
        found = [Table(item, self.faults) for item in self.items(name) or ()]
        return [table for table in found if table.is_table]

    def path(self, name: str) -> Path | None:
        """A path; a relative one starts at the directory of the file that names it."""
        text = self.text(name)
        if text is None:
            return None
        path = resolve_path(self._nodes[name], text)
        if text.startswith("~") and text in str(path):
            self.fault(self._nodes[name], f"is {text!r}, and there is no home directory of that user; write the whole path")
        return path


def resolve_path(node: Node, text: str) -> Path:
    """A path as its file means it: relative to that file, or to the working directory on the command line."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):          # nobody of that name: then there is no such file either
        path = path.expanduser()
    return path if node.file is None else node.file.parent / path


def resolve_file(node: Node, faults: Faults) -> Path | None:
    """A path that must name a file; None, with a fault, where it does not."""
    path = resolve_path(node, node.value)
    if is_file(path):
        return path
    faults.at(node, f"is {node.value!r}, and there is no such file; name an existing one (looked for {str(path)!r})")
    return None


def plain_number(value: Any) -> Decimal | None:
    """A TOML integer or float as Decimal; None for anything else, and for inf and nan."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def plain_date(node: Node, faults: Faults) -> dt.date | None:
    if isinstance(node.value, dt.date) and not isinstance(node.value, dt.datetime):
        if 1900 <= node.value.year <= 2200:
            return node.value
        faults.at(node, f"is {node.value}; write a date from 1900 to 2200")
        return None
    faults.at(node, f"is {type_name(node.value)}; write a date without quotes and without a time, such as 2026-01-01")
    return None


def _looks_numeric(value: object) -> bool:
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except ArithmeticError:
        return False
