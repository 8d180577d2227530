"""The daemon that runs on a state directory, as other commands of the same machine see it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from pathlib import Path

from agent.errors import FinOpsError

RELEASE = signal.SIGUSR1             # let go of the driver
RESUME = signal.SIGUSR2              # take it up again
_ONE_PROCESS = re.compile(r"[1-9][0-9]{0,8}")

_MOST_BYTES = 4096


class NoDaemonError(FinOpsError):
    """Nobody holds the directory's lock."""


class RunningDaemon:
    """A process that holds the directory's lock. Raises NoDaemonError where there is none, FinOpsError where it may not be
    looked at. ``url``: where it answers; empty where it has not said so (yet, or because it is an older one)."""

    def __init__(self, state_dir: Path) -> None:
        lock = state_dir / "lock"
        try:
            descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NoDaemonError(f"{state_dir}: no daemon has run here; name its configuration with --config.file") from error
        except OSError as error:
            raise FinOpsError(f"{lock}: {error.strerror}; run this as the user that runs the daemon, or as root") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.pid, self.url = _left_word(descriptor, lock)
        else:
            raise NoDaemonError(f"{state_dir}: no daemon runs here; start it with gpu-finops run")
        finally:
            os.close(descriptor)

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        try:
            os.kill(self.pid, number)
        except PermissionError as error:
            raise FinOpsError(f"process {self.pid}: not yours to steer; run this as its user, or as root") from error
        except ProcessLookupError as error:
            raise FinOpsError(f"process {self.pid} has just ended") from error

    def children(self) -> list[int]:
        """Its probes: the one at work, and any that is stuck in the kernel."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError as error:
            raise FinOpsError(f"process {self.pid} has just ended") from error


def _left_word(descriptor: int, lock: Path) -> tuple[int, str]:
    """Process number and address, a line each. The number is one process's, as kill(2) takes -1 and 0 for very many."""
    word, _, rest = os.pread(descriptor, _MOST_BYTES, 0).decode("utf-8", "replace").partition("\n")
    if not _ONE_PROCESS.fullmatch(word.strip()):
        raise FinOpsError(f"{lock}: names no process ({word[:32]!r}), so that none can be told; find the "
                          f"daemon with ps and send it {RELEASE.name} or {RESUME.name}")
    url = rest.partition("\n")[0]
    return int(word), url if url.startswith(("http://", "https://")) else ""
