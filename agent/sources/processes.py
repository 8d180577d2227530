"""Which process a PID on a device is, from tick to tick, at one system call a tick however many there are."""

from __future__ import annotations

import contextlib
import os
import resource
import select

from agent.model import ProcessCpu, ProcessFacts
from agent.sources.procfs import Procfs

KEEP_READS = 60                 # a process that leaves its device is remembered for so many reads


class _Entry:
    __slots__ = ("pidfd", "seen", "start_ticks")

    def __init__(self, start_ticks: int, pidfd: int, seen: int) -> None:
        self.start_ticks, self.pidfd, self.seen = start_ticks, pidfd, seen


class ProcessTable:
    """PID to (PID, start time), and the facts of each process once.

    A descriptor of every process (pidfd) tells when it exits, all of them through one epoll, so that a PID which is
    reused is told apart without reading /proc again. Past ``descriptor_cap``, or where the kernel gives no pidfd, the
    start time is read again in every tick.

    A read is ``begin()``, ``start_ticks(pid)`` for each PID on a device, ``finish()``.
    """

    def __init__(self, procfs: Procfs, descriptor_cap: int | None = None) -> None:
        self._procfs = procfs
        self._cap = _default_cap() if descriptor_cap is None else descriptor_cap
        self._entries: dict[int, _Entry] = {}
        self._by_pidfd: dict[int, int] = {}
        self._epoll = select.epoll()
        self._started: list[ProcessFacts] = []
        self._read = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def descriptors(self) -> int:
        """Pidfds held open."""
        return len(self._by_pidfd)

    def begin(self) -> None:
        """Start of a read: notice who has exited since the last."""
        self._read += 1
        self._started = []
        if self._by_pidfd:
            for pidfd, _ in self._epoll.poll(0, len(self._by_pidfd)):
                self._close(self._entries[self._by_pidfd[pidfd]])

    def start_ticks(self, pid: int) -> int:
        """The start time of the process that has this PID now; 0 where it is not visible."""
        entry = self._entries.get(pid)
        if entry is None:
            return self._meet(pid).start_ticks
        if entry.seen != self._read:
            if entry.pidfd < 0 and self._procfs.start_ticks(pid) != entry.start_ticks:
                return self._meet(pid).start_ticks
            entry.seen = self._read
        return entry.start_ticks

    def passed(self, pid: int, by_ticks: int) -> int:
        """The start time of the process that had this PID at a moment (clock ticks since boot) and is not on the device
        now: of one that was on a device in the last read or this, else of who has the PID now if it was there then. 0
        where neither is so: then it came and went unseen, or belongs to another PID namespace."""
        entry = self._entries.get(pid)
        if entry is not None and entry.start_ticks and self._read - entry.seen <= 1:
            return entry.start_ticks
        now = self._procfs.start_ticks(pid)
        return self.start_ticks(pid) if 0 < now <= by_ticks else 0

    def finish(self) -> tuple[ProcessFacts, ...]:
        """End of a read: the facts of the processes first met in it. Forgets those that have gone."""
        for pid, entry in list(self._entries.items()):
            if entry.seen != self._read and (entry.pidfd < 0 or self._read - entry.seen > KEEP_READS):
                self._close(entry)
                del self._entries[pid]
        started, self._started = tuple(self._started), []
        return started

    def cpu(self) -> tuple[ProcessCpu, ...]:
        """The CPU time of every process that the last read met: one look into /proc for each, so not on every tick."""
        return tuple(
            ProcessCpu(pid, entry.start_ticks, cpu_ns) for pid, entry in self._entries.items()
            if entry.seen == self._read and entry.start_ticks
            and (cpu_ns := self._procfs.cpu_ns(pid, entry.start_ticks)) is not None)

    def close(self) -> None:
        for entry in self._entries.values():
            self._close(entry)
        self._entries.clear()
        self._epoll.close()

    def _meet(self, pid: int) -> _Entry:
        """Descriptor first, then /proc: what /proc says of a process that exits in between is noticed at the next tick."""
        pidfd = -1
        if len(self._by_pidfd) < self._cap:
            with contextlib.suppress(OSError, AttributeError):
                pidfd = os.pidfd_open(pid)
        facts = self._procfs.facts(pid)
        entry = self._entries[pid] = _Entry(facts.start_ticks, -1, self._read)
        if pidfd >= 0:
            if facts.start_ticks:
                entry.pidfd = pidfd
                self._by_pidfd[pidfd] = pid
                self._epoll.register(pidfd, select.EPOLLIN)
            else:
                os.close(pidfd)
        self._started.append(facts)
        return entry

    def _close(self, entry: _Entry) -> None:
        if entry.pidfd >= 0:
            del self._by_pidfd[entry.pidfd]
            os.close(entry.pidfd)                          # leaves the epoll by itself
            entry.pidfd = -1


def _default_cap() -> int:
    """Three quarters of the descriptor limit, so that the driver and /proc always find one; at most 4,096."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(0, min(4096, soft * 3 // 4))
