"""The open connections of the web server: a deadline each, and a cap on their number.

A deadline covers a whole phase, so that a byte now and then buys no time: the TLS handshake and the first request from
``accept`` on, a later request from its first byte on, then the answer until its last byte is in the kernel (of an export
each piece, and the whole), then the idle time before the next request. At the cap the connection that has been longest
without a completed request is closed to let the new one in: a scraper is never turned away by others that hold connections.
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

from msgspec import Struct
from tornado.iostream import IOStream, SSLIOStream

from exporters.selfstatus import WebStatus

DESCRIPTOR_RESERVE = 128                         # for the ledger, the probe's pipes, tariff files, logs
FEWEST_CONNECTIONS = 8


class Limits(Struct, frozen=True, kw_only=True):
    """Caps and deadlines of the web server. Seconds are monotonic."""

    max_connections: int = 512
    receive_seconds: float = 10.0                # handshake and request
    total_seconds: float = 30.0                  # the same, and the answer
    keep_alive_seconds: float = 120.0            # two scrapes a minute keep one connection
    max_header_bytes: int = 16 * 1024
    max_body_bytes: int = 16 * 1024              # no endpoint reads a body
    max_queries: int = 8                         # /api/v1/usage: running and waiting
    export_seconds: float = 3600.0               # /api/v1/focus, whole; each piece of it has total_seconds
    max_password_checks: int = 16


class TrackedStream(IOStream):
    """A connection that tells its table of its first bytes and its end."""

    def __init__(self, *args: Any, table: ConnectionTable, **kwargs: Any) -> None:
        self._table = table
        self.opened = self.phase_began = time.monotonic()
        self.last_completed = 0.0                # 0: never
        self.serving = False                     # a whole request is here, its answer is not out yet
        self.idle = False                        # between requests
        self.deadline = self.opened + table.limits.receive_seconds
        self.gone = asyncio.Event()              # set when the connection is closed
        super().__init__(*args, **kwargs)
        table.streams.add(self)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        count = super().read_from_fd(buf)
        if count and self.idle:
            self.idle = False
            self.phase_began = time.monotonic()
            self.deadline = self.phase_began + self._table.limits.receive_seconds
        return count

    def request_received(self) -> None:
        """The request is whole; the answer has what is left of the total."""
        self.serving, self.idle = True, False
        self.deadline = self.phase_began + self._table.limits.total_seconds

    def piece_taken(self) -> None:
        """A piece of an export is in the kernel: the next one has its own time, within that of the whole."""
        limits = self._table.limits
        self.deadline = min(time.monotonic() + limits.total_seconds, self.phase_began + limits.export_seconds)

    def request_completed(self) -> None:
        """The answer's last byte is in the kernel: the connection may rest."""
        self.serving, self.idle = False, True
        self.last_completed = self.phase_began = time.monotonic()
        self.deadline = self.last_completed + self._table.limits.keep_alive_seconds

    def close_fd(self) -> None:
        self.gone.set()
        self._table.streams.discard(self)
        super().close_fd()


class TrackedTlsStream(TrackedStream, SSLIOStream):
    """The same over TLS; bytes count once they are decrypted."""


class ConnectionTable:
    """All open connections. Used from the server's thread only."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: set[TrackedStream] = set()
        self.evicted = self.timed_out = self.refused = 0
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = limits.max_connections if soft == resource.RLIM_INFINITY else soft - DESCRIPTOR_RESERVE
        self.cap = max(FEWEST_CONNECTIONS, min(limits.max_connections, room))

    def make_room(self) -> None:
        """Close what is over the cap, so that one more fits."""
        while len(self.streams) >= self.cap:
            longest = min(self.streams, key=lambda s: (s.serving, s.last_completed, s.opened))
            self.evicted += 1
            longest.close()

    def close_overdue(self) -> None:
        """Close each connection whose deadline has passed."""
        now = time.monotonic()
        for stream in [s for s in self.streams if now > s.deadline]:
            self.timed_out += 1
            stream.close()

    def status(self) -> WebStatus:
        """The counts, for the metrics."""
        return WebStatus(connections=len(self.streams), evicted=self.evicted, timed_out=self.timed_out,
                         refused=self.refused)
