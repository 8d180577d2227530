"""What every tag source of the registry keeps to."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import ProcessFacts
from agent.settings import TagRule, Tags
from agent.tags import TAG_SOURCES
from agent.tags.session import session_environ

UID = "2d3f1c6e-8a14-4b52-9c5e-7f0f6d1b2a3c"
KEYS = ("project", "team", "pod_uid", "job_id")
TAGS = Tags(keys=KEYS, rules=(TagRule(user="alice", tags={"project": "ruled", "team": "ruled"}),))
FULL = ProcessFacts(
    pid=1, start_ticks=1, user="alice", group="ml", command="python train.py", exe="/usr/bin/python3", cwd="/home/alice",
    cgroup=f"/kubepods/pod{UID}/{'ab' * 32}", unit="",
    environ={
        "FINOPS_PROJECT": "p", "FINOPS_TEAM": "t", "FINOPS_MODEL": "unasked", "SLURM_JOB_ID": "7", "SLURM_JOB_ACCOUNT": "acc",
        "SLURM_JOB_PARTITION": "unasked", **session_environ({"project": "s", "model": "unasked"}),
    },
)  # fmt: skip
ANSWERS = {
    "session": {"project": "s"},
    "environ": {"project": "p", "team": "t"},
    "slurm": {"project": "acc", "job_id": "7"},
    "kubernetes": {"pod_uid": UID},
    "rules": {"project": "ruled", "team": "ruled"},
}

text = st.text(max_size=40)
any_facts = st.builds(
    ProcessFacts, pid=st.integers(1), start_ticks=st.integers(0), user=text, group=text, command=text, exe=text, cwd=text,
    cgroup=text | st.just(FULL.cgroup), unit=text,
    environ=st.dictionaries(st.sampled_from([*FULL.environ, "OTHER"]), text),
)  # fmt: skip


def test_the_registry_is_the_contracts_list() -> None:
    assert tuple(TAG_SOURCES) == Tags().sources
    assert set(ANSWERS) == set(TAG_SOURCES)


@pytest.mark.parametrize("name", TAG_SOURCES)
def test_it_answers_the_configured_keys_that_it_knows_and_leaves_out_the_rest(name: str) -> None:
    assert TAG_SOURCES[name](TAGS).tags(FULL, "GPU-1", "A100") == ANSWERS[name]


@pytest.mark.parametrize("name", TAG_SOURCES)
def test_a_process_of_which_nothing_is_known_gets_no_tag(name: str) -> None:
    assert TAG_SOURCES[name](TAGS).tags(ProcessFacts(pid=1, start_ticks=0, hidden="no permission"), "GPU-1", "A100") == {}


@pytest.mark.parametrize("name", TAG_SOURCES)
@settings(max_examples=50, deadline=None)
@given(facts=any_facts, before=any_facts)
def test_it_is_pure(name: str, facts: ProcessFacts, before: ProcessFacts) -> None:
    source = TAG_SOURCES[name](TAGS)
    source.tags(before, "GPU-0", "other")
    kept = msgspec.json.encode(facts)
    answer = dict(source.tags(facts, "GPU-1", "A100"))
    assert answer == source.tags(facts, "GPU-1", "A100") == TAG_SOURCES[name](TAGS).tags(facts, "GPU-1", "A100")
    assert msgspec.json.encode(facts) == kept
    assert set(answer) <= set(KEYS)
    assert all(isinstance(value, str) for value in answer.values())
