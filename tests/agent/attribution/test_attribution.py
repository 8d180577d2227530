"""Every millijoule and nanosecond of an interval has exactly one owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.attribution.attribution import Attribution, instances_by_parent
from agent.model import (
    IDLE,
    UNATTRIBUTED,
    AccountingUse,
    DeviceReading,
    ProcessFacts,
    ProcessUse,
    Share,
    UtilizationSample,
    Workload,
)
from agent.units import NS_PER_S, split_integer
from tests.agent.records import BOOT_NS, KEYS, NOON_NS, UUID, device, interval, reading

IDLE_WORKLOAD = (IDLE, "", "", "")
NOBODY = (UNATTRIBUTED, "", "", "")


def owner(name: str) -> Workload:
    return (name, "", "", "")


def by_environment(facts: ProcessFacts | None, uuid: str, name: str) -> Workload:
    return owner(facts.environ["FINOPS_PROJECT"]) if facts is not None else NOBODY


def attribution(**projects_by_pid: str) -> Attribution:
    """An attribution that knows processes p1, p2 ... (started at tick 1) by their projects."""
    subject = Attribution(by_environment, KEYS)
    facts = tuple(ProcessFacts(pid=int(pid[1:]), start_ticks=1, environ={"FINOPS_PROJECT": project})
                  for pid, project in projects_by_pid.items())
    subject.learn(reading(BOOT_NS, started=facts))
    return subject


def uses(*pids: int) -> tuple[ProcessUse, ...]:
    return tuple(ProcessUse(pid, 1, None) for pid in pids)


STATES = {state: {UUID: state} for state in ("unallocated", "unknown", "active")}


def energies(shares: tuple[Share, ...]) -> dict[str, int]:
    return {share.workload[0]: share.energy_mj for share in shares}


def test_an_empty_device_is_idle() -> None:
    (share,) = attribution().split(interval(1_000), device(BOOT_NS), (), STATES["unallocated"])
    assert (share.workload, share.energy_mj, share.gpu_ns, share.method) == (IDLE_WORKLOAD, 1_000, NS_PER_S, "idle")
    assert share.state == "unallocated"


def test_a_device_that_does_not_say_who_is_on_it_is_not_idle() -> None:
    (share,) = attribution().split(interval(1_000), device(BOOT_NS, processes=None), (), STATES["unknown"])
    assert share.workload == NOBODY


def test_the_only_workload_takes_all() -> None:
    (share,) = attribution(p1="a", p2="a").split(interval(1_001), device(BOOT_NS, processes=uses(1, 2)), (), STATES["active"])
    assert (share.workload[0], share.energy_mj, share.method) == ("a", 1_001, "sole")


def test_samples_decide_between_several() -> None:
    samples = (UtilizationSample(1, 10, 90), UtilizationSample(2, 10, 5), UtilizationSample(2, 20, 5))
    one = device(BOOT_NS, processes=uses(1, 2), utilization_samples=samples)
    shares = attribution(p1="a", p2="b").split(interval(1_000), one, (), STATES["active"])
    assert energies(shares) == {"a": 900, "b": 100}
    assert {share.method for share in shares} == {"sampled"}


def test_without_samples_several_share_equally_by_process() -> None:
    one = device(BOOT_NS, processes=uses(1, 2, 3))
    shares = attribution(p1="a", p2="a", p3="b").split(interval(1_000), one, (), STATES["active"])
    assert energies(shares) == {"a": 667, "b": 333}
    assert {share.method for share in shares} == {"equal"}


def test_a_process_of_unknown_facts_is_unattributed_and_a_reused_pid_is_unknown() -> None:
    reused = (ProcessUse(1, 99, None),)
    (share,) = attribution(p1="a").split(interval(1_000), device(BOOT_NS, processes=reused), (), STATES["active"])
    assert share.workload == NOBODY


def test_time_that_nobody_watched_names_nobody() -> None:
    one = device(BOOT_NS, processes=uses(1))
    (share,) = attribution(p1="a").split(interval(1_000, bridged=True), one, (), STATES["active"])
    assert (share.workload, share.energy_mj, share.method) == (NOBODY, 1_000, "unwatched")


def test_a_gap_in_an_interval_is_time_without_energy() -> None:
    one = device(BOOT_NS, processes=uses(1))
    shares = attribution(p1="a").split(interval(500, 10 * NS_PER_S, gap_ns=8 * NS_PER_S), one, (), STATES["active"])
    assert [(s.workload[0], s.energy_mj, s.gpu_ns) for s in shares] == [
        ("a", 500, 2 * NS_PER_S), (UNATTRIBUTED, 0, 8 * NS_PER_S)]


def test_mig_instances_split_their_parent_by_slices() -> None:
    parent = device(BOOT_NS, uuid="GPU-p")
    parts = [device(BOOT_NS, uuid="MIG-3", parent_uuid="GPU-p", mig_slices=3, processes=uses(1)),
             device(BOOT_NS, uuid="MIG-4", parent_uuid="GPU-p", mig_slices=4, processes=())]
    assert [d.uuid for d in instances_by_parent(reading(BOOT_NS, parent, *parts))["GPU-p"]] == ["MIG-3", "MIG-4"]
    shares = attribution(p1="a").split(interval(7_000), parent, parts, STATES["active"])
    assert energies(shares) == {"a": 3_000, IDLE: 4_000}
    assert {share.workload[0]: share.uuid for share in shares} == {"a": "MIG-3", IDLE: "MIG-4"}


@given(
    st.integers(0, 10**7), st.integers(1, 10 * NS_PER_S), st.integers(0, 10 * NS_PER_S), st.booleans(),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 100)), max_size=30), st.lists(st.integers(1, 6), unique=True))
def test_shares_always_sum_to_the_interval(
        energy_mj: int, elapsed_ns: int, gap_ns: int, bridged: bool, rows: list[tuple[int, int]], pids: list[int]) -> None:
    samples = tuple(UtilizationSample(pid, i, percent) for i, (pid, percent) in enumerate(rows))
    one = device(BOOT_NS, processes=uses(*pids), utilization_samples=samples)
    whole = interval(energy_mj, elapsed_ns, gap_ns=min(gap_ns, elapsed_ns), bridged=bridged)
    shares = attribution(p1="a", p2="b", p3="a", p4="c").split(whole, one, (), STATES["active"])
    assert sum(share.energy_mj for share in shares) == energy_mj
    assert sum(share.gpu_ns for share in shares) == elapsed_ns


class Watch:
    """One device, a second at a time, through one attribution."""

    def __init__(self, subject: Attribution, uuid: str = UUID) -> None:
        self.subject, self.uuid, self.at_ns = subject, uuid, BOOT_NS

    def second(self, energy_mj: int, *instances: DeviceReading, states: Mapping[str, str] | None = None,
               started: tuple[ProcessFacts, ...] = (), seconds: int = 1, **fields: Any) -> tuple[Share, ...]:
        self.at_ns += NS_PER_S
        one = device(self.at_ns, self.uuid, **fields)
        self.subject.learn(reading(self.at_ns, one, *instances, started=started))
        end_utc_ns = NOON_NS + self.at_ns - BOOT_NS
        whole = interval(energy_mj, uuid=self.uuid, start_utc_ns=end_utc_ns - NS_PER_S)
        shares = self.subject.split(whole, one, instances, states or {})
        assert sum(share.energy_mj for share in shares) == energy_mj
        assert sum(share.gpu_ns for share in shares) == NS_PER_S
        return shares

    def calibrate(self, pid: int = 1) -> None:
        """See the device bare at 70 W, then parked on by a process at 115 W."""
        for _ in range(15):
            self.second(70_000, utilization_ratio=0.0)
        for _ in range(16):
            self.second(115_000, processes=uses(pid), utilization_ratio=0.0)

    def life(self, pid: int, running_ms: int, percent: int) -> AccountingUse:
        """What accounting says of a process that began in the second to come."""
        return AccountingUse(pid, 1, (NOON_NS + self.at_ns - BOOT_NS) // 1_000, running_ms, percent, None)

    def rows(self, *rows: tuple[int, int]) -> tuple[UtilizationSample, ...]:
        """(PID, percent) rows of the second to come."""
        end_us = (NOON_NS + self.at_ns - BOOT_NS + NS_PER_S) // 1_000
        return tuple(UtilizationSample(pid, end_us - 166_667 * i, percent) for i, (pid, percent) in enumerate(rows))


def methods(shares: tuple[Share, ...]) -> dict[str, str]:
    return {share.workload[0]: share.method for share in shares}


def test_once_learned_bare_power_is_idle_and_the_rest_is_the_holders() -> None:
    watch = Watch(attribution(p1="a"))
    assert not watch.second(300_000, processes=uses(1), utilization_ratio=0.9)[0].calibrated
    watch.calibrate()
    shares = watch.second(300_000, processes=uses(1), utilization_ratio=0.9)
    assert energies(shares) == {"a": 230_000, IDLE: 70_000}
    assert methods(shares) == {"a": "sole", IDLE: "idle"}
    assert {share.workload[0]: share.gpu_ns for share in shares} == {"a": NS_PER_S, IDLE: 0}
    assert all(share.calibrated for share in shares)
    assert watch.subject.context_power_mw == {UUID: 115_000}


def test_what_was_learned_is_known_to_the_next_attribution() -> None:
    watch = Watch(attribution(p1="a"))
    watch.calibrate()
    again = Attribution(by_environment, KEYS, watch.subject.learned)
    assert again.static_power(UUID) == watch.subject.static_power(UUID)
    assert again.static_power(UUID).calibrated


def test_a_reload_keeps_facts_and_what_was_learned() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.calibrate()
    again = Attribution(by_environment, KEYS)
    again.remember(watch.subject)
    watch.subject = again
    shares = watch.second(300_000, processes=uses(1, 2), utilization_samples=watch.rows((1, 100)))
    assert energies(shares) == {"a": 185_000 + 22_500 + 7_500, "b": 15_000, IDLE: 70_000}


def test_what_a_holder_left_owing_is_not_asked_of_the_next() -> None:
    watch = Watch(attribution(p1="a"))
    watch.calibrate()
    for _ in range(3):
        watch.second(0, processes=uses(1))                       # the counter stands still
    watch.second(0)
    watch.second(400_000)                                        # nobody is there, and all of it is idle power
    shares = watch.second(300_000, processes=uses(1))
    assert energies(shares) == {"a": 230_000, IDLE: 70_000}


def test_a_parked_process_pays_for_its_context_and_nothing_else() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.calibrate()
    watch.second(300_000, processes=uses(1, 2), utilization_samples=watch.rows((1, 100)))
    shares = watch.second(300_000, processes=uses(1, 2), utilization_samples=watch.rows((1, 100)))
    assert energies(shares) == {"a": 207_500, "b": 22_500, IDLE: 70_000}


def test_samples_that_are_late_leave_the_last_ones_standing_for_three_seconds() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.second(100_000, processes=uses(1, 2), utilization_samples=watch.rows((1, 90), (2, 10)))
    for _ in range(3):
        shares = watch.second(100_000, processes=uses(1, 2))
        assert (energies(shares), methods(shares)["a"]) == ({"a": 90_000, "b": 10_000}, "sampled")
    shares = watch.second(100_000, processes=uses(1, 2))
    assert (energies(shares), methods(shares)["a"]) == ({"a": 50_000, "b": 50_000}, "equal")


def test_a_driver_that_takes_no_samples_leaves_none_standing() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.second(100_000, processes=uses(1, 2), utilization_samples=watch.rows((1, 90), (2, 10)))
    shares = watch.second(100_000, processes=uses(1, 2), errors={"utilization_samples": "Not Supported"})
    assert methods(shares) == {"a": "equal", "b": "equal"}


def test_work_of_a_process_that_has_gone_stays_its_own() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.second(1_000, processes=uses(1, 2))
    shares = watch.second(100_000, processes=uses(1), utilization_samples=watch.rows((1, 20), (2, 80)))
    assert energies(shares) == {"a": 20_000, "b": 80_000}
    watch.second(1_000)
    shares = watch.second(100_000, utilization_samples=watch.rows((2, 80)))
    assert (energies(shares), methods(shares)) == ({"b": 100_000, IDLE: 0}, {"b": "sole", IDLE: "idle"})
    assert {share.workload[0]: share.gpu_ns for share in shares} == {"b": NS_PER_S // 2, IDLE: NS_PER_S // 2}


def test_work_of_a_process_never_seen_is_nobodys_by_name() -> None:
    watch = Watch(attribution(p1="a"))
    shares = watch.second(100_000, processes=uses(1), utilization_samples=watch.rows((1, 50), (77, 50)))
    assert energies(shares) == {"a": 50_000, UNATTRIBUTED: 50_000}


def test_accounting_names_a_process_between_two_samples() -> None:
    """Half a second at 100 %, beside one that was at 100 % for all of it: where a row is the mean of the second."""
    watch = Watch(attribution(p1="a", p3="c"))
    lives = (watch.life(3, 500, 100),)
    shares = watch.second(90_000, processes=uses(1), utilization_samples=watch.rows((1, 100)), accounting=lives)
    assert energies(shares) == {"a": 60_000, "c": 30_000}
    assert methods(shares) == {"a": "sampled", "c": "accounting"}


def test_where_a_row_is_a_look_half_a_second_is_three_of_them() -> None:
    watch = Watch(attribution(p1="a", p3="c"))
    watch.second(1_000, processes=uses(1), utilization_samples=watch.rows((1, 100), (1, 100)))     # so it is known
    lives = (watch.life(3, 500, 100),)
    shares = watch.second(100_000, processes=uses(1), utilization_samples=watch.rows((1, 100)), accounting=lives)
    assert energies(shares) == {"a": 25_000, "c": 75_000}


def test_accounting_alone_does_not_outbid_those_of_whom_nothing_is_told() -> None:
    watch = Watch(attribution(p1="a", p3="c"))
    lives = (watch.life(3, 500, 100),)
    unsupported = {"utilization_samples": "Not Supported"}
    shares = watch.second(90_000, processes=uses(1), accounting=lives, errors=unsupported)
    assert energies(shares) == {"a": 60_000, "c": 30_000}        # there twice as long
    shares = watch.second(90_000, accounting=(watch.life(3, 500, 100),), errors=unsupported)
    assert methods(shares)["c"] == "equal"


def test_clients_of_an_mps_server_share_what_the_driver_says_of_the_server() -> None:
    server = ProcessFacts(pid=9, start_ticks=1, command="nvidia-cuda-mps-server", environ={"FINOPS_PROJECT": "root"})
    subject = attribution(p1="a", p2="b", p3="c")
    subject.learn(reading(BOOT_NS, started=(server,)))
    watch = Watch(subject)
    held = (*(ProcessUse(pid, 1, None, "mps") for pid in (1, 2, 3)), ProcessUse(9, 1, None))
    shares = watch.second(100_000, processes=held, utilization_samples=watch.rows((9, 60), (3, 40)))
    assert energies(shares) == {"a": 30_000, "b": 30_000, "c": 40_000}
    assert methods(shares) == {"a": "equal", "b": "equal", "c": "sampled"}


def test_an_mps_server_without_clients_is_a_process_like_others() -> None:
    server = ProcessFacts(pid=9, start_ticks=1, command="/usr/bin/nvidia-cuda-mps-server", environ={"FINOPS_PROJECT": "root"})
    subject = attribution(p1="a")
    subject.learn(reading(BOOT_NS, started=(server,)))
    assert energies(Watch(subject).second(500, processes=uses(9))) == {"root": 500}


def test_the_error_of_a_share_is_told_where_samples_tell_shares_apart() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    (alone,) = watch.second(1_000, processes=uses(1))
    assert watch.subject.share_error(alone) == 0
    for _ in range(600):
        shares = watch.second(100_000, processes=uses(1, 2), utilization_samples=watch.rows(*[(1, 50), (2, 50)] * 3))
    assert watch.subject.share_error(shares[0]) == pytest.approx(1.96 * (0.25 / 3_600) ** 0.5, rel=0.01)
    for _ in range(4):
        shares = watch.second(1_000, processes=uses(1, 2))
    assert methods(shares)["a"] == "equal"
    assert watch.subject.share_error(shares[0]) is None


def mig(at_ns: int, uuid: str, slices: int, *pids: int, **fields: Any) -> DeviceReading:
    return device(at_ns, uuid, parent_uuid=UUID, mig_slices=slices, processes=uses(*pids), **fields)


def test_instances_busy_alternately_sum_to_their_gpu_and_pay_for_their_own_work() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    for _ in range(15):
        watch.second(70_000, mig(0, "MIG-3", 3), mig(0, "MIG-4", 4), mig_slices=7)
    sums: dict[tuple[str, str], int] = {}
    for second in range(100):
        busy = second // 10 % 2
        shares = watch.second(
            470_000, mig(0, "MIG-3", 3, 1, gpm_sm_ratio=1.0 - busy), mig(0, "MIG-4", 4, 2, gpm_sm_ratio=float(busy)),
            mig_slices=7)
        for share in shares:
            key = (share.uuid, share.workload[0])
            sums[key] = sums.get(key, 0) + share.energy_mj
    assert sums == {("MIG-3", "a"): 20_000_000, ("MIG-4", "b"): 20_000_000,
                    ("MIG-3", IDLE): 3_000_000, ("MIG-4", IDLE): 4_000_000}


def test_slices_in_no_instance_stand_under_the_gpu_as_unallocated() -> None:
    watch = Watch(attribution(p1="a"))
    states = {UUID: "active", "MIG-3": "active"}
    shares = watch.second(7_000, mig(0, "MIG-3", 3, 1), mig_slices=7, states=states)
    assert [(s.uuid, s.workload[0], s.energy_mj, s.gpu_ns, s.state) for s in shares] == [
        ("MIG-3", "a", 3_000, split(3), "active"), (UUID, IDLE, 4_000, split(4), "unallocated")]


def split(slices: int) -> int:
    return split_integer(NS_PER_S, [slices, 7 - slices])[0]


def test_a_gpu_that_is_divided_anew_is_followed_at_once() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    assert energies(watch.second(700, processes=uses(1))) == {"a": 700}
    assert energies(watch.second(700, mig_slices=7)) == {"a": 700, IDLE: 0}       # who was there until then
    assert energies(watch.second(700, mig(0, "MIG-7", 7, 2), mig_slices=7)) == {"b": 700}
    shares = watch.second(700, mig(0, "MIG-3", 3, 1), mig(0, "MIG-4", 4, 2), mig_slices=7)
    assert {(share.uuid, share.workload[0]) for share in shares if share.energy_mj} == {("MIG-3", "a"), ("MIG-4", "b")}
    assert energies(watch.second(700, processes=uses(2))) == {"b": 700}


def test_an_instance_that_does_not_say_who_is_on_it_is_not_idle() -> None:
    part = device(0, "MIG-7", parent_uuid=UUID, mig_slices=7, processes=None)
    assert energies(Watch(attribution()).second(700, part, mig_slices=7)) == {UNATTRIBUTED: 700}


def test_time_between_readings_that_do_not_adjoin_is_not_taken_for_presence() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.second(1_000, processes=uses(1))
    watch.at_ns += NS_PER_S                                      # a reading in between was lost
    assert energies(watch.second(1_000, processes=uses(2))) == {"b": 1_000}


def test_facts_of_the_departed_are_forgotten() -> None:
    subject = attribution()
    for round_ in range(30):
        started = tuple(ProcessFacts(pid=n, start_ticks=round_, environ={"FINOPS_PROJECT": "a"}) for n in range(1_000))
        subject.learn(reading(BOOT_NS, started=started))
    assert subject.remembered <= 9_192


def test_accounting_that_is_told_late_has_no_part_in_what_came_after() -> None:
    watch = Watch(attribution(p1="a", p3="c"))
    life = watch.life(3, 500, 100)
    for _ in range(5):
        watch.second(100_000, processes=uses(1), utilization_samples=watch.rows((1, 100)))
    shares = watch.second(100_000, processes=uses(1), utilization_samples=watch.rows((1, 100)), accounting=(life,))
    assert energies(shares) == {"a": 100_000}


def test_a_busy_device_without_a_process_to_be_seen_is_somebodys() -> None:
    watch = Watch(attribution())
    shares = watch.second(700_000, processes=(), utilization_ratio=1.0)
    assert energies(shares) == {UNATTRIBUTED: 700_000}


def test_rows_of_a_reading_without_an_interval_count_in_the_next() -> None:
    watch = Watch(attribution(p1="a", p2="b"))
    watch.second(100_000, processes=uses(1, 2), utilization_samples=watch.rows((1, 50), (2, 50)))
    missed = device(watch.at_ns + NS_PER_S // 2, processes=uses(1, 2), utilization_samples=watch.rows((1, 90)))
    watch.subject.wait(reading(missed.boottime_ns, missed), booked=())
    shares = watch.second(100_000, processes=uses(1, 2), utilization_samples=watch.rows((2, 10)))
    assert energies(shares) == {"a": 90_000, "b": 10_000}
