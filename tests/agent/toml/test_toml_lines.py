"""The line of a key: on hand-made texts, and on random documents whose lines are known because the test wrote them."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.toml.lines import KeyPath, key_lines

TEXT = '''# a comment with = and [brackets]
top = """
not.a = key
[nor.a.table]
"""   # after
'quoted key' = { a = 1, "b.c" = [2,
  3], d.e = { f = '#' } }

[one.two]   # header
x.y = "\\"escaped\\" ="
list = [
  # comment, with ] inside
  "a",

  { k = 1 }, 'two',
]
when = 1979-05-27 07:32:00
[one]
z = 1
[[rows]]
a = \'\'\'
]]]\'\'\'
[rows.sub]
b = 1
[[rows]]
[[rows.inner]]
c = 1
[[rows.inner]]
c = """five quotes"""""
last = true'''


def test_a_text_with_every_kind_of_key() -> None:
    lines = key_lines(TEXT)
    expected: dict[KeyPath, int] = {
        ("top",): 2, ("quoted key",): 6, ("quoted key", "a"): 6, ("quoted key", "b.c"): 6, ("quoted key", "b.c", 0): 6,
        ("quoted key", "b.c", 1): 7, ("quoted key", "d"): 7, ("quoted key", "d", "e"): 7, ("quoted key", "d", "e", "f"): 7,
        ("one", "two"): 9, ("one", "two", "x", "y"): 10, ("one", "two", "list"): 11, ("one", "two", "list", 0): 13,
        ("one", "two", "list", 1): 15, ("one", "two", "list", 1, "k"): 15, ("one", "two", "list", 2): 15,
        ("one", "two", "when"): 17, ("one",): 18, ("one", "z"): 19, ("rows",): 20, ("rows", 0): 20, ("rows", 0, "a"): 21,
        ("rows", 0, "sub"): 23, ("rows", 0, "sub", "b"): 24, ("rows", 1): 25, ("rows", 1, "inner", 0): 26,
        ("rows", 1, "inner", 1, "c"): 29, ("rows", 1, "inner", 1, "last"): 30,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_every_path_that_tomllib_knows_has_a_line_and_no_other() -> None:
    assert set(key_lines(TEXT)) == set(_paths(tomllib.loads(TEXT), ()))


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\n\r\nb = 2\r\n")["b",] == 3


def _paths(value: Any, path: KeyPath) -> list[KeyPath]:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [path, *(inner for name, item in items for inner in _paths(item, (*path, name)))]


_names = st.text(st.sampled_from("abc-_.#=[]\"'\\ é"), max_size=4)
_scalars = st.one_of(
    st.integers(-9, 9).map(str), st.booleans().map(lambda b: str(b).lower()), st.just("2026-01-01"), st.just("1.5e3"),
    st.text(st.sampled_from("ab#]}[{=,\"'\\\n"), max_size=6).map(json.dumps),
    st.lists(st.sampled_from(["]", "# no comment", "[a]", 'k = "v"', "", '""', "\\\\"]), max_size=4).map(
        lambda ls: '"""' + "\n".join(ls) + '\n"""'),
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=8)


class Writer:
    """Writes TOML, and the line of each path as it goes."""

    def __init__(self, draw: Any) -> None:
        self.text = ""
        self.lines: dict[KeyPath, int] = {(): 1}
        self._draw = draw

    def here(self, path: KeyPath) -> None:
        self.lines[path] = self.text.count("\n") + 1

    def value(self, path: KeyPath, value: Any) -> None:
        if isinstance(value, str):
            self.text += value
        elif isinstance(value, list):
            self.text += "["
            for i, item in enumerate(value):
                self.text += self._draw(st.sampled_from(["", " ", "\n", " # ], }\n", "\n\n  "]))
                self.here((*path, i))
                self.value((*path, i), item)
                self.text += ","
            self.text += "]"
        else:
            self.text += "{ "
            for i, (name, item) in enumerate(value.items()):
                self.text += ", " if i else ""
                self.pair((*path, name), item)
            self.text += " }"

    def pair(self, path: KeyPath, value: Any) -> None:
        self.here(path)
        self.text += f"{json.dumps(str(path[-1]))} = "
        self.value(path, value)

    def pairs(self, path: KeyPath, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.text += self._draw(st.sampled_from(["", "\n", "# c = 1\n", "  "]))
            self.pair((*path, name), value)
            self.text += "\n"


@given(st.dictionaries(_names, _values, max_size=3),
       st.dictionaries(_names.map(lambda n: "t" + n), st.dictionaries(_names, _values, max_size=3), max_size=3),
       st.lists(st.dictionaries(_names, _values, max_size=2), max_size=3), st.data())
def test_the_line_found_holds_the_key(
        top: dict[str, Any], tables: dict[str, Any], rows: list[dict[str, Any]], data: st.DataObject) -> None:
    top.pop("rows", None)
    for name in tables:
        top.pop(name, None)
    writer = Writer(data.draw)
    writer.pairs((), top)
    for name, values in tables.items():
        writer.here((name,))
        writer.text += f"[ {json.dumps(name)} ]\n"
        writer.pairs((name,), values)
    for i, values in enumerate(rows):
        if not i:
            writer.here(("rows",))
        writer.here(("rows", i))
        writer.text += "[[rows]]\n"
        writer.pairs(("rows", i), values)
    tomllib.loads(writer.text)
    assert dict(key_lines(writer.text)) == writer.lines
