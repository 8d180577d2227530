"""How long a machine was off, by the only clock that runs through a shutdown: the wall's.

From the last reading before it to the machine's start, which is what the wall clock shows less what BOOTTIME does. It is asked
when the machine has been up for a while: a clock that was wrong at the start has been set right by then.
"""

from __future__ import annotations

import logging

from msgspec import Struct

from agent.units import NS_PER_HOUR, NS_PER_S

SETTLED_NS = 600 * NS_PER_S              # up for so long: the wall clock has been set
MOST_OFF_NS = 92 * 24 * NS_PER_HOUR      # more is a wrong clock, or a machine that was not in use

log = logging.getLogger(__name__)


class OffTime(Struct, frozen=True):
    """A span in which something was off, by the wall clock. ``uuid``: a device, or "" for the host."""

    uuid: str
    start_utc_ns: int
    end_utc_ns: int


def off_time(uuid: str, last_utc_ns: int, started_utc_ns: int) -> OffTime | None:
    """From the last reading to the machine's next start; None where the clock cannot have been right at both."""
    if 0 < started_utc_ns - last_utc_ns <= MOST_OFF_NS:
        return OffTime(uuid, last_utc_ns, started_utc_ns)
    log.warning("%s: last read at %d s of the wall clock, and the machine started at %d s: nothing is charged for the time in "
                "between", uuid or "host", last_utc_ns // NS_PER_S, started_utc_ns // NS_PER_S)
    return None
