"""Tags from a Slurm job's environment."""

from __future__ import annotations

from agent.model import ProcessFacts
from agent.settings import Tags
from agent.tags.slurm import SlurmTags

JOB = ProcessFacts(pid=1, start_ticks=1, environ={
    "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train-kronos", "SLURM_JOB_ACCOUNT": "quant-gpu", "SLURM_JOB_USER": "alice",
    "SLURM_JOB_PARTITION": "h100", "SLURM_JOB_QOS": "normal", "SLURM_CLUSTER_NAME": "shanghai",
})  # fmt: skip


def test_the_account_is_the_project_and_nothing_is_guessed() -> None:
    assert SlurmTags(Tags()).tags(JOB, "GPU-1", "A100") == {"project": "quant-gpu"}


def test_other_fields_answer_where_a_key_of_their_name_is_configured() -> None:
    keys = ("project", "user", "job_id", "job_name", "partition", "qos", "cluster", "reservation")
    assert SlurmTags(Tags(keys=keys)).tags(JOB, "GPU-1", "A100") == {
        "project": "quant-gpu", "user": "alice", "job_id": "4711", "job_name": "train-kronos", "partition": "h100",
        "qos": "normal", "cluster": "shanghai",
    }  # fmt: skip


def test_a_process_outside_a_job_has_no_tags() -> None:
    outside = ProcessFacts(pid=1, start_ticks=1, environ={"SLURM_JOB_ACCOUNT": "left-over"})
    assert SlurmTags(Tags()).tags(outside, "GPU-1", "A100") == {}
