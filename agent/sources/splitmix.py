"""A hash of integers that is the same in every process and on every machine."""

from __future__ import annotations

from typing import Final

_WORD: Final = 2**64 - 1


def mix(*words: int) -> int:
    """64 bits from any integers: the finalizer of SplitMix64 (Steele, Lea and Flood 2014), word by word."""
    state = 0
    for word in words:
        state = (state + (word & _WORD) + 0x9E3779B97F4A7C15) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state
