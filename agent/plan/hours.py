"""The cheapest hours of a tariff for a job: in one piece, or cut where that is cheaper.

Exact: a job's cost is kW x the integral of the price, in integers of atto-units x ns until the end.
"""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from typing import Final

from msgspec import Struct

from agent.errors import FinOpsError
from agent.tariffs.base import Tariff
from agent.units import ATTO, NS_PER_HOUR

MAX_SEGMENTS: Final = 200_000                    # five years of quarter-hours


class Piece(Struct, frozen=True):
    """A time in which the job runs, half-open, at one price. ``rate`` is the price's name."""

    start_ns: int
    end_ns: int
    rate: str
    atto_per_kwh: int


class Run(Struct, frozen=True):
    """When to run a job, and what it then costs."""

    pieces: tuple[Piece, ...]
    cost: Fraction

    @property
    def duration_ns(self) -> int:
        return sum(piece.end_ns - piece.start_ns for piece in self.pieces)


def price_pieces(tariff: Tariff, from_ns: int, to_ns: int) -> list[Piece]:
    """The tariff's prices over a window, one piece a price; times without a known price are left out.

    Raises FinOpsError for a tariff whose price depends on the kWh used, and for a window with too many prices.
    """
    pieces: list[Piece] = []
    at_ns, looked = from_ns, 0
    while at_ns < to_ns:
        if tariff.tier_end_mj(at_ns, 0) is not None or tariff.period_start(at_ns) is not None:
            raise FinOpsError(f"tariff {tariff.name} prices by the kWh used, not by the hour alone; name one without blocks")
        price = tariff.price_at(at_ns)
        until_ns = min(to_ns, tariff.next_change(at_ns))
        last = pieces[-1] if pieces else None
        if not price.known:
            pass
        elif last and (last.end_ns, last.rate, last.atto_per_kwh) == (at_ns, price.rate, price.atto_per_kwh):
            pieces[-1] = Piece(last.start_ns, until_ns, last.rate, last.atto_per_kwh)
        else:
            pieces.append(Piece(at_ns, until_ns, price.rate, price.atto_per_kwh))
        at_ns, looked = until_ns, looked + 1
        if looked > MAX_SEGMENTS:
            raise FinOpsError(f"tariff {tariff.name} changes its price more than {MAX_SEGMENTS} times in that window; "
                              "choose a shorter one")
    return pieces


def cheapest_run(pieces: list[Piece], duration_ns: int, kw: Fraction, interruptible: bool) -> Run | None:
    """When a job of a duration and a constant power costs least; the earliest such time. None where the prices known
    do not reach for it."""
    chosen = _cheapest_pieces(pieces, duration_ns) if interruptible else _cheapest_span(pieces, duration_ns)
    if chosen is None:
        return None
    atto_ns = sum(piece.atto_per_kwh * (piece.end_ns - piece.start_ns) for piece in chosen)
    return Run(tuple(chosen), kw * Fraction(atto_ns, ATTO * NS_PER_HOUR))


def _cheapest_pieces(pieces: list[Piece], duration_ns: int) -> list[Piece] | None:
    chosen, left_ns = [], duration_ns
    for piece in sorted(pieces, key=lambda piece: (piece.atto_per_kwh, piece.start_ns)):
        take_ns = min(left_ns, piece.end_ns - piece.start_ns)
        chosen.append(Piece(piece.start_ns, piece.start_ns + take_ns, piece.rate, piece.atto_per_kwh))
        left_ns -= take_ns
        if left_ns == 0:
            return sorted(chosen, key=lambda piece: piece.start_ns)
    return None


def _cheapest_span(pieces: list[Piece], duration_ns: int) -> list[Piece] | None:
    """Between two price changes the cost is linear in the start: the least is where the start or the end meets one."""
    best: tuple[int, int] | None = None
    for joined in _joined(pieces):
        starts = [piece.start_ns for piece in joined]
        sums = [0]
        for piece in joined:
            sums.append(sums[-1] + piece.atto_per_kwh * (piece.end_ns - piece.start_ns))

        def until(at_ns: int, joined: list[Piece] = joined, starts: list[int] = starts, sums: list[int] = sums) -> int:
            i = max(0, bisect_right(starts, at_ns) - 1)
            return sums[i] + joined[i].atto_per_kwh * (at_ns - joined[i].start_ns)

        first_ns, last_ns = starts[0], joined[-1].end_ns - duration_ns
        corners = {corner for piece in joined for corner in (piece.start_ns, piece.end_ns - duration_ns)}
        for start_ns in corners:
            if first_ns <= start_ns <= last_ns:
                candidate = (until(start_ns + duration_ns) - until(start_ns), start_ns)
                best = candidate if best is None else min(best, candidate)
    if best is None:
        return None
    start_ns, end_ns = best[1], best[1] + duration_ns
    return [Piece(max(start_ns, p.start_ns), min(end_ns, p.end_ns), p.rate, p.atto_per_kwh)
            for p in pieces if p.start_ns < end_ns and p.end_ns > start_ns]


def _joined(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces in runs without a gap."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        if runs and runs[-1][-1].end_ns == piece.start_ns:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs
