"""Where each key of a TOML text stands. tomllib parses, but tells no lines; a fault without its line is hard to find.

The scanner walks a text that tomllib has already accepted, so it needs no grammar checks of its own.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]                  # table keys, and indexes into arrays

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'           # a closing run may be up to five quotes: two belong to the text
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line (from 1) of every key, table header and array element of a valid TOML text, by its path.

    A table mentioned several times (``[a.b]`` before ``[a]``) has the line of its own header, else of the first mention.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._newlines = [i for i, c in enumerate(self._text) if c == "\n"]
        self._at = 0
        self._lines: dict[KeyPath, int] = {(): 1}
        self._last_index: dict[KeyPath, int] = {}            # arrays of tables: index of the newest element

    def scan(self) -> Mapping[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._key_value(table)
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> KeyPath:
        line = self._line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        names = self._names()
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        for name in names[:-1]:
            path = (*path, name)
            self._lines.setdefault(path, line)
            if path in self._last_index:
                path = (*path, self._last_index[path])
        path = (*path, names[-1])
        if is_array:
            self._lines.setdefault(path, line)
            index = self._last_index[path] = self._last_index.get(path, -1) + 1
            path = (*path, index)
        self._lines[path] = line
        return path

    def _key_value(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._names():
            path = (*path, name)
            self._lines.setdefault(path, line)
        self._at += 1                                        # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _names(self) -> list[str]:
        """A dotted key, up to what follows it."""
        names = []
        while True:
            self._skip(_SPACE)
            opening = self._text[self._at]
            pattern = {'"': _BASIC, "'": _LITERAL}.get(opening, _BARE_KEY)
            raw = self._skip(pattern)
            if opening == '"':
                raw = tomllib.loads(f"key = {raw}")["key"]   # escapes are tomllib's business
            elif opening == "'":
                raw = raw[1:-1]
            names.append(raw)
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._next_item("]"):
            self._lines[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._next_item("}"):
            self._key_value(path)

    def _next_item(self, closing: str) -> bool:
        """Go to the next item of an array or inline table; False, and past its end, where there is none."""
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] == closing:
            self._at += 1
            return False
        return True

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"line {self._line()}: not TOML that tomllib accepts")
        self._at = found.end()
        return found.group()

    def _line(self) -> int:
        return bisect_right(self._newlines, self._at - 1) + 1
