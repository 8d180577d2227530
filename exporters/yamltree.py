"""A YAML mapping with the line of every key, read strictly: unknown and repeated keys are faults, types are checked."""

from __future__ import annotations

import re
from typing import Any

_STR, _BOOL, _INT = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int"
_WHOLE = re.compile("[0-9]{1,9}")
_TRUE = frozenset({"true", "yes", "on"})


class Faults:
    """Collects ``FILE:LINE: KEY: sentence`` lines for one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.lines: list[str] = []

    def add(self, line: int, key: str, sentence: str) -> None:
        self.lines.append(f"{self._file}:{line}: {key}: {sentence}")


class Table:
    """One mapping of the file. Each getter takes its key out of what ``done`` then calls unknown."""

    def __init__(self, node: Any, name: str, faults: Faults, line: int = 1) -> None:
        """``line``: of the key that the mapping belongs to."""
        self.name, self._faults, self.line = name, faults, line
        self._entries: dict[str, tuple[int, Any]] = {}
        self._lines: dict[str, int] = {}
        if node is None or _is_null(node):
            return
        if node.id != "mapping":
            faults.add(self.line, name or "file", "must be a mapping of keys to values")
            return
        for key, value in node.value:
            word, line = str(key.value), key.start_mark.line + 1
            if key.id != "scalar":
                faults.add(line, name or "file", "has a key that is a list or a mapping; write a word")
                continue
            if word in self._entries:
                faults.add(line, self._path(word), "is given twice; keep one")
            self._entries[word] = (line, value)

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def fault(self, key: str, sentence: str) -> None:
        """A fault at the key's line, or at the table's where the key is not given."""
        self._faults.add(self._lines.get(key, self.line), self._path(key), sentence)

    def _take(self, key: str) -> Any:
        line, node = self._entries.pop(key, (0, None))
        if node is None:
            return None
        self._lines[key] = line
        return None if _is_null(node) else node

    def has(self) -> bool:
        """Whether anything is left in the table."""
        return bool(self._entries)

    def text(self, key: str) -> str | None:
        node = self._take(key)
        if node is None:
            return None
        if node.id != "scalar" or node.tag != _STR:
            self.fault(key, "must be a string; put it in quotes")
            return None
        return str(node.value)

    def word(self, key: str) -> str | None:
        """A scalar of any type, as it is written."""
        node = self._take(key)
        if node is None:
            return None
        if node.id != "scalar":
            self.fault(key, "must be a single value")
            return None
        return str(node.value)

    def whole(self, key: str) -> int | None:
        """A non-negative whole number."""
        node = self._take(key)
        if node is None:
            return None
        if node.id != "scalar" or node.tag != _INT or not _WHOLE.fullmatch(str(node.value)):
            self.fault(key, "must be a whole number, of nine digits at most")
            return None
        return int(node.value)

    def flag(self, key: str, default: bool) -> bool:
        node = self._take(key)
        if node is None:
            return default
        if node.id != "scalar" or node.tag != _BOOL:
            self.fault(key, "must be true or false")
            return default
        return str(node.value).lower() in _TRUE

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings; None where the key is not given."""
        node = self._take(key)
        if node is None:
            return None
        if node.id != "sequence" or any(item.id != "scalar" or item.tag != _STR for item in node.value):
            self.fault(key, "must be a list of strings")
            return None
        return tuple(str(item.value) for item in node.value)

    def table(self, key: str) -> Table:
        """A mapping inside this one; empty where the key is not given."""
        node = self._take(key)
        return Table(node, self._path(key), self._faults, self._lines.get(key, self.line))

    def texts_by_key(self) -> dict[str, str]:
        """Every remaining entry, as strings."""
        found = {}
        for key in list(self._entries):
            value = self.text(key)
            if value is not None:
                found[key] = value
        return found

    def done(self, allowed: str) -> None:
        """Every key that nobody took is a fault."""
        for key, (line, _) in self._entries.items():
            self._faults.add(line, self._path(key), f"unknown key; allowed here: {allowed}")


def _is_null(node: Any) -> bool:
    return bool(node.id == "scalar" and node.tag == "tag:yaml.org,2002:null")
