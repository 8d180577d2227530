"""A place that readings come from."""

from __future__ import annotations

from typing import Protocol

from agent.model import Reading


class Source(Protocol):
    """What the probe holds. Used by one thread; every call may block for as long as the driver does."""

    def open(self) -> None:
        """Take hold of the devices. Raises SourceError with a sentence for the operator."""

    def read(self, sequence: int) -> Reading:
        """One look at every device. A device that fails is in the reading, with ``failed``; raises SourceError only
        when the whole source is gone, SourceEnded when a finite source has nothing further."""

    def close(self) -> None:
        """Let go of the driver, so that it can be unloaded. Safe to call twice."""
