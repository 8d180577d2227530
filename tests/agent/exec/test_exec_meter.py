"""What is one command's: by readings made by hand, in whole millijoules."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.exec.meter import CommandMeter, merge
from agent.exec.report import answer, document, lines
from agent.model import ProcessFacts, ProcessUse, Reading, UtilizationSample
from agent.pricing.pricing import Pricing
from agent.settings import Hardware
from agent.tags.session import ID_VARIABLE
from agent.units import MJ_PER_KWH, NS_PER_S
from tests.agent.records import BOOT_NS, UUID, device, reading
from tests.agent.tariffs.price_walk import read

MINE, CHILD, ORPHAN, OTHER = (ProcessUse(pid, pid * 10, 1 << 30) for pid in (41, 42, 43, 99))
PARENTS: Mapping[int, int] = {43: 40, 40: 41, 41: 1, 99: 1}
RENTED = (Hardware(gpu="*", rent_per_gpu_hour=Decimal("3.6"), currency="EUR"),)      # 0.001 a second


def facts(process: ProcessUse, session: str = "", parent_pid: int = 1) -> ProcessFacts:
    environ = {ID_VARIABLE: session} if session else {}
    return ProcessFacts(pid=process.pid, start_ticks=process.start_ticks, parent_pid=parent_pid, environ=environ)


STARTED = (facts(MINE), facts(CHILD, "outer/me/inner"), facts(ORPHAN, parent_pid=40), facts(OTHER, "notme"))


def meter() -> CommandMeter:
    return CommandMeter("me", Pricing(None, "", Decimal(1), RENTED, None, {}), lambda pid: PARENTS.get(pid, 0))


def look(second: float, energy_mj: int, *processes: ProcessUse, samples: tuple[tuple[int, int], ...] = (),
         started: tuple[ProcessFacts, ...] = STARTED) -> Reading:
    at_ns = BOOT_NS + int(second * NS_PER_S)
    rows = tuple(UtilizationSample(pid, int(second * 1e6), percent) for pid, percent in samples)
    return reading(at_ns, device(at_ns, energy_mj=energy_mj, processes=processes, utilization_samples=rows),
                   sequence=int(second * 100), started=started)


def used(*looks: Reading, end_s: float) -> CommandMeter:
    command = meter()
    command.advance(looks[0])
    command.started(MINE.pid, looks[0].boottime_ns)
    end_ns = BOOT_NS + int(end_s * NS_PER_S)
    for before, later in pairwise(looks):
        if before.boottime_ns < end_ns <= later.boottime_ns:
            command.ended(end_ns)
        command.advance(later)
    command.close_window()
    return command


def test_a_device_with_nobody_else_is_the_commands_from_the_first_to_the_last_reading() -> None:
    command = used(look(0, 1000), look(0.05, 6000, MINE), look(0.3, 31_000, CHILD, ORPHAN), look(0.4, 41_000), end_s=0.35)
    use = command.devices[UUID]
    assert (use.own.energy_mj, use.whole.energy_mj, use.seen, use.others) == (40_000, 40_000, True, set())
    assert use.own.gpu_ns == 350_000_000                # what a counter shows late takes no time
    assert use.own.costs == {("rent", "EUR"): 350_000, ("energy", "EUR"): 0}


def test_what_was_used_before_the_start_is_not_the_commands() -> None:
    command = meter()
    for early in (look(0, 0), look(5, 900_000)):
        command.advance(early)
    command.started(MINE.pid, BOOT_NS + 5 * NS_PER_S)
    command.advance(look(6, 910_000, MINE))
    command.close_window()
    assert command.devices[UUID].own.energy_mj == 10_000


def test_a_device_with_others_is_split_by_the_drivers_samples_over_a_second() -> None:
    shares = ((MINE.pid, 30), (OTHER.pid, 60))
    looks = [look(0, 0, OTHER), look(0.01, 0, MINE, OTHER)]
    looks += [look(s / 4, s * 1500, MINE, OTHER, samples=shares if s % 2 else ()) for s in range(1, 9)]
    use = used(*looks, end_s=9).devices[UUID]
    assert use.whole.energy_mj == 12_000
    assert use.own.energy_mj == 4_000
    assert use.splits.keys() == {"sampled"}
    assert use.others == {OTHER.pid}


def test_processes_are_told_by_session_and_by_descent_and_those_of_a_session_around_are_not_ours() -> None:
    command = used(look(0, 0), look(1, 1, CHILD, ORPHAN, OTHER), end_s=1)
    assert command.devices[UUID].others == {OTHER.pid}
    assert command.still_there() == 2


def test_merging_keeps_every_process_and_sample_once() -> None:
    whole = merge([look(0, 5, MINE, samples=((41, 1),)), look(1, 6, CHILD, samples=((42, 2),)), look(2, 7)])
    (seen,) = whole.devices
    assert (seen.energy_mj, seen.processes) == (7, (MINE, CHILD))
    assert [row.pid for row in seen.utilization_samples] == [41, 42]


def test_a_gap_is_told_and_a_device_without_any_energy_does_not_count() -> None:
    at_ns = [BOOT_NS, BOOT_NS + NS_PER_S]
    command = meter()
    command.advance(reading(at_ns[0], device(at_ns[0])))
    command.started(MINE.pid, at_ns[0])
    command.advance(reading(at_ns[1], device(at_ns[1], processes=(MINE,)), sequence=1, started=STARTED))
    command.close_window()
    found = answer(tags={"project": "p"}, command=["c"], exit_status=0, duration_ns=NS_PER_S, devices=command.devices,
                   chosen=None, simulated=False, notes=["why"])
    assert found.certainty == "none"
    assert lines(found) == ("gpu-finops exec: project=p: 1.000 s, exit status 0\n"
                            "gpu-finops exec: no GPU energy was measured\ngpu-finops exec: why\n")
    assert '"energy_joules": null' in document(found)


def tiered(directory: Path) -> Pricing:
    """1 for the first 1.5 kWh of a month, then 10."""
    tariff = read(directory, """timezone = "UTC"\ntier_period = "month"
        rates = { base = [{ upto = 1.5, price = 1 }, { price = 10 }] }\nrule = [{ rate = "base" }]""")
    return Pricing(tariff, "t", Decimal(1), (), None, {})


def test_a_command_alone_climbs_the_tiers_once(tmp_path: Path) -> None:
    command = CommandMeter("me", tiered(tmp_path), lambda pid: PARENTS.get(pid, 0), own_pricing=tiered(tmp_path))
    command.advance(powerful(0, 0, MINE))
    command.started(MINE.pid, BOOT_NS)
    for second in (5, 10):                               # a kWh each
        command.advance(powerful(second, second * MJ_PER_KWH // 5, MINE))
        command.close_window()
    use = command.devices[UUID]
    assert use.own.costs == use.whole.costs == {("energy", "EUR"): 1_500_000_000 + 5_000_000_000}


def test_a_commands_part_climbs_the_tiers_by_itself(tmp_path: Path) -> None:
    """What others use of the device is in the device's figure; the command's own is priced apart from it."""
    command = CommandMeter("me", tiered(tmp_path), lambda pid: PARENTS.get(pid, 0), own_pricing=tiered(tmp_path))
    shares = ((MINE.pid, 30), (OTHER.pid, 30))
    command.advance(powerful(0, 0, MINE, OTHER))
    command.started(MINE.pid, BOOT_NS)
    for second in (5, 10):                               # 2 kWh each, half of them the command's
        command.advance(powerful(second, second * 2 * MJ_PER_KWH // 5, MINE, OTHER, samples=shares))
        command.close_window()
    use = command.devices[UUID]
    assert use.own.costs == {("energy", "EUR"): 1_500_000_000 + 5_000_000_000}
    assert use.whole.costs == {("energy", "EUR"): 1_500_000_000 + 25_000_000_000}


def powerful(second: float, energy_mj: int, *processes: ProcessUse, samples: tuple[tuple[int, int], ...] = ()) -> Reading:
    """A device that may use a kWh in seconds."""
    made = look(second, energy_mj, *processes, samples=samples)
    return replace(made, devices=tuple(replace(one, power_limit_mw=10**10) for one in made.devices))


@pytest.mark.parametrize(("listed", "certainty"), [(True, "measured"), (False, "upper bound")])
def test_a_chosen_device_whose_processes_are_not_told_is_an_upper_bound(listed: bool, certainty: str) -> None:
    """Nobody is seen on either; only where the driver tells of everybody does that mean that nobody else was there."""
    looks = [look(second, second * 1_000) for second in (0, 1, 2)]
    if not listed:
        looks = [replace(one, devices=tuple(replace(gpu, processes=None) for gpu in one.devices)) for one in looks]
    command = used(*looks, end_s=2)
    found = answer(tags={}, command=["c"], exit_status=0, duration_ns=2 * NS_PER_S, devices=command.devices,
                   chosen=frozenset({UUID}), simulated=False, notes=[])
    assert (found.certainty, found.total.energy_mj) == (certainty, 2_000)
