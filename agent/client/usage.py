"""Reads the ledger through its daemon: the same figures and bytes as its file gives."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec

from agent.client.connection import Answer, DaemonClient, DaemonError
from agent.errors import UsageError
from agent.ledger.query import UsageRow

_GREETING_S: Final = 5.0                                # a daemon that hangs is not waited for as long as one that works
_TIMEOUT_S: Final = 60.0                                # for each wait
OTHER_VERSION: Final = "start the daemon of this version, or use the command of that one"


class _Exact(msgspec.Struct, frozen=True):
    by: list[str]
    rows: list[UsageRow]


def ask_usage(client: DaemonClient, query: Mapping[str, str | None]) -> tuple[list[str], list[UsageRow]]:
    """Keys and rows, exact. Raises DaemonError, and UsageError for a question that the daemon refuses."""
    with _asked(client, "/api/v1/usage", {**query, "exact": "1"}) as answer:
        body = answer.read()
    try:
        document = msgspec.json.decode(body, type=_Exact)
    except msgspec.MsgspecError as error:
        raise DaemonError(f"what answers at {client.place} is no gpu-finops of this version", OTHER_VERSION) from error
    return document.by, document.rows


@contextlib.contextmanager
def ask_focus(client: DaemonClient, query: Mapping[str, str | None]) -> Iterator[Iterator[str]]:
    """The FOCUS dataset's CSV, line by line as it comes. Raises as ``ask_usage``, also for what breaks off on the way."""
    with _asked(client, "/api/v1/focus", query) as answer:
        yield answer.lines()


@contextlib.contextmanager
def _asked(client: DaemonClient, path: str, query: Mapping[str, str | None]) -> Iterator[Answer]:
    with client.get("/-/healthy", _GREETING_S) as greeting:
        greeting.read()
    given = urlencode({key: value for key, value in query.items() if value})
    with client.get(f"{path}?{given}" if given else path, _TIMEOUT_S) as answer:
        if answer.status == http.client.BAD_REQUEST:
            raise UsageError(_sentence(answer) or f"the daemon at {client.place} does not understand this version's question")
        if answer.status == http.client.NOT_FOUND:
            raise DaemonError(f"the daemon at {client.place} has no {path}: it is of another version", OTHER_VERSION)
        if answer.status != http.client.OK:
            why = _sentence(answer)
            raise DaemonError(f"the daemon at {client.place} answers {answer.status} {answer.reason}{why and f' ({why})'}",
                              "see its log")
        yield answer


def _sentence(answer: Answer) -> str:
    with contextlib.suppress(msgspec.MsgspecError, KeyError):
        return msgspec.json.decode(answer.read(), type=dict[str, str])["error"]
    return ""
