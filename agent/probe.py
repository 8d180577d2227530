"""The daemon's end of the probe: the child process that holds the driver, asked under a deadline and replaced when it fails.

A driver can hang in the kernel, where no signal reaches. So nothing here waits for the child beyond a deadline: one that
does not answer is killed and left behind, reaped whenever it does end, and another takes its place.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.clock import Clock
from agent.errors import ConfigError, SourceEnded, SourceError
from agent.model import Reading
from agent.probe_main import Opened, Trouble
from agent.sources import FINITE
from agent.units import NS_PER_MS, NS_PER_S

OPEN_DEADLINE_NS = 30 * NS_PER_S       # connecting wakes each GPU, which takes a second and more
FIRST_BACKOFF_NS = 1 * NS_PER_S
LAST_BACKOFF_NS = 60 * NS_PER_S
STEADY_NS = 60 * NS_PER_S              # a child that has worked so long is no part of a series of failures
FAREWELL_NS = 500 * NS_PER_MS          # time to close the driver after the pipe is closed
MAX_LEFT_BEHIND = 4                    # stuck children; more of them would not get a hung driver going
_MAX_REPLY_BYTES = 64 << 20

_log = logging.getLogger(__name__)
_ROOT = str(Path(__file__).resolve().parents[1])
# -P keeps the working directory off the path, where another package named "agent" may lie.
_BOOT = ("import sys; r = sys.argv.pop(1); r in sys.path or sys.path.insert(0, r); "
         "from agent.probe_main import main; sys.exit(main(sys.argv[1:]))")


class _Gone(Exception):
    """The child is not usable any more, and why."""


class Probe:
    """One source in a process of its own. Used from one thread; no call takes longer than the deadline it states."""

    def __init__(self, source: str, options: Mapping[str, Any], clock: Clock, deadline_ns: int = 2 * NS_PER_S,
                 open_deadline_ns: int = OPEN_DEADLINE_NS) -> None:
        self.restarts = 0                                  # children started in place of one that failed
        self.state = "waiting"                             # waiting, opening, ready, released, ended, closed
        self._command = [sys.executable, "-P", "-c", _BOOT, _ROOT, source, msgspec.json.encode(dict(options)).decode()]
        self._clock, self._deadline_ns, self._open_deadline_ns = clock, deadline_ns, open_deadline_ns
        self._child: _Child | None = None
        self._left_behind: list[subprocess.Popen[bytes]] = []
        self._sequence = 0
        self._started_ns = self._retry_ns = clock.monotonic_ns()
        self._backoff_ns = FIRST_BACKOFF_NS
        self._ever_read, self._finite = False, source in FINITE
        self._decoder = msgspec.json.Decoder(Reading)

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return None if self._child is None else self._child.process.pid

    @property
    def left_behind(self) -> int:
        """Children that were killed and have not ended: stuck in the kernel."""
        self._reap()
        return len(self._left_behind)

    def start(self) -> None:
        """Start the child. Does not wait for it: that it cannot open its source shows at the first read. Raises SourceError
        where the system has no process to give."""
        if self._child is None and self.state == "waiting":
            try:
                self._child = _Child(self._command)
            except OSError as error:
                raise SourceError(f"the probe's process cannot be started: {error}; look at the limits on processes, memory "
                                  f"and open files, and whether {sys.executable} is still there") from error
            self._sequence, self._started_ns, self.state = 0, self._clock.monotonic_ns(), "opening"

    def wait_open(self, timeout_ns: int = OPEN_DEADLINE_NS) -> bool:
        """Wait until the source is open; False where it is not by then. Raises SourceError with the child's sentence."""
        try:
            return self._opened(timeout_ns)
        except _Gone as gone:
            self._abandon(str(gone))
            return False

    def read(self) -> Reading | None:
        """Ask for a reading, and wait for it no longer than the deadline. None: there is no answer, and what was known
        is stale. Raises SourceEnded where the source is at its end. Until the first reading also SourceError and
        ConfigError, with the child's sentence, where the source cannot be opened or read; after it that sentence is logged
        and the answer is None, for a daemon that once worked goes on serving, save for a finite source. Later reads try
        again all the same."""
        asked_ns = self._clock.monotonic_ns()
        if not self._has_child(asked_ns):
            return None
        try:
            was_ready = self.state == "ready"
            if not self._opened(self._deadline_ns):
                return None
            remaining_ns = self._deadline_ns - (self._clock.monotonic_ns() - asked_ns)
            if was_ready or remaining_ns >= self._deadline_ns // 2:
                return self._answer(remaining_ns)
        except _Gone as gone:
            self._abandon(str(gone))
        except (SourceError, ConfigError) as error:
            if not self._ever_read or self.state == "ended":
                raise
            _log.warning("the source cannot be read: %s", error)
        return None                                        # where opening took the time, the next read asks in full

    def _has_child(self, now_ns: int) -> bool:
        """Whether there is a child to ask; starts one in place of one that failed when its time has come."""
        self._reap()
        if self.state in ("released", "closed", "ended"):
            return False
        if self._child is None:
            if now_ns < self._retry_ns or len(self._left_behind) >= MAX_LEFT_BEHIND:
                return False
            if not self._start_again():
                return False
            self.restarts += 1
        return True

    def _start_again(self) -> bool:
        """Start a child later than the first. Where the system gives none, say so and try again after a pause."""
        try:
            self.start()
        except SourceError as error:
            _log.warning("%s", error)
            self._postpone()
            return False
        return True

    def release(self) -> bool:
        """Let go of the driver: the child closes it and ends. False where the child is stuck and still holds it."""
        if self.state in ("closed", "ended"):
            return True
        self.state = "released"
        self._dismiss()
        return not self._left_behind

    def resume(self) -> None:
        """Take the driver up again after a release."""
        if self.state == "released":
            self.state, self._backoff_ns = "waiting", FIRST_BACKOFF_NS
            self._start_again()

    def close(self) -> None:
        """End the child, within a second; a stuck one is killed and left behind."""
        self.state = "closed"
        self._dismiss()

    def _opened(self, timeout_ns: int) -> bool:
        """Whether the child's source is open, by that time."""
        if self.state != "opening" or self._child is None:
            return self.state == "ready"
        line = self._child.line(timeout_ns, self._clock)
        if line is None:
            if self._clock.monotonic_ns() - self._started_ns >= self._open_deadline_ns:
                raise _Gone(f"it has not opened its source within {self._open_deadline_ns / NS_PER_S:g} s")
            return False
        self._raise_trouble(line)
        try:
            msgspec.json.decode(line, type=Opened)
        except msgspec.DecodeError as error:
            raise _Gone(f"it began with what no probe says: {error}") from None
        self.state = "ready"
        return True

    def _answer(self, timeout_ns: int) -> Reading:
        assert self._child is not None                     # noqa: S101  ready means so
        self._child.ask(self._sequence)
        line = self._child.line(timeout_ns, self._clock)
        if line is None:
            raise _Gone(f"it has not answered within {self._deadline_ns / NS_PER_S:g} s")
        self._raise_trouble(line)
        try:
            reading = self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise _Gone(f"it answered what is no reading: {error}") from None
        self._sequence += 1
        self._ever_read = True
        if self._clock.monotonic_ns() - self._started_ns >= STEADY_NS:
            self._backoff_ns = FIRST_BACKOFF_NS
        return reading

    def _raise_trouble(self, line: bytes) -> None:
        """Raises what the child says of its source; it ends after having said so."""
        if not line.startswith(b'{"error"'):
            return
        trouble = msgspec.json.decode(line, type=Trouble)
        self._dismiss()
        if trouble.kind == "ended":
            self.state = "ended"
            raise SourceEnded(trouble.error)
        self._postpone()
        if self._finite:
            self.state = "ended"
        raise ConfigError(trouble.error.split("\n")) if trouble.kind == "config" else SourceError(trouble.error)

    def _abandon(self, why: str) -> None:
        """Kill the child without waiting for it, and let another start after a pause."""
        if self._child is not None:
            _log.warning("the probe (PID %d) is replaced: %s", self._child.process.pid, why)
            self._left_behind.append(self._child.kill())
            self._child = None
        self._postpone()

    def _postpone(self) -> None:
        self.state = "waiting"
        self._retry_ns = self._clock.monotonic_ns() + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, LAST_BACKOFF_NS)

    def _dismiss(self) -> None:
        """Let the child end by itself for a moment, then kill it."""
        if self._child is not None:
            self._child.farewell()
            self._left_behind.append(self._child.kill())
            self._child = None
        for process in self._left_behind:
            _end_within(process, FAREWELL_NS // 5)         # one that is not stuck ends at once, and is reaped
        self._reap()

    def _reap(self) -> None:
        self._left_behind = [process for process in self._left_behind if process.poll() is None]


class _Child:
    """A process and its two pipes. Reads without blocking, and puts a line together from as many parts as it comes in."""

    def __init__(self, command: list[str]) -> None:
        # A process group of its own: Ctrl-C in a terminal is for the daemon, which then ends its child in order.
        self.process = subprocess.Popen(  # noqa: S603  our own interpreter and module; options go as one argument
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, close_fds=True, process_group=0)
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("Popen gave no pipes")
        self._requests, self._replies = self.process.stdin, self.process.stdout
        os.set_blocking(self._requests.fileno(), False)
        os.set_blocking(self._replies.fileno(), False)
        self._poll = select.poll()
        self._poll.register(self._replies.fileno(), select.POLLIN)
        self._parts: list[bytes] = []

    def ask(self, sequence: int) -> None:
        try:
            self._requests.write(b"%d\n" % sequence)
        except OSError as error:
            raise _Gone(f"it does not take requests any more ({error.strerror})") from None

    def line(self, timeout_ns: int, clock: Clock) -> bytes | None:
        """The next line, or None where it is not whole by then. Raises _Gone at the end of the pipe."""
        until_ns = clock.monotonic_ns() + timeout_ns
        size = 0
        while True:
            remaining_ns = until_ns - clock.monotonic_ns()
            if not self._poll.poll(max(0, -(-remaining_ns // NS_PER_MS))):
                return None
            part = os.read(self._replies.fileno(), 1 << 20)
            if not part:
                raise _Gone("it has ended by itself, or was killed")
            self._parts.append(part)
            size += len(part)
            if part.endswith(b"\n"):
                whole = b"".join(self._parts)
                self._parts.clear()
                return whole
            if size > _MAX_REPLY_BYTES or remaining_ns <= 0:
                raise _Gone("its answer does not come to an end")

    def farewell(self) -> None:
        """Close the pipe, at which the child closes its source and ends, and give it time for that."""
        self._requests.close()
        _end_within(self.process, FAREWELL_NS)

    def kill(self) -> subprocess.Popen[bytes]:
        """Kill it and close the pipes; never waits. What is returned is to be reaped some time."""
        self.process.kill()
        self._requests.close()
        self._replies.close()
        return self.process


def _end_within(process: subprocess.Popen[bytes], patience_ns: int) -> None:
    """Wait until a child has ended, but no longer."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return                                             # ended already, or a kernel without pidfds
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(patience_ns // NS_PER_MS)
    finally:
        os.close(pidfd)
