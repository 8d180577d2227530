"""Ticks between the pipeline and the ledger: gathered, flushed together, kept while the disk refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable

from agent.errors import LedgerError
from agent.ledger.batch import MAX_PENDING_ROWS, Batch
from agent.ledger.ledger import Ledger

log = logging.getLogger(__name__)


class Journal:
    """Holds what is not committed yet. A batch that failed is never added to: it may be in the file after all, and only
    an unchanged one can be recognised there. So at most two wait, the failed one and the next."""

    def __init__(self, ledger: Ledger, flush_interval_ns: int, committed: Callable[[Batch], None],
                 max_pending_rows: int = MAX_PENDING_ROWS) -> None:
        self._ledger = ledger
        self._interval_ns = flush_interval_ns
        self._committed = committed
        self._failed: Batch | None = None
        self._due_ns: int | None = None
        self._max_pending_rows = max_pending_rows
        self.batch = Batch(max_pending_rows)
        self.ok = True

    @property
    def full(self) -> bool:
        """Whether no further tick fits in. The meter then stands still, and the hardware counter keeps the energy."""
        return self.batch.full

    @property
    def queued_ticks(self) -> int:
        return self.batch.ticks + (self._failed.ticks if self._failed else 0)

    def flush_if_due(self, monotonic_ns: int, utc_ns: int) -> None:
        """Commit what waits, when the flush interval is over; the first tick with a charge at once."""
        waits = self.batch.usage if self._due_ns is None else self.batch.ticks
        if waits and (self._due_ns is None or monotonic_ns >= self._due_ns):
            self.flush(utc_ns)
            self._due_ns = monotonic_ns + self._interval_ns

    def flush(self, utc_ns: int) -> bool:
        """Commit what waits, oldest first. False, and everything kept, when the ledger refuses."""
        try:
            if self._failed is not None:
                self._commit(self._failed, utc_ns)
                self._failed = None
            if self.batch.ticks:
                batch, self.batch = self.batch, Batch(self._max_pending_rows)
                self._failed = batch
                self._commit(batch, utc_ns)
                self._failed = None
        except LedgerError as error:
            if self.ok:
                log.error("%s; sampling goes on, %d ticks wait in memory", error, self.queued_ticks)
            self.ok = False
            return False
        if not self.ok:
            log.info("%s: committing again, nothing was lost", self._ledger.path)
        self.ok = True
        return True

    def _commit(self, batch: Batch, utc_ns: int) -> None:
        self._ledger.commit(batch, utc_ns)
        self._committed(batch)
