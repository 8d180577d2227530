"""Ticks in which every amount that a ledger keeps is another one, and what so many of them come to, added up by hand."""

from __future__ import annotations

import functools

from agent.energy.metering import MeterState
from agent.ledger.batch import Batch
from agent.ledger.ledger import Ledger
from agent.model import Charge, Totals, Workload
from agent.pricing.pricing import BUCKET_NS
from agent.units import NS_PER_S
from tests.agent.priced import KRONOS, OTHER
from tests.agent.records import NOON_NS, UUID, interval

Expected = tuple[Totals, dict[tuple[str, Workload, str, str], int], MeterState, bytes]


def meter(n: int) -> MeterState:
    return MeterState(boot_id="b", boottime_ns=n, monotonic_ns=n, energy_mj=700 * n)


def condition(n: int) -> str:
    return "active" if n % 3 else "parked"


def batch(*sequences: int) -> Batch:
    made = Batch()
    for n in sequences:
        add(made, n)
    return made


def add(made: Batch, n: int) -> None:
    """Take up a tick that uses every column: 700 mJ of two workloads with cost, credit, GPU time, emissions, carries, gaps,
    states and hardware, each amount another one in each tick; every fifth tick has no price for one of them."""
    start_ns = NOON_NS + n * NS_PER_S
    common = {"uuid": UUID, "state": condition(n), "start_utc_ns": start_ns, "end_utc_ns": start_ns + NS_PER_S,
              "slot_utc_ns": (start_ns - start_ns % BUCKET_NS, start_ns - start_ns % BUCKET_NS + BUCKET_NS)}
    terms = {"currency": "CNY", "tariff": "t", "rate": "peak", "price": 10**18}
    unpriced = {"currency": "", "tariff": "", "rate": "", "price": 0} if n % 5 == 4 else terms
    charges = [
        Charge(workload=KRONOS, component="energy", cost_nano=-(n + 1) if n % 4 == 3 else n + 11, energy_mj=500,
               gpu_ns=700_000_000, emissions_ug=13 + n % 5, carry=7 * n + 1, **common, **terms),
        Charge(workload=OTHER, component="energy", cost_nano=2 * n if unpriced is terms else 0, energy_mj=200,
               gpu_ns=300_000_000 - gap_ns(n), carry=3 * n, **common, **unpriced),
        Charge(workload=KRONOS, component="hardware", cost_nano=3 + n % 2, energy_mj=0, gpu_ns=0, carry=n, **common,
               **(terms | {"tariff": "", "rate": ""}))]
    made.add("s", n, {UUID: "H100"}, [interval(700, gap_ns=gap_ns(n), start_utc_ns=start_ns)], {UUID: condition(n)},
             charges, {UUID: meter(n)}, {UUID: b"learned %d" % n})


def gap_ns(n: int) -> int:
    return 1_000 * (n % 2)


@functools.cache
def expected(ticks: int) -> Expected:
    """What so many ticks come to, added up by hand."""
    every = range(ticks)
    ours, other = (UUID, KRONOS, "energy", "CNY"), (UUID, OTHER, "energy", "CNY")
    hardware = (UUID, KRONOS, "hardware", "CNY")
    priced = [n for n in every if n % 5 != 4]
    cost = {ours: sum(n + 11 for n in every if n % 4 != 3), other: sum(2 * n for n in priced),
            hardware: sum(3 + n % 2 for n in every)}
    by_state = {name: [n for n in every if condition(n) == name] for name in ("active", "parked")}
    state_cost = {
        (UUID, workload, name, "CNY"): sum(nano(n) for n in of_state)
        for name, of_state in by_state.items() for workload, nano in (
            (KRONOS, lambda n: (n + 11 if n % 4 != 3 else 0) + 3 + n % 2), (OTHER, lambda n: 2 * n if n % 5 != 4 else 0))}
    totals = Totals(
        device_energy_mj={UUID: 700 * ticks}, device_gap_ns={UUID: sum(map(gap_ns, every))},
        device_unpriced_mj={UUID: 200 * (ticks - len(priced))},
        device_state_ns={(UUID, name): sum(NS_PER_S - gap_ns(n) for n in of_state) for name, of_state in by_state.items()}
        | {(UUID, "unknown"): sum(map(gap_ns, every))},
        energy_mj={(UUID, KRONOS): 500 * ticks, (UUID, OTHER): 200 * ticks},
        gpu_ns={(UUID, KRONOS): 700_000_000 * ticks, (UUID, OTHER): sum(300_000_000 - gap_ns(n) for n in every)},
        emissions_ug={(UUID, KRONOS): sum(13 + n % 5 for n in every), (UUID, OTHER): 0},
        cost_nano=cost, credit_nano={ours: sum(n + 1 for n in every if n % 4 == 3)},
        waste_nano={key: nano for key, nano in state_cost.items() if key[2] == "parked"},
        state_gpu_ns={(UUID, workload, name): sum(
            700_000_000 if workload is KRONOS else 300_000_000 - gap_ns(n) for n in of_state)
                      for name, of_state in by_state.items() for workload in (KRONOS, OTHER)},
        state_energy_mj={(UUID, workload, name): (500 if workload is KRONOS else 200) * len(of_state)
                         for name, of_state in by_state.items() for workload in (KRONOS, OTHER)},
        state_cost_nano=state_cost)
    carries = {ours: 7 * (ticks - 1) + 1, other: 3 * priced[-1], hardware: ticks - 1}
    return totals, carries, meter(ticks - 1), b"learned %d" % (ticks - 1)


def compare(ledger: Ledger, ticks: int) -> None:
    """Every total, carry, meter and calibration of a ledger is what so many ticks come to."""
    totals, carries, standing, learned = expected(ticks)
    for field in Totals.__struct_fields__:
        found, wanted = getattr(ledger.totals, field), getattr(totals, field)
        assert found == wanted, f"{field}: {found}, and {ticks} ticks come to {wanted}"
    assert {key: carry for key, carry in ledger.carries().items() if carry} == {k: c for k, c in carries.items() if c}
    assert (ledger.meters(), ledger.calibrations()) == ({UUID: standing}, {UUID: learned})
