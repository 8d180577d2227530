"""The processes that readings have told about. A reading brings the facts of a process once; they are kept for as long as it
is on a device, and a little longer, for what the driver still tells of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.model import ProcessFacts, Reading

Key = tuple[int, int]                # PID, start time in clock ticks: names a process

KEPT_READINGS: Final = 120           # twice as long as the probe goes on without telling the facts again
RECENT_READINGS: Final = 15          # a row of the driver's comes at most so much later than its process was last there
MPS_SERVER: Final = "nvidia-cuda-mps-server"
MAX_ABSENT: Final = 8_192            # about 10 MB of facts; past that the first to have gone are forgotten sooner


class KnownProcesses:
    """Facts by process, and which process last had a PID. Bounded by the processes present, whatever comes and goes.

    ``mps_servers``: those through which other processes reach the device (CUDA MPS).
    """

    def __init__(self) -> None:
        self._facts: dict[Key, ProcessFacts] = {}
        self._left: dict[Key, int] = {}                   # those not on a device now -> the reading that told so
        self._newest: dict[int, Key] = {}                 # by PID
        self._reading = 0
        self.mps_servers: set[Key] = set()

    def __len__(self) -> int:
        return len(self._facts)

    def learn(self, reading: Reading) -> list[Key]:
        """Take up a reading, each once and in order. Returns the processes that are forgotten with it."""
        self._reading += 1
        for facts in reading.started:
            key = (facts.pid, facts.start_ticks)
            self._facts[key] = facts
            if _is_mps_server(facts):
                self.mps_servers.add(key)
            if facts.start_ticks or facts.pid not in self._newest:    # one that is not visible may be the known one's end
                self._newest[facts.pid] = key
        present = {(process.pid, process.start_ticks) for device in reading.devices for process in device.processes or ()}
        for key in self._facts.keys() - present - self._left.keys():
            self._left[key] = self._reading
        for key in self._left.keys() & present:
            del self._left[key]
        return self._forget()

    def facts(self, key: Key) -> ProcessFacts | None:
        return self._facts.get(key)

    @property
    def all(self) -> Mapping[Key, ProcessFacts]:
        return self._facts

    def recent(self, pid: int) -> Key | None:
        """The process that last had a PID, if it is on a device or has only just left it."""
        key = self._newest.get(pid)
        if key is None or self._reading - self._left.get(key, self._reading) > RECENT_READINGS:
            return None
        return key

    def _forget(self) -> list[Key]:
        gone: list[Key] = []
        for key, left in self._left.items():              # in the order in which they left
            if self._reading - left <= KEPT_READINGS and len(self._left) - len(gone) <= MAX_ABSENT:
                break
            gone.append(key)
        for key in gone:
            del self._left[key], self._facts[key]
            self.mps_servers.discard(key)
            if self._newest.get(key[0]) == key:
                del self._newest[key[0]]
        return gone


def _is_mps_server(facts: ProcessFacts) -> bool:
    return MPS_SERVER in facts.command and facts.command.split(" ", 1)[0].rpartition("/")[2] == MPS_SERVER
