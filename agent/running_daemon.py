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
_ONE_PROCESS = re.compile(rb"[1-9][0-9]{0,8}")


class RunningDaemon:
    """A process that holds the directory's lock. Raises FinOpsError where there is none, or it may not be looked at."""

    def __init__(self, state_dir: Path) -> None:
        lock = state_dir / "lock"
        try:
            descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise FinOpsError(f"{state_dir}: no daemon has run here; name its configuration with --config.file") from error
        except OSError as error:
            raise FinOpsError(f"{lock}: {error.strerror}; run this as the user that runs the daemon, or as root") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.pid = _pid(lock, os.read(descriptor, 32))
        else:
            raise FinOpsError(f"{state_dir}: no daemon runs here; start it with gpu-finops run")
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


def _pid(lock: Path, written: bytes) -> int:
    """The process that a lock names: one process, as kill(2) takes -1 and 0 for very many."""
    word = written.strip()
    if not _ONE_PROCESS.fullmatch(word):
        raise FinOpsError(f"{lock}: names no process ({word.decode('ascii', 'replace')!r}), so that none can be told; find the "
                          f"daemon with ps and send it {RELEASE.name} or {RESUME.name}")
    return int(word)
