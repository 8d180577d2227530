"""Tags from the environment: FINOPS_ and the key in capitals."""

from __future__ import annotations

from agent.model import ProcessFacts
from agent.settings import Tags
from agent.tags.environ import EnvironTags


def test_each_configured_key_is_read_from_its_variable() -> None:
    facts = ProcessFacts(pid=1, start_ticks=1, environ={
        "FINOPS_PROJECT": "kronos", "FINOPS_TEAM": "quant", "FINOPS_MODEL": "kronos-base", "FINOPS_MODEL_VERSION": "1.0",
    })  # fmt: skip
    assert EnvironTags(Tags()).tags(facts, "GPU-1", "A100") == {
        "project": "kronos", "team": "quant", "model": "kronos-base", "model_version": "1.0",
    }  # fmt: skip


def test_a_variable_of_no_key_and_a_key_without_variable_are_left_out() -> None:
    facts = ProcessFacts(pid=1, start_ticks=1, environ={"FINOPS_TEAM": "quant", "FINOPS_COST_CENTRE": "7", "PROJECT": "x"})
    assert EnvironTags(Tags()).tags(facts, "GPU-1", "A100") == {"team": "quant"}
    assert EnvironTags(Tags(keys=("cost_centre",))).tags(facts, "GPU-1", "A100") == {"cost_centre": "7"}


def test_variables_are_in_capitals() -> None:
    facts = ProcessFacts(pid=1, start_ticks=1, environ={"finops_project": "kronos", "FINOPS_project": "kronos"})
    assert EnvironTags(Tags()).tags(facts, "GPU-1", "A100") == {}
