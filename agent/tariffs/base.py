"""What a kilowatt-hour costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from agent.files.stamps import Stamp
from agent.toml.document import Faults, Node


class Price(Struct, frozen=True, gc=False):
    """A price in force: rate + adders, with tax. 1e-18 currency units per kWh, so that no decimal price is rounded."""

    rate: str
    atto_per_kwh: int
    known: bool = True               # False: the price series does not reach this instant; nothing is priced then


class Tariff(Protocol):
    """Total: every instant has a price. Pure: the same instant (and kWh so far), the same price. Instants are integer
    nanoseconds of UTC, intervals half-open."""

    name: str
    currency: str                    # ISO 4217
    timezone: str                    # IANA

    def price_at(self, instant_ns: int, used_mj: int = 0) -> Price:
        """The price at an instant; ``used_mj`` is the site's energy since ``period_start`` (read by tiers only)."""

    def next_change(self, instant_ns: int) -> int:
        """The first instant after ``instant_ns`` at which time alone may change the price; FOREVER_NS for never."""

    def tier_end_mj(self, instant_ns: int, used_mj: int) -> int | None:
        """The ``used_mj`` at which the present tier ends; None where the price does not depend on use."""

    def period_start(self, instant_ns: int) -> int | None:
        """When the tier period around an instant began; None where there are no tiers."""


class Rate(Protocol):
    """What one name in a tariff's ``rates`` costs, before adders and tax. Pure, like the tariff."""

    @property
    def fallback(self) -> str | None:
        """The rate that stands in where this one has no price; None where nothing does, or it always has one."""

    def atto_at(self, instant_ns: int, used_mj: int) -> int | None:
        """Atto-units per kWh; None where it has no price."""

    def next_change(self, instant_ns: int) -> int:
        """As Tariff.next_change."""

    def tier_end_mj(self, used_mj: int) -> int | None:
        """As Tariff.tier_end_mj."""


class RateContext(Struct):
    """What reading a rate needs to know, and what it adds to."""

    currency: str                    # the tariff's; "" where it is at fault itself
    faults: Faults
    files: dict[Path, Stamp]         # every file that a rate reads


class RateKind(Struct, frozen=True):
    """One way to write a rate: an entry of TARIFF_KINDS. ``read`` is given what ``claims`` said yes to; it answers None,
    with a fault, where that is not good."""

    form: str                        # how it is written, for error sentences
    claims: Callable[[Node], bool]
    read: Callable[[Node, RateContext], Rate | None]
