"""A way out of the house."""

from __future__ import annotations

from typing import Protocol

from agent.model import Snapshot


class Exporter(Protocol):
    """Shows snapshots to one kind of reader. ``publish`` is called once a tick from the tick's thread and returns at once."""

    def start(self) -> None: ...

    def publish(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None: ...
