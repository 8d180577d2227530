"""The host: priced once, whatever devices there are; shared by CPU time, exactly; where nothing tells by GPU time, marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.config.config import load
from agent.model import Charge, ProcessCpu, ProcessUse, Share, Workload
from agent.pricing.host_cost import BY_GPU_TIME, CpuTime, HostMeter, HostSpan, split_host
from agent.pricing.pricing import Pricing
from agent.settings import Host
from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR, NS_PER_S
from tests.agent.pricing.test_pricing import FLAT, Steps
from tests.agent.records import BOOT_NS, NOON_NS, device, interval, reading, share

A: Workload = ("a", "", "", "")
B: Workload = ("b", "", "", "")
IDLE: Workload = ("__idle__", "", "", "")
BY_PRICE = Host(price_per_hour=Decimal("3.6"), currency="EUR")
BY_POWER = Host(idle_watts=Decimal(200), max_watts=Decimal(600))


def pricing(host: Host, tariff: Steps | None = None, pue: str = "1") -> Pricing:
    return Pricing(tariff, "steps" if tariff else "", Decimal(pue), (), None, {}, host=host)


def span(seconds: int = 1, start_ns: int = NOON_NS, *, watched: bool = True) -> HostSpan:
    return HostSpan(start_ns, start_ns + seconds * NS_PER_S, watched)


def shares(*workloads: Workload, duration_ns: int = NS_PER_S) -> list[Share]:
    return [share(0, workload=workload, uuid=f"GPU-{i}", duration_ns=duration_ns, method="idle" if workload == IDLE else "sole")
            for i, workload in enumerate(workloads)]


def by_workload(charges: Sequence[Charge]) -> Mapping[Workload, int]:
    sums: dict[Workload, int] = {}
    for charge in charges:
        assert (charge.component, charge.energy_mj, charge.gpu_ns) == ("host", 0, 0)
        sums[charge.workload] = sums.get(charge.workload, 0) + charge.cost_nano
    return sums


def test_by_price_and_cpu_time() -> None:
    charges = pricing(BY_PRICE).charge_host(span(), shares(A, B, IDLE), {A: 300, B: 100}, None)
    assert by_workload(charges) == {A: 750_000, B: 250_000}          # 3.6 an hour is a milli-unit a second
    assert {charge.rate for charge in charges} == {""}


def test_without_cpu_time_by_gpu_time_and_marked() -> None:
    charges = pricing(BY_PRICE).charge_host(span(), shares(A, B, IDLE, IDLE), {}, None)
    assert by_workload(charges) == {A: 250_000, B: 250_000, IDLE: 500_000}
    assert {charge.rate for charge in charges} == {BY_GPU_TIME}


def test_a_host_with_nobody_on_its_devices_is_idle() -> None:
    charges = pricing(BY_PRICE).charge_host(span(), shares(IDLE, IDLE), {A: 5}, None)
    assert by_workload(charges) == {IDLE: 1_000_000}
    assert {charge.rate for charge in charges} == {""}


def test_by_power_between_idle_and_all_cpus_busy() -> None:
    # 200 W + a quarter of 400 W, for an hour, at 0.96 x 1.5: 0.3 kWh x 1.44
    charges = pricing(BY_POWER, FLAT, "1.5").charge_host(span(3_600), shares(A), {A: 1}, 0.25)
    assert by_workload(charges) == {A: 432_000_000}
    assert {(charge.tariff, charge.rate, charge.price) for charge in charges} == {("steps", "all", 144 * 10**16)}
    marked = pricing(BY_POWER, FLAT).charge_host(span(), shares(A, B), {}, None)
    assert {charge.rate for charge in marked} == {"all, by GPU time"}


def test_power_is_priced_at_each_side_of_a_boundary() -> None:
    tariff = Steps([(0, "valley", "0.1"), (NOON_NS + NS_PER_HOUR // 8, "peak", "0.3")])
    charges = pricing(BY_POWER, tariff).charge_host(span(900), shares(A), {A: 1}, 1.0)       # 0.15 kWh
    assert [(charge.rate, charge.cost_nano) for charge in charges] == [("valley", 7_500_000), ("peak", 22_500_000)]


def test_nobody_knows_what_an_unwatched_host_drew_but_its_price_went_on() -> None:
    unwatched = span(3_600, watched=False)
    assert by_workload(pricing(BY_POWER, FLAT).charge_host(unwatched, shares(A), {}, 0.5)).get(A, 0) == 0
    assert by_workload(pricing(BY_PRICE).charge_host(unwatched, shares(A), {}, 0.5)) == {A: 3_600_000_000}


def test_an_unknown_price_prices_nothing() -> None:
    assert pricing(BY_POWER, Steps([(0, "spot", "?")])).charge_host(span(), shares(A), {}, 0.5) == []


@given(st.integers(0, 10**12), st.lists(st.tuples(st.sampled_from([A, B, IDLE]), st.integers(0, 10**10)), min_size=1),
       st.dictionaries(st.sampled_from([A, B]), st.integers(0, 10**12)))
def test_a_split_is_whole(amount: int, times: list[tuple[Workload, int]], cpu_ns: dict[Workload, int]) -> None:
    given_shares = [share(0, workload=workload, duration_ns=ns) for workload, ns in times]
    parts, told = split_host(amount, given_shares, cpu_ns)
    assert sum(part for _, part in parts) == amount
    there = {workload for workload, _ in times}
    assert told == any(ns for workload, ns in cpu_ns.items() if workload in there)
    if told and (whole := sum(ns for workload, ns in cpu_ns.items() if workload in there)):
        for workload in there:
            got = sum(part for s, part in parts if s.workload == workload)
            assert abs(got - Fraction(amount * cpu_ns.get(workload, 0), whole)) < 1


@given(st.lists(st.integers(1, 5 * NS_PER_HOUR), min_size=1, max_size=40), st.integers(0, 1_000), st.integers(0, 1_000))
def test_a_life_of_the_host_costs_its_price_to_a_nano_for_each_that_bears_it(steps_ns: list[int], a: int, b: int) -> None:
    subject, at_ns, cost = pricing(BY_PRICE), NOON_NS, 0
    for step_ns in steps_ns:
        cost += sum(by_workload(subject.charge_host(
            HostSpan(at_ns, at_ns + step_ns, True), shares(A, B, IDLE, duration_ns=step_ns), {A: a, B: b}, None)).values())
        at_ns += step_ns
    exact = Fraction(36, 10) * Fraction(at_ns - NOON_NS, NS_PER_HOUR) * NANO
    assert 0 <= exact - cost < 3


def test_energy_leaves_no_millijoule_behind() -> None:
    subject = pricing(Host(idle_watts=Decimal("0.123"), max_watts=Decimal(1)), Steps([(0, "all", "3600")]))
    cost = 0
    for i in range(4_000):                       # 123 mW for a millisecond each: less than a millijoule
        start_ns = NOON_NS + i * 1_000_000
        cost += sum(by_workload(subject.charge_host(
            HostSpan(start_ns, start_ns + 1_000_000, True), shares(A), {A: 1}, None)).values())
    assert cost == 492 * 3_600 * NANO // MJ_PER_KWH


def test_spans_follow_each_other_whichever_device_answers() -> None:
    ticks = [{"g": (100, 110), "h": (101, 111)}, {"h": (111, 121)}, {"h": (121, 131)}, {"g": (110, 140), "h": (131, 141)},
             {"g": (140, 150)}, {"h": (141, 160)}]           # each fails in the tick in which the other is back
    ends, meter = [], HostMeter()
    for tick in ticks:
        intervals = [interval(0, (end - begin) * NS_PER_S, uuid=uuid, start_utc_ns=begin * NS_PER_S)
                     for uuid, (begin, end) in tick.items()]
        seen = [device(end * NS_PER_S, uuid=uuid) for uuid, (_, end) in tick.items()]
        found = meter.advance(reading(max(end for _, end in tick.values()) * NS_PER_S, *seen), intervals)
        assert found is not None
        ends.append((found.start_utc_ns // NS_PER_S, found.end_utc_ns // NS_PER_S))
    assert ends == [(101, 111), (111, 121), (121, 131), (131, 141), (141, 150), (150, 160)]
    assert meter.advance(reading(170 * NS_PER_S), []) is None


def test_cpu_time_between_two_looks_by_workload() -> None:
    cpu = CpuTime()
    holders = (ProcessUse(1, 10, None), ProcessUse(2, 20, None), ProcessUse(3, 30, None))

    def look(**looks: int) -> Mapping[Workload, int]:
        rows = tuple(ProcessCpu(int(pid[1:]), int(pid[1:]) * 10, ns) for pid, ns in looks.items())
        cpu.learn(reading(BOOT_NS, device(BOOT_NS, processes=holders), process_cpu=rows),
                  lambda process, _: B if process.pid == 3 else A)
        return cpu.by_workload_ns

    assert look(p1=1_000, p2=5_000, p3=0) == {}                      # how old they are tells nothing of now
    assert look(p1=1_100, p2=5_030, p3=70) == {A: 130, B: 70}
    assert look() == {A: 130, B: 70}                                 # most readings bring no look
    assert look(p1=1_100, p4=9_000) == {}


def test_the_keys_reach_their_record(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[host]\nprice_per_hour = 2.5\ncurrency = "EUR"')
    assert load(file, environ={"HOME": "/"}).host == Host(price_per_hour=Decimal("2.5"), currency="EUR")
