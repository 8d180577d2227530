"""Answers that are made while they are sent: an export may be larger than the memory there is, and take minutes.

A piece is made when the reader has taken the one before, on a thread of its own: between two pieces the event loop has the
interpreter to itself. One export at a time, so that neither threads nor open ledger transactions add up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from tornado.http1connection import HTTP1Connection

from exporters.connections import TrackedStream
from exporters.worker import QueueFullError, Worker

Pieces = Generator[bytes, None, None]


class Exports:
    """Makes the pieces of exports. Used from the event loop only."""

    def __init__(self) -> None:
        self._worker = Worker("exports", 2)      # a piece that nobody waits for any more, and the next export's first
        self._busy = False

    async def pieces(self, make: Callable[[], Pieces]) -> AsyncGenerator[bytes, None]:
        """What ``make`` yields, one piece each time it is asked for. Raises what it raises, and QueueFullError where another
        export is running. To be closed: that ends the generator too, on its own thread."""
        if self._busy:
            raise QueueFullError
        self._busy = True
        made: Pieces | None = None
        try:
            made = following = await self._worker.run(make)
            while (piece := await self._worker.run(lambda: next(following, None))) is not None:
                yield piece
        finally:
            if made is not None:
                self._worker.after(made.close)   # behind a piece that is still being made
            self._busy = False

    def close(self) -> None:
        """Let go of the thread."""
        self._worker.close()


async def send(connection: HTTP1Connection, stream: TrackedStream, first: bytes, rest: AsyncGenerator[bytes, None]) -> bool:
    """Write each piece when the reader has taken the one before. False where the reader is gone before the last."""
    if not await _taken(connection.write(first), stream):
        return False
    async for piece in rest:
        if not await _taken(connection.write(piece), stream):
            return False
    return True


async def _taken(written: asyncio.Future[None], stream: TrackedStream) -> bool:
    """Wait until what was written is in the kernel, or the connection closed: Tornado then forgets what it promised."""
    gone = asyncio.ensure_future(stream.gone.wait())
    try:
        either: set[asyncio.Future[Any]] = {written, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    stream.piece_taken()
    return not stream.closed()
