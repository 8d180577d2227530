"""The exported error of a share: right in size, about ten minutes of it, and small in memory."""

from __future__ import annotations

from math import sqrt
from random import Random

import pytest

from agent.attribution.share_error import BUCKETS, WINDOW_NS, ShareError
from agent.units import NS_PER_S

A, B = ("a",), ("b",)


def fill(subject: ShareError, share: float, from_s: int, to_s: int) -> None:
    for second in range(from_s, to_s):
        subject.add(second * NS_PER_S, {A: round(600 * share), B: round(600 * (1 - share))}, 6)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_ten_minutes_of_looks_give_the_formula(share: float) -> None:
    subject = ShareError()
    fill(subject, share, 0, 600)
    expected = 1.96 * sqrt(share * (1 - share) / 3_600)
    assert subject.half_width(A) == pytest.approx(expected, rel=0.02)
    assert subject.half_width(B) == pytest.approx(expected, rel=0.02)


def test_nothing_is_said_without_looks() -> None:
    assert ShareError().half_width(A) is None


def test_a_workload_never_seen_among_few_looks_is_not_said_to_be_certain() -> None:
    subject = ShareError()
    subject.add(0, {A: 600}, 6)
    assert 0.1 < (subject.half_width(B) or 0) < 0.5
    assert subject.half_width(A) == pytest.approx(subject.half_width(B))


def test_only_the_last_ten_minutes_count() -> None:
    subject = ShareError()
    fill(subject, 0.5, 0, 600)
    fill(subject, 0.9, 600, 1_200)
    alone = ShareError()
    fill(alone, 0.9, 600, 1_200)
    assert subject.half_width(A) == alone.half_width(A)
    subject.expire(1_200 * NS_PER_S + WINDOW_NS)
    assert subject.half_width(A) is None


def test_memory_is_bounded_by_workloads_not_by_ticks() -> None:
    subject = ShareError()
    for second in range(20_000):
        subject.add(second * NS_PER_S, {(f"job-{second // 10}",): 600}, 6)
    held = sum(len(sums) for _, sums, _ in subject._buckets)
    assert held <= 60 + BUCKETS
    assert len(subject._busy) <= 60 + BUCKETS


def test_it_covers_the_true_share_95_times_of_100() -> None:
    random, covered = Random(7), 0
    for _ in range(400):
        subject = ShareError()
        seen = sum(random.random() < 0.3 for _ in range(600))
        subject.add(0, {A: 100 * seen, B: 100 * (600 - seen)}, 600)
        covered += abs(seen / 600 - 0.3) <= (subject.half_width(A) or 0)
    assert 0.92 <= covered / 400 <= 0.98
