"""The arithmetic of a split against its closed forms."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from agent.attribution.sharing import Claim, Owed, Part, Parts, Place, by_cause, by_slices, by_use
from agent.attribution.static_power import StaticPower
from agent.units import NS_PER_S

NOBODY, UNKNOWN = ("__idle__",), ("__unattributed__",)
A, B, C = ("a",), ("b",), ("c",)
POWER = StaticPower(70_000, 45_000)
AMOUNT = st.integers(0, 10**7)


def mj(parts: list[Part]) -> dict[tuple[str, str], int]:
    return {(part.uuid, part.workload[0]): part.energy_mj for part in parts}


def ns(parts: list[Part]) -> dict[tuple[str, str], int]:
    return {(part.uuid, part.workload[0]): part.gpu_ns for part in parts}


def test_a_second_at_300_watts_is_70_bare_45_context_185_dynamic() -> None:
    assert by_cause(300_000, NS_PER_S, POWER, 2, Owed()) == (Parts(70_000, 45_000, 185_000), Owed())


def test_contexts_cost_for_as_long_as_somebody_is_there() -> None:
    assert by_cause(300_000, NS_PER_S, POWER, 1, Owed())[0] == Parts(70_000, 22_500, 207_500)
    assert by_cause(300_000, NS_PER_S, POWER, 0, Owed())[0] == Parts(70_000, 0, 230_000)


def test_what_is_not_known_is_in_the_dynamic_part() -> None:
    assert by_cause(300_000, NS_PER_S, StaticPower(), 2, Owed())[0] == Parts(0, 0, 300_000)
    assert by_cause(300_000, NS_PER_S, StaticPower(70_000), 2, Owed())[0] == Parts(70_000, 0, 230_000)
    assert by_cause(300_000, NS_PER_S, StaticPower(None, 115_000), 2, Owed())[0] == Parts(0, 115_000, 185_000)


def test_a_counter_that_moves_every_other_tick_books_the_static_parts_all_the_same() -> None:
    owed, sums = Owed(), [0, 0, 0]
    for tick in range(1_000):
        parts, owed = by_cause(60_000 if tick % 2 else 0, NS_PER_S // 10, POWER, 2, owed)
        for i, part in enumerate((parts.bare_mj, parts.context_mj, parts.dynamic_mj)):
            sums[i] += part
    assert sums == [7_000_000, 4_500_000, 30_000_000 - 11_500_000]


def test_no_fraction_of_a_millijoule_is_lost_to_rounding() -> None:
    owed, bare_mj = Owed(), 0
    for _ in range(3_000):
        parts, owed = by_cause(50, NS_PER_S // 3_000, StaticPower(70_000), 2, owed)
        bare_mj += parts.bare_mj
    assert abs(bare_mj - 70_000) <= 1


def test_what_a_device_did_not_draw_is_owed_for_two_seconds_only() -> None:
    owed = Owed()
    for _ in range(100):
        _, owed = by_cause(0, NS_PER_S, POWER, 2, owed)
    assert by_cause(10**7, NS_PER_S, POWER, 2, owed)[0].bare_mj == 70_000 * 3


def test_contexts_are_split_equally_and_work_in_proportion() -> None:
    claims = [Claim(A, "sampled", 2, 90), Claim(B, "sampled", 2, 10), Claim(C, "sampled", 2, 0)]
    parts = by_use("G", Parts(70_000, 45_000, 100_000), NS_PER_S, 2, claims, NOBODY)
    assert mj(parts) == {("G", "a"): 105_000, ("G", "b"): 25_000, ("G", "c"): 15_000, ("G", "__idle__"): 70_000}


def test_hours_are_the_holders_and_go_by_what_they_caused() -> None:
    claims = [Claim(A, "sampled", 2, 1), Claim(B, "sampled", 2, 0)]
    parts = by_use("G", Parts(70_000, 40_000, 60_000), NS_PER_S, 2, claims, NOBODY)
    assert ns(parts) == {("G", "a"): NS_PER_S * 80 // 100, ("G", "b"): NS_PER_S * 20 // 100, ("G", "__idle__"): 0}


def test_the_only_holder_has_every_hour_whatever_the_bare_part() -> None:
    parts = by_use("G", Parts(70_000, 0, 0), NS_PER_S, 2, [Claim(A, "sole", 2, 0)], NOBODY)
    assert ns(parts) == {("G", "a"): NS_PER_S, ("G", "__idle__"): 0}
    assert mj(parts) == {("G", "a"): 0, ("G", "__idle__"): 70_000}


def test_half_an_interval_held_is_half_an_hour_idle() -> None:
    parts = by_use("G", Parts(0, 0, 500), NS_PER_S, 1, [Claim(A, "sole", 1, 0)], NOBODY)
    assert ns(parts) == {("G", "a"): NS_PER_S // 2, ("G", "__idle__"): NS_PER_S // 2}


def place(uuid: str, slices: int, use: float | None = None, **owners: int) -> Place:
    return Place(uuid, slices, {(name,): halves for name, halves in owners.items()}, 2 if owners else 0, use)


def divide(parts: Parts, *places: Place, bare_known: bool = True) -> list[Part]:
    return by_slices(places, parts, 7_000, bare_known=bare_known, nobody=NOBODY, unknown=UNKNOWN)


def test_bare_energy_and_time_go_by_slices_and_work_by_use() -> None:
    parts = divide(Parts(70, 20, 100), place("3", 3, 0.0, a=2), place("4", 4, 0.5, b=2))
    assert mj(parts) == {("3", "a"): 10, ("3", "__idle__"): 30, ("4", "b"): 110, ("4", "__idle__"): 40}
    assert ns(parts) == {("3", "a"): 3_000, ("3", "__idle__"): 0, ("4", "b"): 4_000, ("4", "__idle__"): 0}


def test_use_counts_for_as_much_as_the_instance_is_large() -> None:
    parts = divide(Parts(0, 0, 700), place("3", 3, 0.5, a=2), place("4", 4, 0.5, b=2))
    assert mj(parts) == {("3", "a"): 300, ("4", "b"): 400}


def test_without_gpm_work_goes_by_the_slices_that_are_held() -> None:
    parts = divide(Parts(70, 0, 100), place("3", 3, None, a=2), place("2", 2), place("G", 2))
    assert mj(parts) == {("3", "a"): 100, ("3", "__idle__"): 30, ("2", "__idle__"): 20, ("G", "__idle__"): 20}
    assert ns(parts) == {("3", "a"): 3_000, ("3", "__idle__"): 0, ("2", "__idle__"): 2_000, ("G", "__idle__"): 2_000}


def test_one_instance_that_does_not_tell_its_use_leaves_all_to_slices() -> None:
    parts = divide(Parts(0, 0, 700), place("3", 3, 0.9, a=2), place("4", 4, None, b=2))
    assert mj(parts) == {("3", "a"): 300, ("4", "b"): 400}


def test_as_long_as_bare_power_is_unknown_everything_goes_by_slices_used_or_not() -> None:
    parts = divide(Parts(0, 0, 700), place("3", 3, None, a=2), place("4", 4), bare_known=False)
    assert mj(parts) == {("3", "a"): 300, ("4", "__idle__"): 400}


def test_a_busy_instance_without_a_process_is_unattributed() -> None:
    parts = divide(Parts(70, 0, 100), place("3", 3, 0.0, a=2), place("4", 4, 0.5))
    assert mj(parts) == {("3", "a"): 0, ("3", "__idle__"): 30, ("4", "__unattributed__"): 100, ("4", "__idle__"): 40}


@given(AMOUNT, AMOUNT, AMOUNT, st.integers(0, 2),
       st.lists(st.tuples(st.integers(0, 6), st.integers(0, 600)), min_size=1, max_size=8))
def test_each_is_within_a_millijoule_of_its_exact_part(
        bare_mj: int, context_mj: int, dynamic_mj: int, held: int, claims: list[tuple[int, int]]) -> None:
    given_ = [Claim((str(i),), "sampled", halves, busy) for i, (halves, busy) in enumerate(claims)]
    parts = by_use("G", Parts(bare_mj, context_mj, dynamic_mj), NS_PER_S, held, given_, NOBODY)
    assert sum(part.energy_mj for part in parts) == bare_mj + context_mj + dynamic_mj
    assert sum(part.gpu_ns for part in parts) == NS_PER_S
    halves, busy = sum(h for h, _ in claims), sum(b for _, b in claims)
    if halves and busy:
        for part, (half, own) in zip(parts, claims, strict=False):
            exact = Fraction(context_mj * half, halves) + Fraction(dynamic_mj * own, busy)
            assert abs(part.energy_mj - exact) < 1


@given(AMOUNT, AMOUNT, AMOUNT, st.booleans(), st.lists(
    st.tuples(st.integers(1, 7), st.none() | st.floats(0, 1), st.lists(st.integers(1, 4), max_size=3), st.integers(1, 2)),
    min_size=1, max_size=7))
def test_instances_always_sum_to_their_gpu(
        bare_mj: int, context_mj: int, dynamic_mj: int, known: bool,
        rows: list[tuple[int, float | None, list[int], int]]) -> None:
    places = [Place(f"MIG-{i}", slices, {(str(j),): h for j, h in enumerate(halves)}, held if halves else 0, use)
              for i, (slices, use, halves, held) in enumerate(rows)]
    parts = by_slices(places, Parts(bare_mj, context_mj, dynamic_mj), NS_PER_S, bare_known=known, nobody=NOBODY,
                      unknown=UNKNOWN)
    assert sum(part.energy_mj for part in parts) == bare_mj + context_mj + dynamic_mj
    assert sum(part.gpu_ns for part in parts) == NS_PER_S
    keys = [(part.uuid, part.workload) for part in parts]
    assert len(set(keys)) == len(keys)
