"""Rules: all globs of a rule must match, the first matching rule gives a key its value, key by key."""

from __future__ import annotations

from typing import Any

import pytest

from agent.model import ProcessFacts
from agent.settings import TagRule, Tags
from agent.tags.rules import RuleTags

VLLM = ProcessFacts(
    pid=1, start_ticks=1, user="trainer", group="ml", command="python -m vllm --model kronos\n--port 80",
    exe="/usr/bin/python3.11", cwd="/srv/kronos", cgroup="/system.slice/vllm.service", unit="vllm.service",
)  # fmt: skip
GPU, NAME = "GPU-6c5795e1", "NVIDIA H100 80GB HBM3"


def given_by(*rules: TagRule) -> dict[str, str]:
    return dict(RuleTags(Tags(rules=rules)).tags(VLLM, GPU, NAME))


def test_the_contracts_rule() -> None:
    tags = {"project": "kronos", "team": "quant", "model": "kronos-base", "model_version": "1.0"}
    assert given_by(TagRule(user="trainer", command="*vllm*", tags=tags)) == tags


@pytest.mark.parametrize(
    ("globs", "matches"),
    [
        ({"user": "trainer"}, True), ({"user": "train"}, False), ({"user": "Trainer"}, False), ({"user": "t*"}, True),
        ({"group": "m?"}, True), ({"group": "?"}, False),
        ({"command": "*vllm*--port*"}, True), ({"command": "vllm*"}, False),          # over a line end, from the start
        ({"exe": "*/python3.[0-9]*"}, True), ({"exe": "*/python3x11"}, False),        # a dot is a dot
        ({"cwd": "/srv/*"}, True), ({"cwd": "/srv"}, False),
        ({"cgroup": "/system.slice/*"}, True), ({"cgroup": "/user.slice/*"}, False),
        ({"unit": "vllm.service"}, True), ({"unit": "*.timer"}, False),
        ({"gpu": GPU}, True), ({"gpu": "NVIDIA H100*"}, True), ({"gpu": "NVIDIA A100*"}, False),
        ({"user": "trainer", "unit": "vllm*", "gpu": "GPU-6*"}, True),
        ({"user": "trainer", "unit": "ollama*", "gpu": "GPU-6*"}, False),
        ({"user": "trainer", "gpu": "GPU-7*"}, False),
        ({}, True),
    ],
)  # fmt: skip
def test_a_rule_matches_when_all_its_globs_do(globs: dict[str, Any], matches: bool) -> None:
    assert given_by(TagRule(tags={"project": "p"}, **globs)) == ({"project": "p"} if matches else {})


def test_the_first_rule_that_matches_gives_each_key_its_value() -> None:
    assert given_by(
        TagRule(user="nobody", tags={"project": "none", "team": "none"}),
        TagRule(user="trainer", tags={"project": "first"}),
        TagRule(command="*vllm*", tags={"project": "second", "model": "second"}),
        TagRule(tags={"team": "rest", "model": "rest"}),
    ) == {"project": "first", "model": "second", "team": "rest"}


@pytest.mark.parametrize("field", ["user", "group", "command", "exe", "cwd", "cgroup", "unit"])
def test_what_is_not_known_matches_no_glob(field: str) -> None:
    hidden = ProcessFacts(pid=1, start_ticks=0, hidden="another PID namespace")
    source = RuleTags(Tags(rules=(TagRule(tags={"project": "p"}, **{field: "*"}),)))
    assert source.tags(hidden, GPU, NAME) == {}


def test_a_rule_for_a_gpu_names_a_process_of_which_nothing_is_known() -> None:
    hidden = ProcessFacts(pid=1, start_ticks=0, hidden="another PID namespace")
    assert RuleTags(Tags(rules=(TagRule(tags={"project": "p"}, gpu="*H100*"),))).tags(hidden, GPU, NAME) == {"project": "p"}
