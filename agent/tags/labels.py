"""Tag values made fit to be label values: they come from processes, which write what they like."""

from __future__ import annotations

from typing import Final
from unicodedata import category

LONGEST: Final = 128                 # characters
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_UNFIT: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})     # controls, invisible ones, surrogates, line ends


def label_value(raw: str) -> tuple[str, bool]:
    """The value without blanks around it, each unfit character replaced, cut to 128 characters; and whether it was cut.
    Lone surrogates are how undecodable bytes come in; they cannot be written as UTF-8."""
    value = raw.strip()
    cut = len(value) > LONGEST
    if cut:
        value = value[:LONGEST].rstrip()
    if not value.isprintable():
        value = "".join([_REPLACEMENT if category(char) in _UNFIT else char for char in value])
    return value, cut
