"""Who may charge what: ``[[tags.grant]]``."""

from __future__ import annotations

import re
from fnmatch import translate

from agent.model import ProcessFacts
from agent.settings import TagGrant


class Grants:
    """Without any grant every claim is good. With grants, a project is good for a process when one of them names it for the
    process's user and group. Globs, as in rules, but ``user = "*"`` is everybody, those whose user is not known included,
    who have nothing else. Where a tag came from makes no difference: a rule may go by a command line, and a command
    line says what its user likes."""

    def __init__(self, grants: tuple[TagGrant, ...]) -> None:
        self._grants = tuple([_Grant(grant) for grant in grants])

    def allow(self, facts: ProcessFacts, project: str) -> bool:
        """Whether the process may charge the project."""
        return not self._grants or any(grant.allows(facts, project) for grant in self._grants)


class _Grant:
    def __init__(self, grant: TagGrant) -> None:
        self._projects = [re.compile(translate(glob)) for glob in grant.projects]
        self._user = re.compile(translate(grant.user)) if grant.user is not None else None
        self._group = re.compile(translate(grant.group)) if grant.group is not None else None

    def allows(self, facts: ProcessFacts, project: str) -> bool:
        for glob, value in ((self._user, facts.user), (self._group, facts.group)):
            if glob is not None and glob.match(value) is None:
                return False
        return any(glob.match(project) for glob in self._projects)
