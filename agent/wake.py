"""A pause that a signal or another thread can end at once."""

from __future__ import annotations

import contextlib
import os
import select

from agent.units import NS_PER_MS


class WakePipe:
    """Waits on a pipe. ``wake`` is safe from any thread and from signal handlers (see signal.set_wakeup_fd)."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def wake(self) -> None:
        """End the present or the next wait. A full pipe is already awake."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.writer, b"\0")

    def wait(self, timeout_ns: int) -> bool:
        """Wait at most that long; True when woken."""
        if not self._poll.poll(max(0, -(-timeout_ns // NS_PER_MS))):
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 512):
                pass
        return True

    def close(self) -> None:
        os.close(self._reader)
        os.close(self.writer)
