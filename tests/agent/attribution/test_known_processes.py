"""Facts are kept while they are needed, and not longer."""

from __future__ import annotations

from agent.attribution.known_processes import KEPT_READINGS, MAX_ABSENT, RECENT_READINGS, KnownProcesses
from agent.model import ProcessFacts, ProcessUse
from tests.agent.records import BOOT_NS, device, reading


def told(*processes: tuple[int, int], command: str = "") -> tuple[ProcessFacts, ...]:
    return tuple(ProcessFacts(pid=pid, start_ticks=start, command=command) for pid, start in processes)


def look(subject: KnownProcesses, *present: tuple[int, int], started: tuple[ProcessFacts, ...] = ()) -> list[tuple[int, int]]:
    uses = tuple(ProcessUse(pid, start, None) for pid, start in present)
    return subject.learn(reading(BOOT_NS, device(BOOT_NS, processes=uses), started=started))


def test_facts_stay_while_the_process_does_and_go_a_while_after() -> None:
    subject = KnownProcesses()
    look(subject, (1, 1), started=told((1, 1)))
    for _ in range(1_000):
        assert look(subject, (1, 1)) == []
    gone = [look(subject) for _ in range(KEPT_READINGS + 1)]
    assert gone[-1] == []
    assert look(subject) == [(1, 1)]
    assert subject.facts((1, 1)) is None
    assert len(subject) == 0


def test_a_process_that_comes_back_is_kept() -> None:
    subject = KnownProcesses()
    look(subject, (1, 1), started=told((1, 1)))
    for _ in range(KEPT_READINGS - 1):
        look(subject)
    look(subject, (1, 1))
    for _ in range(KEPT_READINGS - 1):
        assert look(subject) == []
    assert subject.facts((1, 1)) is not None


def test_a_pid_is_its_last_process_for_a_short_while() -> None:
    subject = KnownProcesses()
    look(subject, (1, 1), started=told((1, 1)))
    look(subject, (1, 8), started=told((1, 8)))
    assert subject.recent(1) == (1, 8)
    for _ in range(RECENT_READINGS + 1):
        look(subject)
    assert subject.recent(1) == (1, 8)
    look(subject)
    assert subject.recent(1) is None
    assert subject.recent(2) is None


def test_a_process_that_has_ended_is_not_taken_for_another() -> None:
    subject = KnownProcesses()
    look(subject, (1, 5), started=told((1, 5)))
    look(subject, started=told((1, 0)))          # the probe found nobody there any more
    assert subject.recent(1) == (1, 5)


def test_ten_thousand_short_processes_leave_nothing() -> None:
    subject = KnownProcesses()
    forgotten = 0
    for tick in range(1_000):
        keys = [(tick * 10 + n, tick) for n in range(10)]
        forgotten += len(look(subject, *keys, started=told(*keys)))
        assert len(subject) <= 10 * (KEPT_READINGS + 2)
    for _ in range(KEPT_READINGS + 2):
        forgotten += len(look(subject))
    assert (len(subject), forgotten, subject.recent(9_999)) == (0, 10_000, None)


def test_a_flood_is_capped_and_the_present_are_not_forgotten() -> None:
    subject = KnownProcesses()
    here = [(10**6 + n, 1) for n in range(100)]
    look(subject, *here, started=told(*here))
    for tick in range(20):
        keys = [(tick * 1_000 + n, tick) for n in range(1_000)]
        look(subject, *here, *keys, started=told(*keys))
        assert len(subject) <= MAX_ABSENT + 1_100
    assert all(subject.facts(key) is not None for key in here)


def test_mps_servers_are_known_by_their_program() -> None:
    subject = KnownProcesses()
    look(subject, (1, 1), (2, 2), started=told((1, 1), command="/usr/bin/nvidia-cuda-mps-server -v")
         + told((2, 2), command="python watch.py nvidia-cuda-mps-server"))
    assert subject.mps_servers == {(1, 1)}
