"""The exporter-toolkit's ``rate_limit``: a token bucket over all requests."""

from __future__ import annotations

import re

from msgspec import Struct

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:h|ms|m|s|us|µs|ns))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|s|us|µs|ns)")


class RateLimit(Struct, frozen=True):
    """One request each ``interval_seconds``, after ``burst`` at once."""

    interval_seconds: float
    burst: int


def go_duration_seconds(text: str) -> float | None:
    """A duration as Go writes it (``1s``, ``1m30s``, ``250ms``, ``0``); None for anything else."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


class TokenBucket:
    """Starts full. ``takes`` is told the time, in monotonic seconds."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._tokens, self._counted = float(limit.burst), now

    def takes(self, now: float) -> bool:
        """Whether there is a token for one request; if so it is used up."""
        grown = self._tokens + (now - self._counted) / self.limit.interval_seconds
        self._tokens, self._counted = min(float(self.limit.burst), grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
