"""A place that tags come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from agent.model import ProcessFacts


class TagSource(Protocol):
    """Pure: the same facts, the same tags. An unknown key is left out, never guessed."""

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> Mapping[str, str]:
        """The tag keys that this source knows for the process on that device, with their values."""
