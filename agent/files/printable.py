"""Text from elsewhere (tags, command lines, answers, file names) as a terminal may show it."""

from __future__ import annotations

from typing import Final

UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """A text in one line, without what would move the cursor or change the terminal. Bytes that were no text stay as they
    are (surrogates): they are part of a file's name."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else UNPRINTABLE for c in text)
