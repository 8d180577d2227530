"""The resolver: order of the sources, reserved names, grants, caps, and what it remembers."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.model import IDLE, OVERFLOW, RESERVED_PROJECTS, UNATTRIBUTED, UNVERIFIED, ProcessFacts
from agent.settings import TagGrant, TagRule, Tags
from agent.tags.resolver import PROCESS_LIMIT, WorkloadResolver

GPU, NAME = "GPU-1", "NVIDIA H100"
NOBODY = (UNATTRIBUTED, "", "", "")
REFUSED = (UNVERIFIED, "", "", "")
BEYOND = (OVERFLOW, "", "", "")
PIDS = itertools.count(1)


def process(
    project: str | None = None, team: str | None = None, user: str = "alice", group: str = "research", **more: str
) -> ProcessFacts:
    tags = {"FINOPS_PROJECT": project, "FINOPS_TEAM": team, **more}
    environ = {name: value for name, value in tags.items() if value is not None}
    return ProcessFacts(pid=next(PIDS), start_ticks=1, user=user, group=group, environ=environ)


def workload(facts: ProcessFacts | None, **tags: Any) -> tuple[str, ...]:
    return WorkloadResolver(Tags(**tags)).workload(facts, GPU, NAME)


def test_values_stand_in_the_order_of_the_keys_and_blank_is_not_given() -> None:
    assert workload(process("kronos", "quant")) == ("kronos", "quant", "", "")
    assert workload(process("kronos", "quant"), keys=("team", "project")) == ("quant", "kronos")
    assert workload(process(team="quant")) == ("", "quant", "", "")


def test_nobody_known_and_nothing_said_is_unattributed() -> None:
    assert workload(None) == NOBODY
    assert workload(process()) == NOBODY
    assert workload(process("  ", "\t")) == NOBODY
    assert workload(ProcessFacts(pid=1, start_ticks=0, hidden="another PID namespace")) == NOBODY
    assert workload(process(), keys=("cost_centre", "unit")) == (UNATTRIBUTED, "")
    assert workload(process(), keys=("team", "project")) == ("", UNATTRIBUTED)


def test_the_first_source_that_answers_wins_key_by_key() -> None:
    rule = TagRule(tags={"project": "from-rule", "team": "from-rule", "model": "from-rule"})
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_ACCOUNT": "from-slurm"}
    assert workload(process("from-environ", **job), rules=(rule,)) == ("from-environ", "from-rule", "from-rule", "")
    assert workload(process(**job), rules=(rule,))[0] == "from-slurm"
    assert workload(process("from-environ", **job), rules=(rule,), sources=("rules", "environ"))[0] == "from-rule"
    assert workload(process(" ", **job), rules=(rule,))[0] == "from-slurm"             # blank is no answer
    assert workload(process("from-environ"), sources=("slurm", "rules")) == NOBODY     # not asked


def test_a_source_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"tags\.sources: 'ldap' is not a tag source, choose from session, environ, slurm"):
        WorkloadResolver(Tags(sources=("environ", "ldap")))


@pytest.mark.parametrize("name", sorted(RESERVED_PROJECTS))
def test_reserved_names_cannot_be_claimed(name: str) -> None:
    assert workload(process(name, "quant")) == REFUSED
    assert workload(process(f" {name} ")) == REFUSED
    assert workload(process(), rules=(TagRule(tags={"project": name}),)) == REFUSED
    assert workload(process(FINOPS_CENTRE=name), keys=("centre", "unit")) == (UNVERIFIED, "")


GRANTS = (
    TagGrant(user="trainer", projects=("kronos", "kronos-*")),
    TagGrant(group="research", projects=("atlas",)),
    TagGrant(user="svc-*", group="ml", projects=("serving",)),
    TagGrant(user="*", projects=("sandbox",)),
)


@pytest.mark.parametrize(
    ("user", "group", "project", "granted"),
    [
        ("trainer", "ml", "kronos", True), ("trainer", "ml", "kronos-2", True), ("trainer", "ml", "kronosx", False),
        ("alice", "ml", "kronos", False), ("trainer", "ml", "atlas", False),
        ("alice", "research", "atlas", True), ("alice", "ml", "atlas", False),
        ("svc-a", "ml", "serving", True), ("svc-a", "research", "serving", False), ("bob", "ml", "serving", False),
        ("bob", "ml", "sandbox", True), ("", "", "sandbox", True), ("", "", "kronos", False),
        ("trainer", "ml", "Kronos", False),
    ],
)  # fmt: skip
def test_with_grants_a_project_is_charged_by_those_who_may(user: str, group: str, project: str, granted: bool) -> None:
    claim = process(project, "quant", user=user, group=group)
    assert workload(claim, grants=GRANTS) == ((project, "quant", "", "") if granted else REFUSED)


def test_a_rule_needs_a_grant_too_for_a_command_line_can_be_forged() -> None:
    rules = (TagRule(command="*vllm*", tags={"project": "kronos"}),)
    forged = ProcessFacts(pid=1, start_ticks=1, user="mallory", group="x", command="vllm")
    real = ProcessFacts(pid=2, start_ticks=1, user="trainer", group="x", command="vllm")
    assert workload(forged, rules=rules, grants=GRANTS) == REFUSED
    assert workload(real, rules=rules, grants=GRANTS) == ("kronos", "", "", "")


def test_with_grants_a_process_that_claims_no_project_is_not_refused() -> None:
    assert workload(process(), grants=GRANTS) == NOBODY
    assert workload(process(team="quant"), grants=GRANTS) == ("", "quant", "", "")


def test_beyond_the_cap_is_overflow_and_the_known_keep_their_place() -> None:
    resolver = WorkloadResolver(Tags(max_workloads=2))
    named = [resolver.workload(process(project), GPU, NAME) for project in ("a", "b", "c", "a", "d", "b")]
    assert named == [("a", "", "", ""), ("b", "", "", ""), BEYOND, ("a", "", "", ""), BEYOND, ("b", "", "", "")]
    assert resolver.overflowed == 2
    assert resolver.workload(None, GPU, NAME) == NOBODY
    assert resolver.workload(process(IDLE), GPU, NAME) == REFUSED
    assert resolver.overflowed == 2
    assert resolver.known == {("a", "", "", ""), ("b", "", "", "")}


def test_the_ledgers_workloads_have_their_place_from_the_start() -> None:
    ledgers = [("a", "", "", ""), ("b", "", "", ""), ("c", "", "", ""), NOBODY, (IDLE, "", "", ""), ("other", "keys")]
    resolver = WorkloadResolver(Tags(max_workloads=3), known=ledgers)
    assert resolver.known == set(ledgers[:3])
    assert resolver.workload(process("c"), GPU, NAME) == ("c", "", "", "")
    assert resolver.workload(process("d"), GPU, NAME) == BEYOND
    more = WorkloadResolver(Tags(max_workloads=2), known=ledgers)                # a cap below what is there
    assert more.workload(process("c"), GPU, NAME) == ("c", "", "", "")
    assert more.workload(process("d"), GPU, NAME) == BEYOND


def test_long_values_are_cut_to_128_characters_and_counted() -> None:
    resolver = WorkloadResolver(Tags())
    assert resolver.workload(process("p" * 128, "t" * 129), GPU, NAME)[:2] == ("p" * 128, "t" * 128)
    assert resolver.truncated == 1
    wide = "\N{CJK UNIFIED IDEOGRAPH-4E2D}"
    assert resolver.workload(process(wide * 200), GPU, NAME)[0] == wide * 128
    assert resolver.truncated == 2
    assert resolver.workload(process("p" * 126 + "  and more"), GPU, NAME)[0] == "p" * 126


def test_control_characters_and_undecodable_bytes_are_replaced() -> None:
    assert workload(process("a\nb\x00c\x7f\x85d", "x\udcffy\u2028z"))[:2] == ("a\ufffdb\ufffdc\ufffd\ufffdd", "x\ufffdy\ufffdz")
    assert workload(process(' a "quoted\\ \N{GREEK SMALL LETTER PI} '))[0] == 'a "quoted\\ \N{GREEK SMALL LETTER PI}'


@settings(max_examples=300)
@given(st.text(st.characters(codec=None, categories=None), max_size=300), st.text(max_size=300))
def test_whatever_a_process_says_becomes_labels_that_can_be_written(project: str, team: str) -> None:
    named = workload(process(project, team))
    assert len(named) == 4
    for value in named:
        assert len(value) <= 128
        assert value == value.strip()
        assert value.encode("utf-8").decode("utf-8") == value
        assert "\n" not in value
        assert "\x00" not in value
    assert any(named)


@settings(max_examples=100)
@given(st.integers(0, 5), st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_there_are_never_more_than_the_cap_and_the_reserved(cap: int, projects: list[str]) -> None:
    resolver = WorkloadResolver(Tags(max_workloads=cap))
    named = [resolver.workload(process(project), GPU, NAME) for project in projects]
    distinct = list(dict.fromkeys(projects))
    assert [name[0] for name in named] == [p if p in distinct[:cap] else OVERFLOW for p in projects]
    assert resolver.overflowed == sum(p not in distinct[:cap] for p in projects)


class CountingSource:
    """A tag source that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> dict[str, str]:
        self.asked += 1
        return {"project": f"{facts.user}-{gpu_uuid}"}


def test_a_process_is_looked_at_once_a_gpu_until_its_facts_change_or_it_is_forgotten() -> None:
    source = CountingSource()
    resolver = WorkloadResolver(Tags(), [source])
    facts = process(user="alice")
    again = msgspec.json.decode(msgspec.json.encode(facts), type=ProcessFacts)     # equal, another object
    for seen in (facts, facts, again):
        assert resolver.resolve(seen, "GPU-1", NAME)[0] == "alice-GPU-1"
    assert source.asked == 1
    assert resolver.resolve(facts, "GPU-2", NAME)[0] == "alice-GPU-2"
    assert source.asked == 2
    changed = msgspec.structs.replace(facts, user="bob")                           # it has called exec or setuid
    assert resolver.resolve(changed, "GPU-1", NAME)[0] == "bob-GPU-1"
    assert source.asked == 3
    resolver.forget([(facts.pid, facts.start_ticks), (99, 99)])
    resolver.resolve(changed, "GPU-1", NAME)
    assert source.asked == 4
    assert resolver.resolve(None, "GPU-1", NAME) == NOBODY
    assert source.asked == 4


def test_a_refused_claim_is_counted_once_a_process_not_once_a_tick() -> None:
    resolver = WorkloadResolver(Tags(max_workloads=0))
    facts = process("a")
    for _ in range(10):
        assert resolver.resolve(facts, GPU, NAME) == BEYOND
    assert resolver.overflowed == 1


def test_ten_thousand_short_processes_leave_no_growth() -> None:
    source = CountingSource()
    resolver = WorkloadResolver(Tags(), [source])
    seen = [process() for _ in range(PROCESS_LIMIT + 2000)]
    for facts in seen:
        resolver.resolve(facts, GPU, NAME)
    asked = source.asked
    for facts in reversed(seen[-PROCESS_LIMIT:]):
        resolver.resolve(facts, GPU, NAME)
    assert source.asked == asked                       # the newest are remembered
    resolver.resolve(seen[0], GPU, NAME)
    assert source.asked == asked + 1                   # the oldest are not
    assert resolver.known == {("alice-GPU-1", "", "", "")}


def test_names_that_nobody_uses_any_more_make_room_for_others() -> None:
    resolver = WorkloadResolver(Tags(max_workloads=2), known=[("old", "", "", ""), ("dormant", "", "", "")])
    honest, live = process("honest"), process("dormant")
    assert resolver.resolve(live, GPU, NAME)[0] == "dormant"
    assert resolver.resolve(honest, GPU, NAME) == BEYOND
    resolver.retain(recent=[])                        # "dormant" is on a device at this moment, "old" is not
    assert resolver.resolve(honest, GPU, NAME)[0] == "honest"
    assert resolver.resolve(live, GPU, NAME)[0] == "dormant"
    assert resolver.listed() == {("honest", "", "", ""), ("dormant", "", "", ""), NOBODY, REFUSED, BEYOND, (IDLE, "", "", "")}
    assert resolver.resolve(process("further"), GPU, NAME) == BEYOND


def test_text_that_hides_or_turns_itself_round_is_replaced() -> None:
    assert workload(process("kro\u202eson"))[0] == "kro\ufffdson"
