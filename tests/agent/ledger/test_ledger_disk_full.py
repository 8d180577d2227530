"""A disk that is full for ten minutes: every tick is served, what waits lands, what no longer fits in memory is counted."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.idle import IdleJudge
from agent.ledger.journal import Journal
from agent.ledger.ledger import Ledger
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from agent.model import ProcessFacts, ProcessUse, Totals
from agent.pipeline import Pipeline, Stages
from agent.pricing.carbon import ConstantCarbon
from agent.pricing.pricing import Pricing
from agent.settings import Idle, Tags
from agent.tags.resolver import WorkloadResolver
from agent.units import ENERGY_COST_DENOMINATOR, MJ_PER_KWH, NANO, NS_PER_S, TIME_COST_DENOMINATOR
from tests.agent.priced import HARDWARE, tariff
from tests.agent.records import BOOT_NS, KEYS, NOON_NS, UUID, device, reading

POWER_MW = 300_000
TICKS = 600
# from 20:02 to 20:04, two minutes after the first tick, whoever uses energy is given money
RATES, RULES = "day = 1.0123, sun = -0.37", '{ rate = "sun", hours = ["20:02-20:04"] }, { rate = "day" }'
SUN_S = (119, 239)                       # seconds after the first reading, which is one after 20:00
GRAMS = 381


class HandClock:
    def __init__(self) -> None:
        self.boot_ns = BOOT_NS

    def boottime_ns(self) -> int:
        return self.boot_ns

    def monotonic_ns(self) -> int:
        return self.boot_ns

    def utc_ns(self) -> int:
        return NOON_NS + self.boot_ns - BOOT_NS


class Watched:
    """A GPU at 300 W in the pipeline, one tick a second; a process of another project each minute."""

    def __init__(self, directory: Path, flush_interval_ns: int = 5 * NS_PER_S) -> None:
        directory.mkdir(exist_ok=True)
        self.clock = HandClock()
        self.ledger = Ledger(directory / "state", NOON_NS)
        resolver = WorkloadResolver(Tags())
        self.pipeline = Pipeline(Stages(
            site="s", tag_keys=KEYS, resolver=resolver, attribution=Attribution(resolver.resolve, KEYS),
            pricing=Pricing(tariff(directory, RATES, RULES), "t", Decimal("1.0"), HARDWARE, ConstantCarbon(Decimal(GRAMS)), {}),
            idle=IdleJudge(Idle()), budgets=BudgetBook((), KEYS, "CNY", "UTC")), self.ledger, self.clock, flush_interval_ns)
        self.sequence = 0

    def tick(self) -> int:
        """One second on; the queue after it."""
        at_ns = self.clock.boot_ns = self.clock.boot_ns + NS_PER_S
        pid = 100 + self.sequence // 60
        facts = ProcessFacts(pid=pid, start_ticks=1, environ={"FINOPS_PROJECT": f"project-{pid}"})
        snapshot = self.pipeline.tick(reading(
            at_ns, device(at_ns, energy_mj=POWER_MW * (at_ns // NS_PER_S), power_mw=POWER_MW, utilization_ratio=0.9,
                          processes=(ProcessUse(pid, 1, 2**30),)), sequence=self.sequence, started=(facts,)))
        self.sequence += 1
        assert snapshot.agent.ticks == self.sequence
        assert snapshot.devices[0].up
        assert snapshot.totals is self.ledger.totals         # only what is committed is shown
        return snapshot.agent.queued_ticks


def money(ledger: Ledger) -> dict[str, Fraction]:
    """What was booked by component, less credits, with the carries of the divisions: nano-units, exact."""
    sums: dict[str, Fraction] = {}
    for key, nano in ledger.totals.cost_nano.items():
        denominator = ENERGY_COST_DENOMINATOR if key[2] == "energy" else TIME_COST_DENOMINATOR
        carried = Fraction(ledger.carries().get(key, 0), denominator)
        sums[key[2]] = sums.get(key[2], 0) + nano - ledger.totals.credit_nano.get(key, 0) + carried
    return sums


def carried(ledger: Ledger) -> dict[tuple[str, tuple[str, ...], str, str], int]:
    return {key: carry for key, carry in ledger.carries().items() if carry}


def true_money(seconds: int) -> dict[str, Fraction]:
    """300 W for so long, priced second by second, and the hours at 2.5."""
    prices = [Fraction("-0.37") if SUN_S[0] <= second < SUN_S[1] else Fraction("1.0123") for second in range(seconds)]
    return {"energy": sum(prices) * POWER_MW * NANO / MJ_PER_KWH, "hardware": Fraction(5, 2) * seconds * NANO / 3_600}


def verified(directory: Path) -> None:
    with contextlib.closing(open_for_reading(directory / "state")) as db:
        assert verify(db) == []


@contextmanager
def full_disk() -> Iterator[None]:
    """The kernel refuses every page beyond the first KiB of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)


def test_ten_minutes_without_room_lose_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for _ in range(10):
        watched.tick()
    committed = watched.ledger.totals
    with full_disk():
        queued = [watched.tick() for _ in range(TICKS)]
        assert queued == sorted(queued)
        assert queued[-1] >= TICKS
        assert watched.ledger.totals == committed
        assert not watched.pipeline.snapshot().agent.ledger_ok
    for _ in range(10):
        watched.tick()
    watched.pipeline.journal.flush(watched.clock.utc_ns())
    snapshot = watched.pipeline.snapshot()
    assert (snapshot.agent.ledger_ok, snapshot.agent.queued_ticks, snapshot.agent.dropped_ticks) == (True, 0, 0)
    seconds = 10 + TICKS + 10 - 1                            # between the first reading and the last
    assert snapshot.totals.device_energy_mj == {UUID: POWER_MW * seconds}
    projects = {workload[0] for _, workload in snapshot.totals.energy_mj}
    assert {f"project-{100 + n}" for n in range(11)} <= projects
    assert money(watched.ledger) == true_money(seconds)
    assert sum(snapshot.totals.credit_nano.values()) > 0
    carries, meters = carried(watched.ledger), watched.ledger.meters()
    watched.ledger.close()
    again = Ledger(tmp_path / "state", NOON_NS)
    assert again.totals == snapshot.totals
    assert (carried(again), again.meters()) == (carries, meters)
    again.close()
    verified(tmp_path)
    undisturbed = Watched(tmp_path / "twin")                 # the same seconds on a good disk: every counter is the same
    for _ in range(seconds + 1):
        undisturbed.tick()
    undisturbed.pipeline.journal.flush(undisturbed.clock.utc_ns())
    for field in Totals.__struct_fields__:
        assert getattr(snapshot.totals, field) == getattr(undisturbed.ledger.totals, field), field
    assert carries == carried(undisturbed.ledger)
    undisturbed.ledger.close()


def test_what_a_full_queue_drops_is_counted_and_the_counter_keeps_its_energy(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.pipeline.journal = Journal(watched.ledger, 5 * NS_PER_S, lambda batch: None, max_pending_rows=4)
    for _ in range(10):
        watched.tick()
    with full_disk():
        for _ in range(TICKS):
            watched.tick()
        stuck = watched.pipeline.snapshot().agent
    assert 0 < stuck.dropped_ticks < TICKS
    assert stuck.queued_ticks + stuck.dropped_ticks >= TICKS
    for _ in range(10):
        watched.tick()
    watched.pipeline.journal.flush(watched.clock.utc_ns())
    snapshot = watched.pipeline.snapshot()
    assert snapshot.agent.queued_ticks == 0
    assert snapshot.agent.ticks == 10 + TICKS + 10
    seconds = 10 + TICKS + 10 - 1
    totals = snapshot.totals
    assert totals.device_energy_mj == {UUID: POWER_MW * seconds}
    assert sum(totals.energy_mj.values()) == sum(totals.state_energy_mj.values()) == POWER_MW * seconds
    assert sum(totals.gpu_ns.values()) == sum(totals.state_gpu_ns.values()) == NS_PER_S * seconds
    assert sum(totals.device_state_ns.values()) == NS_PER_S * seconds
    assert (sum(totals.device_gap_ns.values()), sum(totals.device_unpriced_mj.values())) == (0, 0)
    lost_ug = Fraction(GRAMS * 1_000_000 * POWER_MW * seconds, MJ_PER_KWH) - sum(totals.emissions_ug.values())
    assert 0 <= lost_ug < len(totals.emissions_ug)           # each workload's last microgram is not whole yet
    assert money(watched.ledger) == true_money(seconds)
    watched.ledger.close()
    verified(tmp_path)
