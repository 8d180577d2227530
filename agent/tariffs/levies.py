"""What a tariff adds to its rates: adders per kWh, tax, and the charges of a bill that no kWh carries."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from msgspec import Struct


class Adder(Struct, frozen=True, gc=False):
    """A levy on every kWh."""

    name: str
    atto_per_kwh: int


class Tax(Struct, frozen=True):
    """A tax on everything in the bill; ``included`` in the prices as written, or to be put on top."""

    rate: Fraction
    included: bool

    @property
    def factor(self) -> Fraction:
        """What a price as written is multiplied by."""
        return Fraction(1) if self.included else 1 + self.rate


class DemandCharge(Struct, frozen=True):
    """A price per kW of the highest mean over windows in a calendar month; with ``when``, of windows that begin while
    one of these rates is in force."""

    name: str
    per_kw_month: Decimal
    window_ns: int
    when: frozenset[str]


class FixedCharge(Struct, frozen=True):
    """A charge per local day or calendar month, whatever is used."""

    name: str
    price: Decimal
    per: str                                     # day or month


class Levies(Struct, frozen=True):
    """All of them, of one version of a tariff."""

    adders: tuple[Adder, ...] = ()
    tax: Tax | None = None
    demand: tuple[DemandCharge, ...] = ()
    fixed: tuple[FixedCharge, ...] = ()

    @property
    def adders_atto(self) -> int:
        return sum(adder.atto_per_kwh for adder in self.adders)

    @property
    def tax_factor(self) -> Fraction:
        return self.tax.factor if self.tax else Fraction(1)
