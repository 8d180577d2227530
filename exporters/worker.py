"""One thread for work that must not hold up the web server, and a bounded queue before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class QueueFullError(Exception):
    """There is as much waiting as may wait."""


class Worker:
    """Runs one call at a time on a thread of its own. ``run`` is called from the event loop only."""

    def __init__(self, name: str, most: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._most = most
        self._pending = 0

    async def run(self, call: Callable[[], Result]) -> Result:
        """The call's result or exception. Raises QueueFullError when ``most`` calls are running or waiting. A caller that is
        cancelled keeps its place in the queue until its call has run."""
        if self._pending >= self._most:
            raise QueueFullError
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, call)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def after(self, call: Callable[[], object]) -> None:
        """Have a call run after all that was asked for before, whatever room there is; nobody waits for it."""
        with contextlib.suppress(RuntimeError):              # closed: what runs, runs out by itself
            self._executor.submit(call)

    def _done(self, future: asyncio.Future[Result]) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()                   # seen, even if nobody waits any more

    def close(self) -> None:
        """Drop what waits; what runs, runs out by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
