"""Tags given by `gpu-finops exec`: they reach every descendant, whatever their values hold."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from agent.model import ProcessFacts
from agent.settings import Tags
from agent.tags.resolver import WorkloadResolver
from agent.tags.session import ID_VARIABLE, VARIABLE, SessionTags, in_session, session_environ, session_id_environ

KEYS = ("project", "team", "model", "model_version")


def facts(environ: dict[str, str]) -> ProcessFacts:
    return ProcessFacts(pid=1, start_ticks=1, environ=environ)


@given(st.dictionaries(st.sampled_from(KEYS), st.text(st.characters(codec="utf-8"), min_size=1)))
def test_what_exec_wrote_is_read_back(tags: dict[str, str]) -> None:
    assert SessionTags(Tags()).tags(facts(session_environ(tags)), "GPU-1", "A100") == tags


def test_a_grandchild_with_its_own_idea_of_the_project_is_in_the_session() -> None:
    child = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    grandchild = f"import os; print(os.environ['{VARIABLE}'])"
    env = {**os.environ, **session_environ({"project": "kronos & sons", "team": "quant"}), "FINOPS_PROJECT": "other"}
    out = subprocess.run([sys.executable, "-c", child, grandchild], env=env, capture_output=True, text=True, check=True)
    seen = facts({VARIABLE: out.stdout.strip(), "FINOPS_PROJECT": "other", "FINOPS_MODEL": "m"})
    assert WorkloadResolver(Tags()).workload(seen, "GPU-1", "A100") == ("kronos & sons", "quant", "m", "")


def test_keys_that_are_not_configured_and_values_that_are_no_query_are_left_out() -> None:
    source = SessionTags(Tags(keys=("team",)))
    assert source.tags(facts(session_environ({"project": "p", "team": "t"})), "GPU-1", "A100") == {"team": "t"}
    for value in ("", "team", "=&=", "&".join(f"team={i}" for i in range(101))):
        assert not SessionTags(Tags()).tags(facts({VARIABLE: value}), "GPU-1", "A100")


def test_undecodable_bytes_of_an_argument_do_not_stop_the_command() -> None:
    argument = os.fsdecode(b"kronos-\xff")
    assert session_environ({"project": argument}) == {VARIABLE: "project=kronos-%FF"}
    assert SessionTags(Tags()).tags(facts(session_environ({"project": argument})), "GPU-1", "A100") == {
        "project": "kronos-\N{REPLACEMENT CHARACTER}"
    }


def test_a_session_inside_another_is_part_of_both_and_no_other() -> None:
    outer = session_id_environ("aa", {})
    inner = session_id_environ("bb", outer)
    assert (outer, inner) == ({ID_VARIABLE: "aa"}, {ID_VARIABLE: "aa/bb"})
    assert in_session(inner, "aa")
    assert in_session(inner, "bb")
    assert not in_session(outer, "bb")
    assert not in_session(inner, "a")
    assert not in_session({}, "aa")
