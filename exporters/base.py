"""A way out of the house."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

from msgspec import Struct

from agent.model import Snapshot


class Exporter(Protocol):
    """Shows snapshots to one kind of reader. ``publish`` is called once a tick from the tick's thread and returns at once."""

    @property
    def told(self) -> str:
        """One sentence for the log: what it does, and where."""

    @property
    def url(self) -> str:
        """Where it answers the API, as http(s)://HOST:PORT with the host it listens at; empty where it does not."""

    def start(self) -> None: ...

    def publish(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None: ...


class Hooks(Struct, frozen=True):
    """What an exporter may ask of the program around it. Each is called from the exporter's own threads.

    ``reload`` asks for the configuration to be read again and returns at once. ``ready`` tells whether costs are being
    served. ``usage`` answers a query (``from``, ``to``, ``by``) with what JSON can carry; it may take seconds, is called one
    at a time, and raises FinOpsError with a sentence for the asker. ``focus`` answers a query (``from``, ``to``) with a FOCUS
    dataset as CSV in small pieces; it is called, iterated and closed on one thread, and raises as ``usage`` does.
    """

    reload: Callable[[], None]
    ready: Callable[[], bool]
    usage: Callable[[Mapping[str, str]], Any]
    focus: Callable[[Mapping[str, str]], Generator[bytes, None, None]]
