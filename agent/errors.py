"""The errors that reach a person. Each carries one sentence: what was wrong, where, what to do instead."""

from __future__ import annotations


class FinOpsError(Exception):
    """Base of every error with a sentence for its reader. ``exit_status`` is what the command ends with."""

    exit_status = 1


class ConfigError(FinOpsError):
    """A configuration that cannot be used. ``faults`` has one line a fault: ``FILE:LINE: KEY: sentence``."""

    exit_status = 2

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class UsageError(FinOpsError):
    """A command called wrongly."""

    exit_status = 2


class SourceError(FinOpsError):
    """The device source as a whole cannot be opened or read (no driver, no permission, versions that differ)."""


class SourceEnded(FinOpsError):
    """A finite source (a replay) has no further reading. Not a failure."""


class LedgerError(FinOpsError):
    """The ledger cannot be opened, read or written."""
