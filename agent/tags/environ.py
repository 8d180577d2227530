"""Tags that a process carries in its environment: ``FINOPS_`` and the key in capitals."""

from __future__ import annotations

from collections.abc import Mapping

from agent.model import ProcessFacts
from agent.settings import Tags

PREFIX = "FINOPS_"


def variable(key: str) -> str:
    """The environment variable that holds a tag key: ``model_version`` is in FINOPS_MODEL_VERSION."""
    return PREFIX + key.upper()


class EnvironTags:
    """Reads FINOPS_PROJECT, FINOPS_TEAM and so on, one for each configured key."""

    def __init__(self, tags: Tags) -> None:
        self._variables = {key: variable(key) for key in tags.keys}

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> Mapping[str, str]:
        environ = facts.environ
        return {key: environ[name] for key, name in self._variables.items() if name in environ}
