"""What a load costs under a tariff: the bill that a utility would write, exact, as fractions until it is printed.

Conventions where tariffs leave room: demand windows count from the local midnight that begins the month; a window
counts for ``when`` by the rate at its start; the mean is over the part of a window inside the bill; demand and monthly
charges of a month that the bill covers in part are owed for that part of its time; where a new version begins within a
month, a charge that both have (by its name) is for the whole month's demand, each version's price for its part of the time;
a local day is one day, however long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from zoneinfo import ZoneInfo

from msgspec import Struct

from agent.calendar.periods import period_at
from agent.series_csv import Series
from agent.tariffs.levies import DemandCharge
from agent.tariffs.ruled import RuledTariff, TariffVersion
from agent.units import ATTO, MJ_PER_KWH, NANO, NS_PER_HOUR

_KWH = NANO * NS_PER_HOUR                        # nano-kW x ns in one kWh
_MJ = _KWH // MJ_PER_KWH


class Piece(Struct, frozen=True, gc=False):
    """A span of one version, one rate, one load. ``energy`` in nano-kW x ns; ``base_atto`` None: no price is known."""

    version: int
    rate: str
    base_atto: int | None
    energy: int


class BillLine(Struct, frozen=True):
    """One line. ``kind``: energy, adder, demand, fixed, tax; ``amount`` counts unless the tax is included already."""

    kind: str
    name: str
    quantity: Fraction
    unit: str
    price: Fraction | None                       # per unit; None where several prices were in force
    amount: Fraction
    included: bool = False


class Bill(Struct, frozen=True):
    """The lines and their sum, in currency units."""

    tariff: str
    currency: str
    timezone: str
    from_ns: int
    to_ns: int
    kwh: Fraction
    unpriced_kwh: Fraction                       # energy at times that the tariff has no price for: in no line
    lines: tuple[BillLine, ...]

    @property
    def total(self) -> Fraction:
        return sum((line.amount for line in self.lines if not line.included), Fraction(0))


class Load:
    """Power over time, in nano-kW; each row holds until the next, the last one on."""

    def __init__(self, rows: Series) -> None:
        self.starts_ns = rows.starts_ns
        self._nano_kw = [mantissa * 10 ** (9 - rows.decimals) for mantissa in rows.mantissas]

    def at(self, instant_ns: int) -> tuple[int, int | None]:
        """The power at an instant, and where the next row begins (None: it holds on)."""
        row = bisect_right(self.starts_ns, instant_ns)
        return self._nano_kw[row - 1], self.starts_ns[row] if row < len(self.starts_ns) else None

    def energy(self, from_ns: int, to_ns: int) -> int:
        """Over a span, in nano-kW x ns."""
        energy = 0
        while from_ns < to_ns:
            nano_kw, next_ns = self.at(from_ns)
            end_ns = to_ns if next_ns is None else min(to_ns, next_ns)
            energy += nano_kw * (end_ns - from_ns)
            from_ns = end_ns
        return energy


def make_bill(tariff: RuledTariff, load: Load, from_ns: int, to_ns: int, used_kwh: Fraction = Fraction(0)) -> Bill:
    """The bill of a half-open span. ``used_kwh``: what the tier period had used when the span begins. The load's first
    row must not begin after the span does."""
    pieces = list(_pieces(tariff, load, from_ns, to_ns, int(used_kwh * MJ_PER_KWH) * _MJ))
    unpriced = sum(piece.energy for piece in pieces if piece.base_atto is None)
    lines = _energy_lines(pieces)
    subtotals = [Fraction(0)] * len(tariff.versions)
    for piece in pieces:
        if piece.base_atto is not None:
            subtotals[piece.version] += Fraction(piece.energy * piece.base_atto, _KWH * ATTO)
    for at, version in enumerate(tariff.versions):
        priced = sum(p.energy for p in pieces if p.version == at and p.base_atto is not None)
        more = [] if priced == 0 else _adder_lines(version, Fraction(priced, _KWH))
        start_ns = max(from_ns, version.starts_ns)
        end_ns = min(to_ns, tariff.versions[at + 1].starts_ns) if at + 1 < len(tariff.versions) else to_ns
        if start_ns < end_ns:
            more += _standing_lines(tariff, version, load, (start_ns, end_ns), (from_ns, to_ns))
        lines += more
        subtotals[at] += sum((line.amount for line in more), Fraction(0))
    lines += _tax_lines(tariff, subtotals)
    kwh = Fraction(load.energy(from_ns, to_ns), _KWH)
    return Bill(tariff.name, tariff.currency, tariff.timezone, from_ns, to_ns, kwh, Fraction(unpriced, _KWH), tuple(lines))


def _pieces(tariff: RuledTariff, load: Load, from_ns: int, to_ns: int, used: int) -> Iterator[Piece]:
    period_ns, begun_ns, before = tariff.period_start(from_ns), from_ns, used
    while from_ns < to_ns:
        if tariff.period_start(from_ns) != period_ns:
            period_ns = tariff.period_start(from_ns)
            used = 0 if period_ns is None else load.energy(max(begun_ns, period_ns), from_ns)
            used += before if period_ns is not None and period_ns <= begun_ns else 0
        nano_kw, next_ns = load.at(from_ns)
        end_ns = min(to_ns, tariff.next_change(from_ns), to_ns if next_ns is None else next_ns)
        energy = nano_kw * (end_ns - from_ns)
        version = tariff.version_at(from_ns)
        if version is None:
            yield Piece(0, "", None, energy)
        while version is not None:
            limit_mj = tariff.tier_end_mj(from_ns, used // _MJ)
            part = energy if limit_mj is None else min(energy, limit_mj * _MJ - used)
            yield Piece(tariff.versions.index(version), *version.base_at(from_ns, used // _MJ), part)
            used, energy = used + part, energy - part
            if energy == 0:
                break
        from_ns = end_ns


def _energy_lines(pieces: list[Piece]) -> list[BillLine]:
    """A line a rate, in the order in which they come up."""
    by_rate: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.base_atto is not None:
            by_rate.setdefault(piece.rate, []).append(piece)
    lines = []
    for rate, found in by_rate.items():
        prices = {piece.base_atto for piece in found}
        price = next(iter(prices)) if len(prices) == 1 else None
        cost = sum(piece.energy * (piece.base_atto or 0) for piece in found)
        lines.append(BillLine("energy", rate, Fraction(sum(piece.energy for piece in found), _KWH), "kWh",
                              None if price is None else Fraction(price, ATTO), Fraction(cost, _KWH * ATTO)))
    return lines


def _adder_lines(version: TariffVersion, kwh: Fraction) -> list[BillLine]:
    return [BillLine("adder", adder.name, kwh, "kWh", Fraction(adder.atto_per_kwh, ATTO), kwh * adder.atto_per_kwh / ATTO)
            for adder in version.levies.adders]


def _standing_lines(tariff: RuledTariff, version: TariffVersion, load: Load, span_ns: tuple[int, int],
                    bill_ns: tuple[int, int]) -> list[BillLine]:
    """Demand and fixed charges of a version's span of a bill."""
    lines, zone = [], ZoneInfo(tariff.timezone)
    months = list(_periods("month", *span_ns, zone))
    billed = {name: (start_ns, end_ns) for name, _, start_ns, end_ns, _ in _periods("month", *bill_ns, zone)}
    for charge in version.levies.demand:
        for name, month_ns, _, _, share in months:
            peak_kw = _peak_kw(tariff, _same_charges(tariff, version, charge), load, month_ns, charge.window_ns, billed[name])
            price = Fraction(charge.per_kw_month) * share
            if peak_kw is not None:
                lines.append(BillLine("demand", f"{charge.name} {name}", peak_kw, "kW", price, peak_kw * price))
    for fixed in version.levies.fixed:
        spans = months if fixed.per == "month" else _periods("day", *span_ns, zone)
        count = sum((share for *_, share in spans), Fraction(0))
        price = Fraction(fixed.price)
        lines.append(BillLine("fixed", fixed.name, count, fixed.per, price, count * price))
    return lines


def _periods(kind: str, from_ns: int, to_ns: int, zone: ZoneInfo) -> Iterator[tuple[str, int, int, int, Fraction]]:
    """The calendar periods that a span touches: name, own start, start and end inside the span, part of it inside."""
    while from_ns < to_ns:
        period = period_at(kind, from_ns, zone)
        end_ns = min(to_ns, period.end_utc_ns)
        share = Fraction(end_ns - from_ns, period.end_utc_ns - period.start_utc_ns)
        yield period.name, period.start_utc_ns, from_ns, end_ns, share
        from_ns = end_ns


def _same_charges(tariff: RuledTariff, version: TariffVersion, charge: DemandCharge) -> dict[int, DemandCharge]:
    """The charge as each version has it, by where the version begins: of those with its name the one in the same place."""
    place = [other for other in version.levies.demand if other.name == charge.name].index(charge)
    named = {each.starts_ns: [other for other in each.levies.demand if other.name == charge.name] for each in tariff.versions}
    return {starts_ns: charges[place] for starts_ns, charges in named.items() if place < len(charges)}


def _peak_kw(tariff: RuledTariff, charges: dict[int, DemandCharge], load: Load, month_ns: int, window_ns: int,
             span_ns: tuple[int, int]) -> Fraction | None:
    """The highest mean over windows; None where none counts."""
    peak: Fraction | None = None
    from_ns, to_ns = span_ns
    while from_ns < to_ns:
        window_end_ns = month_ns + ((from_ns - month_ns) // window_ns + 1) * window_ns
        end_ns = min(to_ns, window_end_ns)
        version = tariff.version_at(from_ns)
        charge = charges.get(version.starts_ns) if version is not None else None
        if version is not None and charge is not None and (not charge.when or version.rate_at(from_ns) in charge.when):
            mean_kw = Fraction(load.energy(from_ns, end_ns), (end_ns - from_ns) * NANO)
            peak = mean_kw if peak is None else max(peak, mean_kw)
        from_ns = end_ns
    return peak


def _tax_lines(tariff: RuledTariff, subtotals: list[Fraction]) -> list[BillLine]:
    lines: dict[tuple[Fraction, bool], Fraction] = {}
    for version, subtotal in zip(tariff.versions, subtotals, strict=True):
        if (tax := version.levies.tax) is not None and subtotal:
            lines[tax.rate, tax.included] = lines.get((tax.rate, tax.included), Fraction(0)) + subtotal
    return [BillLine("tax", "tax, included" if included else "tax", base, "", rate,
                     base * rate / (1 + rate) if included else base * rate, included)
            for (rate, included), base in lines.items()]
