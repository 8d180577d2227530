"""Tags that the configuration gives to processes it describes: ``[[tags.rule]]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Final

from agent.model import ProcessFacts
from agent.settings import TagRule, Tags

_FIELDS: Final = ("user", "group", "command", "exe", "cwd", "cgroup", "unit")


class RuleTags:
    """The first rule that matches gives a key its value, key by key. A rule matches when all its globs do: ``*``, ``?``
    and ``[]``, upper and lower case told apart, over the whole value. ``gpu`` is matched with the UUID and with the NVML
    name. A fact that is not known matches no glob, not even ``*``."""

    def __init__(self, tags: Tags) -> None:
        self._rules = tuple([_Rule(rule) for rule in tags.rules])

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for rule in self._rules:
            if rule.matches(facts, gpu_uuid, gpu_name):
                for key, value in rule.tags.items():
                    found.setdefault(key, value)
        return found


class _Rule:
    """One rule, its globs compiled."""

    def __init__(self, rule: TagRule) -> None:
        self.tags = rule.tags
        globs = {name: getattr(rule, name) for name in _FIELDS}
        self._globs = {name: re.compile(translate(glob)) for name, glob in globs.items() if glob is not None}
        self._gpu = re.compile(translate(rule.gpu)) if rule.gpu is not None else None

    def matches(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> bool:
        if self._gpu is not None and not (self._gpu.match(gpu_uuid) or self._gpu.match(gpu_name)):
            return False
        for name, glob in self._globs.items():
            value: str = getattr(facts, name)
            if not value or glob.match(value) is None:
                return False
        return True
