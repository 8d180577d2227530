"""A TOML file as a tree whose every value knows its file, line and key; and the list of what is wrong with it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.files.inputs import read_input
from agent.toml.lines import KeyPath, key_lines

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_MOST_BYTES = 4 * 2**20              # tens of thousands of lines, where hundreds are usual
_LEAST, _MOST = -(2**63), 2**63 - 1
_MOST_DIGITS, _SHOWN = 40, 40
_ENDLESS_NUMBER = re.compile(r"[0-9_]{4000,}")
_SYNTAX_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class Node:
    """One value and where it stands. ``value`` is a dict of nodes, a list of nodes, or a plain TOML value (numbers with
    a point are Decimal). ``file`` is None for a value from the command line."""

    __slots__ = ("file", "key", "line", "value")

    def __init__(self, value: Any, file: Path | None, line: int, key: str) -> None:
        self.value = value
        self.file = file
        self.line = line
        self.key = key


class Faults:
    """Everything that is wrong, collected, so that one look shows it all. Kept by file, line and order of discovery."""

    def __init__(self) -> None:
        self._found: dict[tuple[Path | None, int, str], None] = {}
        self._files: dict[Path | None, int] = {}
        self._reports = 0

    def at(self, node: Node, sentence: str, key: str | None = None) -> None:
        """A fault of a value; ``key`` where it is one that is missing or unknown inside it."""
        self.line(node.file, node.line, key if key is not None else node.key, sentence)

    def line(self, file: Path | None, line: int, key: str, sentence: str) -> None:
        """A fault at a line of a file; line 0 for the file as a whole, no file for the command line."""
        self._reports += 1
        self._files.setdefault(file, len(self._files))
        place = "command line" if file is None else f"{file}:{line}" if line else f"{file}"
        text = f"{place}: {key}: {sentence}" if key else f"{place}: {sentence}"
        self._found.setdefault((file, line, text))

    def __len__(self) -> int:
        """How many were reported, repetitions too: what a reader compares to know whether it met a fault of its own."""
        return self._reports

    def lines(self) -> list[str]:
        return [text for _, _, text in sorted(self._found, key=lambda f: (self._files[f[0]], f[1]))]


def dotted(key: str, name: str | int) -> str:
    """A key path one step further: ``tariff.flat``, ``rule[0]``, quoted where TOML would want quotes."""
    if isinstance(name, int):
        return f"{key}[{name}]"
    shown = name if _BARE.fullmatch(name) else quoted(name)
    return f"{key}.{shown}" if key else shown


def quoted(text: str) -> str:
    """A text as TOML writes it between quotes; half of a surrogate pair, which it cannot write, as a replacement."""
    shown = json.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ensure_ascii=False)
    return shown.replace("\x7f", "\\u007f")


def read_document(file: Path, faults: Faults) -> Node | None:
    """A file's tree; None, with a fault, where it cannot be read or is not TOML. An empty file is an empty table."""
    try:
        raw = read_input(file, _MOST_BYTES)
    except OSError as error:
        faults.line(file, 0, "", f"cannot be read ({error.strerror}); give the path of a readable TOML file")
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.line(file, raw.count(b"\n", 0, error.start) + 1, "encoding", "is not UTF-8; save the file as UTF-8")
        return None
    return parse_document(text, file, faults)


def parse_document(text: str, file: Path, faults: Faults) -> Node | None:
    """The tree of a TOML text, ``file`` its name in the faults; None, with a fault, where it is not TOML."""
    try:
        data = tomllib.loads(text, parse_float=_decimal)
        return _located(data, file, key_lines(text), (), "", 1, faults)
    except tomllib.TOMLDecodeError as error:
        sentence = str(error)
        found = _SYNTAX_LINE.search(sentence)
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        reason = _SYNTAX_LINE.sub("", sentence)
        faults.line(file, line, "syntax", f"is not TOML: {reason[:1].lower()}{reason[1:]}; correct this line")
        return None
    except RecursionError:
        faults.line(file, 1, "syntax", "is nested too deeply; write flatter tables")
        return None
    except _NoNumber as error:
        line = text.count("\n", 0, max(0, text.find(error.text))) + 1
        faults.line(file, line, "syntax", f"is {error.text[:_SHOWN]}, which no amount is; write a number of fewer digits")
        return None
    except ValueError:                                       # a whole number of thousands of digits: tomllib says no line
        found = _ENDLESS_NUMBER.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        faults.line(file, line, "syntax", "holds a number that is too long to read; write one of fewer digits")
        return None


def plain_node(value: Any, key: str) -> Node:
    """A value from the command line, as the file would have given it."""
    return Node(str(value) if isinstance(value, Path) else value, None, 0, key)


def _decimal(text: str) -> Decimal:
    """A number with a point, exact. Raises _NoNumber for one with more digits than any amount."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise _NoNumber(text) from None
    if len(number.as_tuple().digits) > _MOST_DIGITS:
        raise _NoNumber(text)
    return number


class _NoNumber(ValueError):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _located(value: Any, file: Path, lines: Mapping[KeyPath, int], path: KeyPath, key: str, line: int,
             faults: Faults) -> Node:
    line = lines.get(path, line)
    if isinstance(value, dict):
        items = value.items()
        return Node({n: _located(v, file, lines, (*path, n), dotted(key, n), line, faults) for n, v in items}, file, line, key)
    if isinstance(value, list):
        rows = enumerate(value)
        return Node([_located(v, file, lines, (*path, i), dotted(key, i), line, faults) for i, v in rows], file, line, key)
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        faults.line(file, line, key, "is a whole number of more than 64 bits; write one that an amount can be")
        value = 0                                            # TOML has no such numbers, and Python cannot always print them
    return Node(value, file, line, key)


def merge(into: Node, more: Node, faults: Faults) -> None:
    """Add an included file's table to another: tables join key by key, arrays of tables one after the other; any other
    key given twice is a fault of the second."""
    for name, node in more.value.items():
        present = into.value.get(name)
        if present is None:
            into.value[name] = node
        elif isinstance(present.value, dict) and isinstance(node.value, dict) and not _is_tariff(node):
            merge(present, node, faults)
        elif _is_table_array(present) and _is_table_array(node):
            into.value[name] = Node([*present.value, *node.value], present.file, present.line, present.key)
        else:
            faults.at(node, f"is already given at {present.file}:{present.line}; keep one of the two")


def _is_tariff(node: Node) -> bool:
    return node.key.startswith("tariff.")        # two files that each write half a tariff would be a riddle


def _is_table_array(node: Node) -> bool:
    return isinstance(node.value, list) and all(isinstance(item.value, dict) for item in node.value)
