"""What a device draws without doing work, learned from watching it: bare, and with contexts open.

While nobody holds a device and nothing runs, its mean power over ``STRETCH_NS`` is one observation of *bare* power; while
processes hold it and nothing runs, one of *held* power. The first ``SETTLE_NS`` after a change count for neither: clocks
fall slowly, and a driver's power is a mean over a second. The newest ``KEPT`` observations of each kind are kept, and what is
believed is a low quantile of them: work that was too short to be seen only ever adds to a mean, and does not move it.

The same observations give the same figure. It follows the device down with the first lower observation out of ten, and
up only when nearly all of the kept ones are higher. Held power is never below bare power: where it was seen to be,
the bare figure is lowered to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.model import EnergyInterval
from agent.units import NS_PER_S

log = logging.getLogger(__name__)

SETTLE_NS: Final = 5 * NS_PER_S
STRETCH_NS: Final = 10 * NS_PER_S
KEPT: Final = 64                     # about 11 minutes of quiet
QUANTILE: Final = 10                 # one part in so many of the observations may be lower

Quiet = Literal["bare", "held"]


class StaticPower(Struct, frozen=True, gc=False):
    """The two static parts of a device's power; None as long as it is not known."""

    bare_mw: int | None = None           # drawn whoever is there
    context_mw: int | None = None        # what open contexts add to it

    @property
    def calibrated(self) -> bool:
        """Whether both parts are known."""
        return self.bare_mw is not None and self.context_mw is not None


class Observations(Struct, frozen=True, omit_defaults=True):
    """What was observed of one device, oldest first. Kept in the ledger."""

    bare_mw: tuple[int, ...] = ()
    held_mw: tuple[int, ...] = ()

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def decode(encoded: bytes) -> Observations:
        """Raises msgspec.MsgspecError for what ``encode`` did not write."""
        return msgspec.json.decode(encoded, type=Observations)

    def with_observation(self, quiet: Quiet, power_mw: int) -> Observations:
        if quiet == "bare":
            return replace(self, bare_mw=(*self.bare_mw, power_mw)[-KEPT:])
        return replace(self, held_mw=(*self.held_mw, power_mw)[-KEPT:])

    def power(self) -> StaticPower:
        """What is believed. Without bare observations all of held power counts as the contexts': it cannot be told apart."""
        bare_mw, held_mw = _low(self.bare_mw), _low(self.held_mw)
        if held_mw is None:
            return StaticPower(bare_mw=bare_mw)
        if bare_mw is None:
            return StaticPower(context_mw=held_mw)
        bare_mw = min(bare_mw, held_mw)
        return StaticPower(bare_mw=bare_mw, context_mw=held_mw - bare_mw)


def _low(observations: tuple[int, ...]) -> int | None:
    return sorted(observations)[(len(observations) - 1) // QUANTILE] if observations else None


class _Stretch(Struct):
    """Quiet so far: time to settle, then energy and time of the observation."""

    quiet: Quiet
    settled_ns: int = 0
    energy_mj: int = 0
    elapsed_ns: int = 0


class StaticPowers:
    """Learns the static power of devices from their intervals. Holds one Observations a device."""

    def __init__(self, encoded: Mapping[str, bytes] | None = None) -> None:
        """``encoded`` is what ``encoded`` gave in an earlier life. One that cannot be read is learned anew."""
        self._observations: dict[str, Observations] = {}
        self._powers: dict[str, StaticPower] = {}
        self._encoded: dict[str, bytes] = {}
        self._held_mw: dict[str, int] = {}
        self._stretches: dict[str, _Stretch] = {}
        for uuid, state in (encoded or {}).items():
            try:
                self._keep(uuid, Observations.decode(state))
            except msgspec.MsgspecError as error:
                log.warning("%s: the learned idle power cannot be read (%s); it is learned anew", uuid, error)

    @property
    def encoded(self) -> Mapping[str, bytes]:
        """Every device's Observations, encoded, by UUID."""
        return self._encoded

    @property
    def held_mw(self) -> Mapping[str, int]:
        """Power with contexts open and nothing running, by UUID, where it is known."""
        return self._held_mw

    def power(self, uuid: str) -> StaticPower:
        """What is believed of a device; nothing, as long as it was never seen quiet."""
        return self._powers.get(uuid) or StaticPower()

    def observe(self, interval: EnergyInterval, quiet: Quiet | None) -> None:
        """Take up an interval at whose end the device was quiet in one of the two ways, or was not."""
        if quiet is None or interval.bridged or interval.gap_ns:
            self._stretches.pop(interval.uuid, None)
            return
        stretch = self._stretches.get(interval.uuid)
        if stretch is None or stretch.quiet != quiet:
            stretch = self._stretches[interval.uuid] = _Stretch(quiet)
        if stretch.settled_ns < SETTLE_NS:
            stretch.settled_ns += interval.elapsed_ns
            return
        stretch.energy_mj += interval.energy_mj
        stretch.elapsed_ns += interval.elapsed_ns
        if stretch.elapsed_ns >= STRETCH_NS:
            power_mw = stretch.energy_mj * NS_PER_S // stretch.elapsed_ns
            if power_mw:                 # no card draws nothing: the meter stood still
                known = self._observations.get(interval.uuid) or Observations()
                self._keep(interval.uuid, known.with_observation(quiet, power_mw))
            stretch.energy_mj = stretch.elapsed_ns = 0

    def _keep(self, uuid: str, observations: Observations) -> None:
        self._observations[uuid] = observations
        self._powers[uuid] = observations.power()
        self._encoded[uuid] = observations.encode()
        power = self._powers[uuid]
        if power.context_mw is not None:
            self._held_mw[uuid] = (power.bare_mw or 0) + power.context_mw
