"""How far a sampled share may be off: the 95 % half-width of each workload's share over the last ten minutes.

The driver looks five or six times a second who is running. A share p told by n looks is off by about 1.96 x sqrt(p(1-p)/n),
95 times of 100. p and n are taken with two looks for and two against added (Agresti and Coull), because the plain formula
says 0 for a workload that was never or always seen. Looks that found a mixture are counted as if they had found one process:
the figure is then larger than need be, never smaller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import sqrt
from typing import Final

from agent.model import Workload
from agent.units import NS_PER_S

WINDOW_NS: Final = 600 * NS_PER_S
BUCKETS: Final = 20
_BUCKET_NS: Final = WINDOW_NS // BUCKETS
_Z: Final = 1.96

_Bucket = tuple[int, dict[Workload, int], list[int]]     # number, busy time by workload, [looks]


class ShareError:
    """The looks at one device in the last ten minutes: twenty sums, whatever the number of ticks."""

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque()
        self._busy: dict[Workload, int] = {}
        self._whole = 0
        self._looks = 0

    def add(self, boottime_ns: int, busy: Mapping[Workload, int], looks: int) -> None:
        """Take up the busy time of each workload, in any constant unit, that so many looks told."""
        self.expire(boottime_ns)
        number = boottime_ns // _BUCKET_NS
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append((number, {}, [0]))
        _, sums, counted = self._buckets[-1]
        for workload, part in busy.items():
            sums[workload] = sums.get(workload, 0) + part
            self._busy[workload] = self._busy.get(workload, 0) + part
            self._whole += part
        counted[0] += looks
        self._looks += looks

    def expire(self, boottime_ns: int) -> None:
        """Drop what is older than the window."""
        oldest = boottime_ns // _BUCKET_NS - BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            _, sums, counted = self._buckets.popleft()
            for workload, part in sums.items():
                self._busy[workload] -= part
                self._whole -= part
                if not self._busy[workload]:
                    del self._busy[workload]
            self._looks -= counted[0]

    def told(self, workload: Workload) -> bool:
        """Whether a look in the window found the workload on a device that others were on too."""
        return workload in self._busy

    def half_width(self, workload: Workload) -> float | None:
        """0 .. 1; None where no look was taken, and so nothing is known."""
        if not self._looks or not self._whole:
            return None
        looks = self._looks + 4
        share = (self._looks * self._busy.get(workload, 0) / self._whole + 2) / looks
        return _Z * sqrt(share * (1 - share) / looks)
