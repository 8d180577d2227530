"""Tags from the environment that Slurm gives to the processes of a job.

The account that a job is charged to is its project: this is what Slurm means by it. The other fields answer only where a
tag key of their name is configured, for example ``keys = ["project", "user", "partition", "job_id"]``. Slurm knows
nothing of teams and models, so those keys are left to the other sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.model import ProcessFacts
from agent.settings import Tags

FIELDS: Mapping[str, str] = {
    "project": "SLURM_JOB_ACCOUNT",
    "account": "SLURM_JOB_ACCOUNT",
    "user": "SLURM_JOB_USER",
    "job_id": "SLURM_JOB_ID",
    "job_name": "SLURM_JOB_NAME",
    "partition": "SLURM_JOB_PARTITION",
    "qos": "SLURM_JOB_QOS",
    "reservation": "SLURM_JOB_RESERVATION",
    "cluster": "SLURM_CLUSTER_NAME",
}


class SlurmTags:
    """Reads the fields above, of processes that are in a job: SLURM_JOB_ID must be there."""

    def __init__(self, tags: Tags) -> None:
        self._variables = {key: FIELDS[key] for key in tags.keys if key in FIELDS}

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> Mapping[str, str]:
        environ = facts.environ
        if "SLURM_JOB_ID" not in environ:
            return {}
        return {key: environ[name] for key, name in self._variables.items() if name in environ}
