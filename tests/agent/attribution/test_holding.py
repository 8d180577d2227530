"""Whose a row of the driver's is, and for how long a process was there."""

from __future__ import annotations

import pytest

from agent.attribution.holding import accounted, busy_by_process, has_row_a_look, keys_of, looks, presence
from agent.attribution.known_processes import Key
from agent.model import AccountingUse, ProcessUse, UtilizationSample
from agent.units import NS_PER_S
from tests.agent.records import BOOT_NS, NOON_NS, device, interval

UTC_US = interval(0).end_utc_ns // 1_000
BOOT_TICKS = BOOT_NS // 10_000_000


def row(pid: int, percent: int, ago_s: float = 0) -> UtilizationSample:
    return UtilizationSample(pid, UTC_US - int(ago_s * 1e6), percent)


def busy(*rows: UtilizationSample, before: tuple[Key, ...] = (), now: tuple[Key, ...] = (),
         recent: dict[int, Key] | None = None, passed: tuple[ProcessUse, ...] = ()) -> dict[Key, int]:
    one = device(BOOT_NS, utilization_samples=rows, passed=passed)
    return busy_by_process(one, interval(0), before, now, (recent or {}).get)


def test_there_at_both_ends_is_twice_as_long_as_at_one() -> None:
    found = presence([(1, 1), (2, 1)], [(2, 1), (3, 1)], [(4, 1)])
    assert found.halves == {(1, 1): 1, (2, 1): 2, (3, 1): 1, (4, 1): 1}
    assert found.held_halves == 2


def test_a_device_is_held_for_as_many_halves_as_it_is_seen_held() -> None:
    assert presence([], []).held_halves == 0
    assert presence([(1, 1)], []).held_halves == 1
    assert presence([], [(1, 1)]).held_halves == 1
    assert presence([(1, 1)], [(2, 1)]).held_halves == 2
    assert presence([], [], [(9, 1)]).held_halves == 1
    assert presence(None, [(1, 1)]).held_halves == 2


def test_a_pid_with_another_start_is_another_process() -> None:
    assert presence([(1, 1)], [(1, 7)]).halves == {(1, 1): 1, (1, 7): 1}
    assert keys_of([ProcessUse(1, 7, None)]) == [(1, 7)]


def test_rows_add_up_and_garbage_does_not_count() -> None:
    rows = (row(1, 40), row(1, 50), row(2, 10), row(2, 0), row(2, 101), row(2, 4_294_967_295))
    assert busy(*rows, now=((1, 1), (2, 1))) == {(1, 1): 90, (2, 1): 10}


def test_a_row_is_found_its_process_wherever_that_was_last_seen() -> None:
    rows = (row(1, 10), row(2, 20), row(3, 30), row(4, 40), row(5, 50))
    found = busy(*rows, now=((1, 1),), before=((2, 2),), passed=(ProcessUse(3, 3, None),), recent={4: (4, 4)})
    assert found == {(1, 1): 10, (2, 2): 20, (3, 3): 30, (4, 4): 40, (5, 0): 50}


def test_who_passed_out_of_sight_is_who_was_known_before() -> None:
    assert busy(row(3, 30), passed=(ProcessUse(3, 0, None),), recent={3: (3, 9)}) == {(3, 9): 30}


def test_rows_of_a_reused_pid_go_by_their_time() -> None:
    started = BOOT_TICKS - 50                    # the new process started half a second before the reading
    found = busy(row(1, 30, 0.9), row(1, 40, 0.7), row(1, 5, 0.2), before=((1, 7),), now=((1, started),))
    assert found == {(1, 7): 70, (1, started): 5}


def test_looks_are_counted_once_however_many_rows_they_leave() -> None:
    rows = [UtilizationSample(pid, 10**9 + look * 166_667, 10) for look in range(6) for pid in (1, 2, 3)]
    assert looks(rows, NS_PER_S, row_a_look=has_row_a_look(rows)) == 6


def test_a_mean_of_looks_stands_for_those_that_found_somebody() -> None:
    """As an H100 tells: one row a process, 60 + 20 % of five looks a second; joined over two readings it is two rows."""
    rows = [UtilizationSample(1, 10**9, 60), UtilizationSample(2, 10**9 - 400_000, 20)]
    assert not has_row_a_look(rows)
    assert looks(rows, NS_PER_S, row_a_look=False) == 4
    assert looks(rows, 10 * NS_PER_S, row_a_look=False) == 40
    assert looks(rows * 2, 2 * NS_PER_S, row_a_look=False) == 8
    assert looks([UtilizationSample(1, 10**9, 0)], NS_PER_S, row_a_look=False) == 0


def test_accounting_tells_of_those_that_came_and_went_unseen() -> None:
    now_us = NOON_NS // 1_000
    lives = (AccountingUse(1, 11, now_us, 500, 80, None), AccountingUse(2, 22, now_us, 500, 80, None),
             AccountingUse(3, 33, now_us, 500, 80, None), AccountingUse(4, 44, now_us - 89_000_000, 90_000, 50, None))
    one = device(BOOT_NS, accounting=lives)
    found = accounted(one, interval(0), before=[(2, 22)], sampled={(3, 33): 5}, row_a_look=True)
    assert found == {(1, 11): 80 * 3, (4, 44): 50 * 6}       # 0.5 s are three looks; a life is cut to the interval
    found = accounted(one, interval(0), before=[(2, 22)], sampled={(3, 33): 5}, row_a_look=False)
    assert found == {(1, 11): 40, (4, 44): 50}               # as means over the interval's second


@pytest.mark.parametrize(("rows_each", "row_a_look"), [(6, True), (1, False)])
def test_a_short_life_weighs_the_same_whichever_way_the_driver_tells_of_the_others(rows_each: int, row_a_look: bool) -> None:
    """80 % for a second beside 40 % for half of one: 4 to 1."""
    rows = [row(1, 80, 1 - (n + 1) / 6) for n in range(rows_each)]
    life = AccountingUse(7, 77, NOON_NS // 1_000 + 100_000, 500, 40, None)
    one = device(BOOT_NS, utilization_samples=tuple(rows), accounting=(life,))
    sampled = busy(*rows, now=((1, 1),))
    found = accounted(one, interval(0), before=[(1, 1)], sampled=sampled, row_a_look=row_a_look)
    assert sampled[1, 1] == 4 * found[7, 77]
