"""Asks a running daemon for its snapshot over HTTP: what ``gpu-finops top`` shows."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Final

import msgspec

from agent.client.connection import DaemonClient
from agent.client.snapshot_shape import ToldSnapshot
from agent.errors import FinOpsError

_TIMEOUT_S: Final = 5.0
_WHOLE_TIMEOUT_S: Final = 8.0
_MOST_BYTES: Final = 64 * 2**20


class SnapshotClient:
    """Where a daemon listens, and how to ask it."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """``url``: http(s)://[NAME:PASSWORD@]HOST:PORT. Raises UsageError."""
        self._client = DaemonClient(url, ca_file)

    def ask(self) -> ToldSnapshot:
        """The snapshot's document. Raises FinOpsError with a sentence."""
        place = self._client.place
        with self._client.get("/api/v1/snapshot", _TIMEOUT_S) as answer:
            body = answer.read_within(_WHOLE_TIMEOUT_S, _MOST_BYTES)
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise FinOpsError(f"the daemon at {place} has nothing to show yet; try again in a few seconds")
        if answer.status != http.client.OK:
            raise FinOpsError(f"the daemon at {place} answers {answer.status} {answer.reason}; see its log")
        try:
            return msgspec.json.decode(body, type=ToldSnapshot)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FinOpsError(f"what answers at {place} is no gpu-finops of this version; name its address with --url"
                              ) from error
