"""Where tags come from: one file a source, one line in TAG_SOURCES."""

from __future__ import annotations

from collections.abc import Callable

from agent.settings import Tags
from agent.tags.base import TagSource
from agent.tags.environ import EnvironTags
from agent.tags.kubernetes import KubernetesTags
from agent.tags.rules import RuleTags
from agent.tags.session import SessionTags
from agent.tags.slurm import SlurmTags

TAG_SOURCES: dict[str, Callable[[Tags], TagSource]] = {
    "session": SessionTags,
    "environ": EnvironTags,
    "slurm": SlurmTags,
    "kubernetes": KubernetesTags,
    "rules": RuleTags,
}
