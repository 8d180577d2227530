"""Tags that ``gpu-finops exec`` gave to a command and to all that it starts.

They travel in one environment variable, which children inherit, as a URL query: ``project=kronos&team=quant``. So
nothing has to be registered, found again or cleaned up; and because the variable is another one than those that a
script sets for itself, what was said at ``exec`` goes before what the command says later. A process whose environment
was emptied on the way, or that a daemon outside the session starts (a container engine), is not in the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from agent.model import ProcessFacts
from agent.settings import Tags

VARIABLE = "FINOPS_SESSION_TAGS"
ID_VARIABLE = "FINOPS_SESSION_ID"        # one word a session, those of the sessions around it before it
_MOST_FIELDS = 100


def session_environ(tags: Mapping[str, str]) -> dict[str, str]:
    """What ``exec`` adds to the environment of its command. Undecodable bytes of an argument stay as they are."""
    return {VARIABLE: urlencode(tags, errors="surrogateescape")}


def session_id_environ(session_id: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What tells the processes of one ``exec`` from all others, one inside another included."""
    return {ID_VARIABLE: "/".join([word for word in (environ.get(ID_VARIABLE, ""), session_id) if word])}


def in_session(environ: Mapping[str, str], session_id: str) -> bool:
    """Whether a process with that environment was started in the session, or in one inside it."""
    return session_id in environ.get(ID_VARIABLE, "").split("/")


class SessionTags:
    """Reads what ``session_environ`` wrote. A value that is not a query tells nothing."""

    def __init__(self, tags: Tags) -> None:
        self._keys = frozenset(tags.keys)

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> Mapping[str, str]:
        query = facts.environ.get(VARIABLE)
        if not query:
            return {}
        try:
            fields = parse_qsl(query, strict_parsing=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return {}
        return {key: value for key, value in fields if key in self._keys}
