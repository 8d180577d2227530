"""Every millijoule and nanosecond of an interval has exactly one owner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.attribution import Attribution, instances_by_parent
from agent.model import IDLE, UNATTRIBUTED, ProcessFacts, ProcessUse, Share, UtilizationSample, Workload
from agent.units import NS_PER_S
from tests.agent.records import BOOT_NS, KEYS, UUID, device, interval, reading

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


def test_facts_of_the_departed_are_forgotten() -> None:
    subject = attribution()
    for round_ in range(30):
        started = tuple(ProcessFacts(pid=n, start_ticks=round_, environ={"FINOPS_PROJECT": "a"}) for n in range(1_000))
        subject.learn(reading(BOOT_NS, started=started))
    assert subject.remembered <= 21_000
