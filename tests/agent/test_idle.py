"""The states of a device, reading by reading."""

from __future__ import annotations

import pytest

from agent.idle import HOLD_NS, IdleJudge
from agent.model import DeviceReading, ProcessUse, Reading, UtilizationSample
from agent.settings import Idle
from agent.units import NS_PER_S

HELD = (ProcessUse(41, 100, 1 << 30),)


def device(
    utilization: float | None, processes: tuple[ProcessUse, ...] | None = HELD, uuid: str = "GPU-a", **fields: object
) -> DeviceReading:
    return DeviceReading(
        uuid=uuid, index=0, name="Test GPU", boottime_ns=0, utilization_ratio=utilization, processes=processes, **fields
    )


def reading(at_s: float, *devices: DeviceReading, boot_id: str = "boot-1") -> Reading:
    at_ns = int(at_s * NS_PER_S)
    return Reading(
        session="s", sequence=int(at_s), boot_id=boot_id, boottime_ns=at_ns, monotonic_ns=at_ns, utc_ns=at_ns,
        driver_version="1", devices=devices,
    )


def states(readings: list[Reading], uuid: str = "GPU-a") -> list[str | None]:
    judge = IdleJudge(Idle(utilization_ratio=0.05))
    return [judge.judge(r).get(uuid) for r in readings]


@pytest.mark.parametrize(
    ("utilization", "processes", "samples", "state"),
    [
        (0.05, HELD, (), "active"),
        (0.0499, HELD, (), "underused"),
        (0.0, HELD, (), "parked"),
        (0.0, (), (), "unallocated"),
        (None, (), (), "unallocated"),
        (None, HELD, (), "unknown"),
        (None, None, (), "unknown"),
        (0.0, None, (), "unknown"),
        (0.02, None, (), "underused"),
        (0.9, None, (), "active"),
        (0.9, (), (), "active"),                     # used from where the driver does not list processes
        (0.0, HELD, (60,), "active"),                # the last period was quiet, the seconds before were not
        (None, HELD, (0, 3), "underused"),
        (0.0, HELD, (250,), "parked"),               # above 100 %: garbage
    ],
)
def test_state_of_one_reading(
    utilization: float | None, processes: tuple[ProcessUse, ...] | None, samples: tuple[int, ...], state: str
) -> None:
    rows = tuple(UtilizationSample(41, i, percent) for i, percent in enumerate(samples))
    assert states([reading(0, device(utilization, processes, utilization_samples=rows))]) == [state]


def test_a_failed_device_is_unknown_whatever_it_did_before() -> None:
    failed = DeviceReading(uuid="GPU-a", index=0, name="", boottime_ns=0, failed="GPU is lost")
    assert states([reading(0, device(0.9)), reading(1, failed), reading(2, device(0.0))]) == [
        "active", "unknown", "parked",
    ]


def test_threshold_of_zero_still_tells_parked_from_active() -> None:
    judge = IdleJudge(Idle(utilization_ratio=0.0))
    assert judge.judge(reading(0, device(0.0)))["GPU-a"] == "parked"
    assert judge.judge(reading(1, device(0.001)))["GPU-a"] == "active"


def test_down_after_the_hold_and_up_at_once() -> None:
    hold_s = HOLD_NS // NS_PER_S
    quiet = [reading(s, device(0.0)) for s in range(1, hold_s + 2)]
    seen = states([reading(0, device(0.9)), *quiet, reading(hold_s + 2, device(0.9))])
    assert seen == ["active"] * hold_s + ["parked", "parked", "active"]


def test_each_burst_begins_the_hold_anew() -> None:
    bursts = [reading(s, device(0.9 if s % 4 == 0 else 0.0)) for s in range(40)]
    assert set(states(bursts)) == {"active"}


def test_falls_rung_by_rung_to_the_busiest_of_the_last_seconds() -> None:
    hold_s = HOLD_NS // NS_PER_S
    use = [0.9, 0.02] + [0.0] * (hold_s + 1)
    seen = states([reading(s, device(u)) for s, u in enumerate(use)])
    assert seen == ["active"] * hold_s + ["underused", "parked", "parked"]


def test_who_has_left_is_not_held_for_and_who_comes_begins_anew() -> None:
    """The interval at whose end nobody is there any more is still its holder's; from then on the device is nobody's."""
    seen = states([reading(0, device(0.9)), reading(1, device(0.0, ())), reading(2, device(0.0, ())), reading(3, device(0.0))])
    assert seen == ["active", "active", "unallocated", "parked"]


@pytest.mark.parametrize(("at_s", "boot_id"), [(3, "boot-2"), (0.5, "boot-1")])
def test_nothing_is_remembered_across_a_boot_or_a_clock_that_steps_back(at_s: float, boot_id: str) -> None:
    judge = IdleJudge(Idle())
    judge.judge(reading(2, device(0.9)))
    assert judge.judge(reading(at_s, device(0.0), boot_id=boot_id))["GPU-a"] == "parked"


def test_a_reload_keeps_what_was_seen_under_the_new_threshold() -> None:
    before, after = IdleJudge(Idle()), IdleJudge(Idle(utilization_ratio=0.95))
    before.judge(reading(0, device(0.9)))
    after.remember(before)
    assert after.judge(reading(1, device(0.0))) == {"GPU-a": "active"}
    assert after.judge(reading(HOLD_NS // NS_PER_S, device(0.9))) == {"GPU-a": "underused"}


def test_a_device_that_went_away_comes_back_without_a_past() -> None:
    judge = IdleJudge(Idle())
    judge.judge(reading(0, device(0.9), device(0.9, uuid="GPU-b")))
    assert dict(judge.judge(reading(1, device(0.0)))) == {"GPU-a": "active"}
    both = judge.judge(reading(2, device(0.0), device(0.0, uuid="GPU-b")))
    assert dict(both) == {"GPU-a": "active", "GPU-b": "parked"}


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        (((0.9, HELD), (0.0, ())), "active"),
        (((0.0, HELD), (0.0, ())), "parked"),
        (((0.0, ()), (0.0, ())), "unallocated"),
        (((None, HELD), (0.0, ())), "unknown"),
        (((None, HELD), (0.5, HELD)), "active"),
    ],
)
def test_a_divided_gpu_is_as_busy_as_its_busiest_instance(
    parts: tuple[tuple[float | None, tuple[ProcessUse, ...]], ...], state: str
) -> None:
    instances = [
        device(use, held, uuid=f"MIG-{i}", parent_uuid="GPU-a") for i, (use, held) in enumerate(parts)
    ]
    assert states([reading(0, device(None, ()), *instances)]) == [state]


CONTEXT_MW = 120_000                                 # parked up to 1.25 x that + 10 W = 160 W


@pytest.mark.parametrize(
    ("utilization", "power_mw", "state"),
    [
        (0.0, 70_000, "parked"),
        (0.0, 121_000, "parked"),                    # above bare idle and above context power, as a warm device is
        (0.0, 160_000, "parked"),
        (0.0, 160_001, "active"),                    # 40 of the 580 W between contexts and the limit: 7 %
        (0.0, 700_000, "active"),
        (None, 121_000, "parked"),                   # no use is told, and it draws what open contexts do
        (None, 300_000, "active"),
        (0.02, 300_000, "underused"),                # what the driver does tell goes before
        (0.9, 100_000, "active"),
        (0.0, None, "parked"),
        (None, None, "unknown"),
    ],
)
def test_a_held_device_is_judged_against_context_power(
    utilization: float | None, power_mw: int | None, state: str
) -> None:
    held = device(utilization, power_mw=power_mw, power_limit_mw=700_000)
    assert IdleJudge(Idle()).judge(reading(0, held), {"GPU-a": CONTEXT_MW}) == {"GPU-a": state}


@pytest.mark.parametrize(("threshold", "state"), [(0.05, "active"), (0.10, "underused")])
def test_the_power_that_use_does_not_explain_is_held_against_the_threshold(threshold: float, state: str) -> None:
    judge = IdleJudge(Idle(utilization_ratio=threshold))
    held = device(0.0, power_mw=170_000, power_limit_mw=700_000)          # 50 of 580 W: 8.6 %
    assert judge.judge(reading(0, held), {"GPU-a": CONTEXT_MW}) == {"GPU-a": state}


def test_context_power_that_is_not_known_judges_nobody() -> None:
    held = device(0.0, power_mw=300_000)
    assert IdleJudge(Idle()).judge(reading(0, held), {"GPU-other": CONTEXT_MW}) == {"GPU-a": "parked"}
    assert IdleJudge(Idle()).judge(reading(0, held)) == {"GPU-a": "parked"}


def test_power_without_a_process_is_nobodys_use() -> None:
    free = device(0.0, (), power_mw=300_000)
    assert IdleJudge(Idle()).judge(reading(0, free), {"GPU-a": CONTEXT_MW}) == {"GPU-a": "unallocated"}


def test_what_several_processes_do_in_one_sample_adds_up_and_one_busy_sample_of_the_buffer_is_enough() -> None:
    apart = tuple(UtilizationSample(pid, pid, 3) for pid in (41, 42))
    together = tuple(UtilizationSample(pid, 7, 3) for pid in (41, 42))
    rest = tuple(UtilizationSample(41, 100 + i, 0) for i in range(6))
    assert states([reading(0, device(0.0, utilization_samples=apart))]) == ["underused"]
    assert states([reading(0, device(0.0, utilization_samples=(*together, *rest)))]) == ["active"]


def test_use_by_gpm_counts() -> None:
    assert states([reading(0, device(None, gpm_sm_ratio=0.4))]) == ["active"]


@pytest.mark.parametrize(
    ("power_mw", "whole", "parts"),
    [
        (121_000, "parked", {"MIG-0": "parked", "MIG-1": "unallocated"}),
        (300_000, "active", {"MIG-0": "unknown", "MIG-1": "unallocated"}),     # somebody's, and it is not told whose
        (None, "unknown", {"MIG-0": "unknown", "MIG-1": "unallocated"}),
    ],
)
def test_a_divided_gpu_that_does_not_tell_its_use_is_judged_by_its_power(
    power_mw: int | None, whole: str, parts: dict[str, str]
) -> None:
    instances = [device(None, held, uuid=f"MIG-{i}", parent_uuid="GPU-a") for i, held in enumerate((HELD, ()))]
    gpu = device(None, (), power_mw=power_mw, power_limit_mw=700_000)
    found = IdleJudge(Idle()).judge(reading(0, gpu, *instances), {"GPU-a": CONTEXT_MW})
    assert found == {"GPU-a": whole, **parts}
