"""A command run in the foreground for its caller: signals go on to it, and its end is noticed at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from agent.errors import FinOpsError
from agent.units import NS_PER_S

# What a shell, a batch system or a service manager sends to the one process that it knows.
FORWARDED: Final = frozenset({
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
    signal.SIGXCPU})
_TAKEN: Final = FORWARDED | {signal.SIGCHLD}
_FROM_THE_KERNEL: Final = 0x80         # si_code SI_KERNEL: a terminal's signal, which its whole foreground group gets
_CANNOT_EXECUTE, _NOT_FOUND = 126, 127  # as shells and env(1) exit


class CannotStart(FinOpsError):
    """The command is not there, or cannot be executed."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Child:
    """One command, started by making this. Takes the signals of the whole process until ``close``: call it from a program
    with one thread.

    The signals stay blocked rather than caught, so that none is lost between two looks, and that each says where it comes
    from: what a terminal sends reaches the command by itself, and is not sent on a second time.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Raises CannotStart, with the status to exit with."""
        self.status: int | None = None       # what the caller's shell is to see: 0 .. 255, 128 + n after signal n
        self._chld = signal.signal(signal.SIGCHLD, signal.SIG_DFL)       # ignored, the kernel would not keep the status
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
        try:
            self.pid = os.posix_spawnp(
                command[0], list(command), dict(environ), setsigmask=self._mask,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])              # which Python ignores for itself
        except ValueError:
            self.close()
            raise CannotStart("the command is empty, or holds a NUL character; give a program", _NOT_FOUND) from None
        except OSError as error:
            self.close()
            missing = isinstance(error, FileNotFoundError)
            raise CannotStart(f"{command[0]}: cannot be started ({error.strerror}); " + (
                "give a program on the PATH, or its path" if missing else "give a program that this user may execute"),
                _NOT_FOUND if missing else _CANNOT_EXECUTE) from None

    def wait(self, timeout_ns: int) -> bool:
        """Wait at most that long, and not past a signal, which is sent on; True when the command has ended."""
        info = signal.sigtimedwait(_TAKEN, max(0, timeout_ns) / NS_PER_S) if self.status is None else None
        while info is not None:
            if info.si_signo != signal.SIGCHLD and info.si_code != _FROM_THE_KERNEL:
                with contextlib.suppress(ProcessLookupError, PermissionError):       # it has ended, or changed its user
                    os.kill(self.pid, info.si_signo)
            info = signal.sigtimedwait(_TAKEN, 0)
        return self.ended()

    def ended(self) -> bool:
        """Whether the command has ended."""
        if self.status is None:
            pid, raw = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(raw)
                self.status = code if code >= 0 else 128 - code
        return self.status is not None

    def close(self) -> None:
        """Give the signals back. Those that came after the command's end were meant for it, and are dropped."""
        while signal.sigtimedwait(_TAKEN, 0) is not None:
            continue
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.signal(signal.SIGCHLD, self._chld)
