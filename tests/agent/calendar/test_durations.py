"""Durations with their units."""

from __future__ import annotations

import pytest

from agent.calendar.durations import format_duration, parse_duration_ns
from agent.units import NS_PER_S


@pytest.mark.parametrize(("text", "seconds"), [
    ("250ms", 0.25), ("1s", 1), ("0.5s", 0.5), ("15m", 900), ("1h30m", 5_400), ("1m1ms", 60.001), ("2d", 172_800), ("0s", 0)])
def test_what_is_a_duration(text: str, seconds: float) -> None:
    assert parse_duration_ns(text) == round(seconds * NS_PER_S)


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "-1s", "1S", "1w", "1s2", "1.s", ".5s", "1e3s", "0.0000000001s",
                                  "99999d", "\N{ARABIC-INDIC DIGIT ONE}s"])
def test_what_is_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|is finer"):
        parse_duration_ns(text)


@pytest.mark.parametrize("text", ["100ms", "1s", "90s", "15m", "1h", "7d"])
def test_a_duration_is_shown_in_its_largest_whole_unit(text: str) -> None:
    assert format_duration(parse_duration_ns(text)) == text
