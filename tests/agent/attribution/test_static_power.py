"""Static power is learned from quiet alone, low, bounded, and survives a restart."""

from __future__ import annotations

import logging

import pytest

from agent.attribution.static_power import KEPT, Quiet, StaticPower, StaticPowers
from agent.units import NS_PER_S
from tests.agent.records import UUID, interval


def watch(subject: StaticPowers, quiet: Quiet | None, watts: float, seconds: int, step_s: int = 1, **fields: object) -> None:
    for _ in range(0, seconds, step_s):
        subject.observe(interval(round(watts * 1_000 * step_s), step_s * NS_PER_S, **fields), quiet)


def test_nothing_is_believed_before_it_was_seen() -> None:
    subject = StaticPowers()
    watch(subject, None, 300, 3_600)
    assert subject.power(UUID) == StaticPower(None, None)
    assert not subject.power(UUID).calibrated
    assert not subject.encoded


def test_fifteen_quiet_seconds_tell_bare_power_and_fifteen_held_ones_what_contexts_add() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 70, 14)
    assert subject.power(UUID).bare_mw is None
    watch(subject, "bare", 70, 1)
    assert subject.power(UUID) == StaticPower(70_000, None)
    watch(subject, "held", 115, 15)
    assert subject.power(UUID) == StaticPower(70_000, 45_000)
    assert subject.power(UUID).calibrated
    assert subject.held_mw == {UUID: 115_000}


def test_the_five_seconds_after_work_do_not_count() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 600, 5)
    watch(subject, "bare", 70, 10)
    assert subject.power(UUID).bare_mw == 70_000


def test_quiet_that_is_broken_begins_anew() -> None:
    subject = StaticPowers()
    for _ in range(20):
        watch(subject, "bare", 70, 14)
        watch(subject, None, 500, 1)
    assert subject.power(UUID).bare_mw is None


@pytest.mark.parametrize("fields", [{"bridged": True}, {"gap_ns": 1}])
def test_time_that_nobody_vouches_for_teaches_nothing(fields: dict[str, object]) -> None:
    subject = StaticPowers()
    watch(subject, "bare", 70, 60, **fields)
    assert subject.power(UUID).bare_mw is None


def test_a_meter_that_stands_still_is_not_a_card_that_draws_nothing() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 0, 60)
    assert subject.power(UUID).bare_mw is None


def test_a_counter_that_moves_in_steps_does_not_show_in_a_mean_over_ten_seconds() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 70, 5)
    for tick in range(100):                      # every fifth tick of 200 ms has a whole second's energy
        subject.observe(interval(70_000 if tick % 5 == 0 else 0, NS_PER_S // 5), "bare")
    assert subject.power(UUID).bare_mw == 70_000


def test_work_too_short_to_be_seen_does_not_move_a_low_quantile() -> None:
    subject = StaticPowers()
    watch(subject, "held", 115, 5)
    for stretch in range(KEPT):
        watch(subject, "held", 115 if stretch % 5 == 0 else 200, 10)
    assert subject.power(UUID).context_mw == 115_000


def test_one_low_outlier_among_many_is_not_believed_and_a_lasting_change_is() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 70, 5 + 10 * KEPT)
    watch(subject, "bare", 20, 10)
    assert subject.power(UUID).bare_mw == 70_000
    watch(subject, "bare", 90, 10 * KEPT)
    assert subject.power(UUID).bare_mw == 90_000


def test_held_power_below_bare_power_lowers_the_bare_figure() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 120, 15)
    watch(subject, "held", 100, 15)
    assert subject.power(UUID) == StaticPower(100_000, 0)


def test_without_bare_observations_all_of_held_power_is_the_contexts() -> None:
    subject = StaticPowers()
    watch(subject, "held", 115, 15)
    assert subject.power(UUID) == StaticPower(None, 115_000)
    assert not subject.power(UUID).calibrated


def test_what_was_learned_survives_a_restart_and_stays_small() -> None:
    subject = StaticPowers()
    watch(subject, "bare", 70, 10_000)
    watch(subject, "held", 115, 10_000)
    assert len(subject.encoded[UUID]) < 1_024
    assert StaticPowers(subject.encoded).power(UUID) == StaticPower(70_000, 45_000)


def test_what_cannot_be_read_is_learned_anew_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        subject = StaticPowers({UUID: b"\x00nonsense", "GPU-2": b'{"bare_mw":[70000]}'})
    assert subject.power(UUID) == StaticPower()
    assert subject.power("GPU-2").bare_mw == 70_000
    assert f"{UUID}: the learned idle power cannot be read" in caplog.text
