"""Shares to money: cut at every price boundary, priced at the price then in force, in integer nano-units.

Components: ``energy`` (the site's tariff x PUE), ``hardware`` and ``maintenance`` (``pricebook.py``), or ``rent`` instead of
all three; and ``host`` (``host_cost.py``). What a division leaves over is carried to the next charge of the same device,
workload and component, so that charges sum to quantity x price to one nano-unit, however many ticks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from agent.model import FOREVER_NS, INCLUDED_IN_RENT, Charge, Share, TariffStatus, Workload
from agent.pricing.carbon import Carbon
from agent.pricing.host_cost import BY_GPU_TIME, HostPower, HostSpan, anybody, split_host
from agent.pricing.pricebook import Book, price_device
from agent.settings import Hardware, Host
from agent.tariffs.base import Price, Tariff
from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR, energy_cost_nano, femto_per_hour, time_cost_nano

BUCKET_NS = NS_PER_HOUR // 4                     # the ledger's rows are at most this long
GRAMS_TO_UG = 1_000_000
UNLIMITED_MJ = 2**63 - 1
PERIODS_KEPT = 64                                # of tiers; more than a tick spans
STRETCHES_KEPT = 64                              # the shares of a tick ask for the same ones

CarryKey = tuple[str, Workload, str, str]        # uuid, workload, component, currency
Slot = tuple[int, int]                           # [start, end) of a ledger row


class _Stretch(Struct, frozen=True, gc=False):
    """A time in which neither the tariff nor the carbon intensity changes, and what holds in it."""

    start_ns: int
    end_ns: int
    slot: Slot                       # the part of a quarter of an hour with one price that it lies in
    period_ns: int | None            # when its tier period began; None where no price depends on the use so far
    price: Price | None              # the energy's, PUE included; None without a tariff, and with tiers
    carbon: tuple[int, int]          # g/kWh as (numerator, denominator); of no denominator where it is not known


class _Block(Struct, frozen=True, gc=False):
    """The tier that was in force last: from how much use on, up to how much, and the price, PUE included."""

    stretch: _Stretch
    from_mj: int
    end_mj: int
    price: Price


class _Piece(Struct, frozen=True, gc=False):
    """A part of a span in which no price changes, and the slot that it lies in."""

    start_ns: int
    end_ns: int
    energy_mj: int
    time_ns: int
    slot: Slot
    stretch: _Stretch


class EnergyPrice(Struct, frozen=True, gc=False):
    """What a kWh at a device costs in [start, end): PUE included, and 0 where no price is known."""

    start_utc_ns: int
    end_utc_ns: int
    rate: str
    atto_per_kwh: int
    known: bool


class Pricing:
    """Prices shares. Holds the carries, and the site's energy in the tier period where the tariff has tiers."""

    def __init__(self, tariff: Tariff | None, tariff_name: str, pue: Decimal, hardware: Sequence[Hardware],
                 carbon_g_per_kwh: Carbon | None, carries: Mapping[CarryKey, int],
                 used_mj: Callable[[int], int] = lambda since_ns: 0, host: Host | None = None) -> None:
        """``used_mj(since_utc_ns)`` gives the site's energy since an instant; asked once a tier period."""
        self._tariff = tariff
        self._tariff_name = tariff_name
        self._pue_numerator, self._pue_denominator = pue.as_integer_ratio()
        self._hardware = hardware
        self._carbon = carbon_g_per_kwh
        self._carries = dict(carries)
        self._emission_carries: dict[tuple[str, Workload], int] = {}
        self._used_since = used_mj
        self._used_mj: dict[int, int] = {}           # by begin of the tier period
        self._books: dict[str, Book] = {}
        self._host = host
        self._host_power = HostPower(host) if host is not None and host.price_per_hour is None else None
        self._stretch = _Stretch(0, 0, (0, 0), None, None, (0, 0))
        self._stretches: dict[int, _Stretch] = {}    # by an instant that was asked for
        self._block = _Block(self._stretch, 0, 0, Price("", 0))

    @property
    def currency(self) -> str:
        """The site's currency; empty without a tariff."""
        return self._tariff.currency if self._tariff else ""

    @property
    def tariff_name(self) -> str:
        """Of the site's tariff; empty without one."""
        return self._tariff_name

    @property
    def carries(self) -> Mapping[CarryKey, int]:
        return self._carries

    def status(self, instant_ns: int) -> TariffStatus | None:
        """The price in force at an instant, None without a tariff or where it does not know one."""
        if self._tariff is None:
            return None
        period_ns = self._stretch_around(instant_ns).period_ns
        price = self._tariff.price_at(instant_ns, 0 if period_ns is None else self._used_in(period_ns))
        if not price.known:
            return None
        return TariffStatus(tariff=self._tariff_name, rate=price.rate, currency=self._tariff.currency,
                            price_atto_per_kwh=price.atto_per_kwh, until_utc_ns=self._tariff.next_change(instant_ns))

    def nano_per_hour(self, instant_ns: int, power_mw: int, device_name: str, share: tuple[int, int]) -> int | None:
        """What goes on being spent at a power, with ``share`` = (part, whole) of the device's time, in nano-units an
        hour of the site's currency, without the host. None where the energy's price is unknown."""
        book = self._book(device_name)
        part, whole = share
        femto = 0
        for hourly in book.hourly:
            price = hourly.price.at(instant_ns)
            if price is None:
                return None
            femto += price if hourly.currency == self.currency else 0
        nano = femto * part // (whole * 1_000_000) if whole else 0
        if not book.rented:
            energy = self._price(self._stretch_around(instant_ns))
            if energy is None or not energy.known:
                return None
            nano += _power_nano_per_hour(energy, power_mw)
        return nano

    def host_nano_per_hour(self, instant_ns: int, shares: Sequence[Share], cpu_ns: Mapping[Workload, int],
                           cpu_ratio: float | None) -> dict[tuple[str, Workload], int | None]:
        """What goes on being spent for the host, in nano-units an hour of the site's currency: by UUID and workload, divided as
        ``charge_host`` divides it, and summing to the host's price. None where that is unknown. A host that is priced in
        another currency has no part, as other components in one have none."""
        host = self._host
        if host is None or not shares:
            return {}
        nano: int | None = None
        if host.price_per_hour is not None:
            if (host.currency or self.currency) != self.currency:
                return {}
            nano = femto_per_hour(host.price_per_hour) // 1_000_000
        elif self._host_power is not None:
            price = self._price(self._stretch_around(instant_ns))
            if price is not None and price.known:
                nano = _power_nano_per_hour(price, self._host_power.power_mw(cpu_ratio))
        parts: dict[tuple[str, Workload], int | None] = {}
        for share, part in split_host(NANO if nano is None else nano, shares, cpu_ns)[0]:
            key = (share.uuid, share.workload)
            parts[key] = None if nano is None else (parts.get(key) or 0) + part
        return parts

    def charge(self, share: Share, device_name: str) -> list[Charge]:
        """The charges of one share: for each piece between boundaries, the energy and each hourly component."""
        charges: list[Charge] = []
        book = self._book(device_name)
        for piece in self._pieces(share.start_utc_ns, share.end_utc_ns, share.energy_mj, share.gpu_ns, book):
            rent_known = True
            for hourly in book.hourly:
                price = hourly.price.at(piece.start_ns)
                if price is None:
                    rent_known = False
                elif price:
                    charges.append(self._over_time(share, hourly.component, hourly.currency, hourly.rate, price, piece,
                                                   piece.time_ns))
            self._charge_energy(charges, share, book, piece, rent_known=rent_known)
        return charges

    def charge_off(self, share: Share, device_name: str) -> list[Charge]:
        """The charges for a device whose machine was off, by a share without energy: what is owed for every hour of the wall
        clock."""
        book = self._book(device_name)
        prices = [(hourly, piece, hourly.price.at(piece.start_ns))
                  for piece in self._pieces(share.start_utc_ns, share.end_utc_ns, 0, share.gpu_ns, book)
                  for hourly in book.hourly if hourly.owed_off]
        return [self._over_time(share, hourly.component, hourly.currency, hourly.rate, price, piece, piece.time_ns)
                for hourly, piece, price in prices if price]

    def charge_host_off(self, shares: Sequence[tuple[Share, str]]) -> list[Charge]:
        """The same for the host, by shares of its devices with their NVML names: where it has a price by the hour, and one of
        them is not rented by the hour."""
        owed = [share for share, name in shares
                if not self._book(name).rented or any(hourly.owed_off for hourly in self._book(name).hourly)]
        if not owed or self._host is None or self._host.price_per_hour is None:
            return []
        return self.charge_host(HostSpan(owed[0].start_utc_ns, owed[0].end_utc_ns, watched=False), owed, {}, None)

    def energy_prices(self, start_ns: int, end_ns: int) -> list[EnergyPrice]:
        """The prices that energy has in a span, one after the other; in the tier that the site's energy has reached."""
        found = []
        for piece in self._pieces(start_ns, end_ns, 0, 0, Book()):
            price = self._price(piece.stretch)
            known = price is not None and price.known
            found.append(EnergyPrice(piece.start_ns, piece.end_ns, price.rate if price is not None and known else "",
                                     price.atto_per_kwh if price is not None and known else 0, known))
        return found

    def charge_host(self, span: HostSpan | None, shares: Sequence[Share], cpu_ns: Mapping[Workload, int],
                    cpu_ratio: float | None) -> list[Charge]:
        """The charges of the host in a tick, over the shares of all its devices. By power it is priced as energy is, and only
        where the tariff knows a price; its energy is in no share, and stays out of the devices' counters."""
        host = self._host
        if host is None or span is None or not shares:
            return []
        charges: list[Charge] = []
        host_mj = self._host_power.energy_mj(span, cpu_ratio) if self._host_power is not None else 0
        hourly = femto_per_hour(host.price_per_hour) if host.price_per_hour is not None else 0
        for piece in self._pieces(span.start_utc_ns, span.end_utc_ns, host_mj, span.end_utc_ns - span.start_utc_ns, Book()):
            parts, told = split_host(piece.energy_mj if self._host_power is not None else piece.time_ns, shares, cpu_ns)
            mark = "" if told or not anybody(shares) else BY_GPU_TIME
            if self._host_power is None:
                charges += [self._over_time(share, "host", host.currency or self.currency, mark, hourly, piece, part)
                            for share, part in parts]
                continue
            price = self._price(piece.stretch)
            if price is not None and price.known:
                rate = ", ".join(filter(None, (price.rate, mark)))
                charges += [self._over_energy(share, "host", rate, price.atto_per_kwh, piece, part)
                            for share, part in parts]
        return charges

    def _over_time(self, share: Share, component: str, currency: str, rate: str, price: int, piece: _Piece,
                   time_ns: int) -> Charge:
        key = (share.uuid, share.workload, component, currency)
        cost, carry = time_cost_nano(time_ns, price, self._carries.get(key, 0))
        self._carries[key] = carry
        return Charge(uuid=share.uuid, workload=share.workload, component=component, currency=currency, tariff="", rate=rate,
                      price=price, start_utc_ns=piece.start_ns, end_utc_ns=piece.end_ns, energy_mj=0, gpu_ns=0,
                      cost_nano=cost, carry=carry, state=share.state, slot_utc_ns=piece.slot)

    def _over_energy(self, share: Share, component: str, rate: str, price: int, piece: _Piece, energy_mj: int) -> Charge:
        key = (share.uuid, share.workload, component, self.currency)
        cost, carry = energy_cost_nano(energy_mj, price, self._carries.get(key, 0))
        self._carries[key] = carry
        return Charge(uuid=share.uuid, workload=share.workload, component=component, currency=self.currency,
                      tariff=self._tariff_name, rate=rate, price=price, start_utc_ns=piece.start_ns, end_utc_ns=piece.end_ns,
                      energy_mj=0, gpu_ns=0, cost_nano=cost, carry=carry, state=share.state,
                      slot_utc_ns=piece.slot)

    def _charge_energy(self, charges: list[Charge], share: Share, book: Book, piece: _Piece, *, rent_known: bool) -> None:
        rest_mj, rest_ns = piece.energy_mj, piece.time_ns
        while True:
            part_mj, price = self._tier_part(piece.stretch, rest_mj)
            part_ns = rest_ns if part_mj == rest_mj else rest_ns * part_mj // rest_mj
            currency, tariff, rate, price_atto, cost, carry = "", "", "", 0, 0, 0
            if book.rented and rent_known:
                rate, currency = INCLUDED_IN_RENT, book.hourly[0].currency
            elif price is not None and price.known and not book.rented:
                currency, tariff, rate, price_atto = self.currency, self._tariff_name, price.rate, price.atto_per_kwh
                key = (share.uuid, share.workload, "energy", currency)
                cost, carry = energy_cost_nano(part_mj, price_atto, self._carries.get(key, 0))
                self._carries[key] = carry
            charges.append(Charge(
                uuid=share.uuid, workload=share.workload, component="energy", currency=currency, tariff=tariff,
                rate=rate, price=price_atto, start_utc_ns=piece.start_ns, end_utc_ns=piece.end_ns, energy_mj=part_mj,
                gpu_ns=part_ns, cost_nano=cost, carry=carry, state=share.state, slot_utc_ns=piece.slot,
                emissions_ug=self._emissions(share, piece.stretch, part_mj)))
            rest_mj, rest_ns = rest_mj - part_mj, rest_ns - part_ns
            if rest_mj == 0:
                return

    def _price(self, stretch: _Stretch) -> Price | None:
        """The price in force, PUE included; in the tier that the site's energy has reached. None without a tariff."""
        return stretch.price if stretch.period_ns is None else self._block_at(stretch, self._used_in(stretch.period_ns)).price

    def _tier_part(self, stretch: _Stretch, energy_mj: int) -> tuple[int, Price | None]:
        """How much of the energy is still in the present tier, with its price."""
        if stretch.period_ns is None:
            return energy_mj, stretch.price
        used_mj = self._used_in(stretch.period_ns)
        block = self._block_at(stretch, used_mj)
        if self._scaled(energy_mj) > block.end_mj - used_mj:
            energy_mj = max(1, min(energy_mj, (block.end_mj - used_mj) * self._pue_denominator // self._pue_numerator))
        self._used_mj[stretch.period_ns] += self._scaled(energy_mj)
        return energy_mj, block.price

    def _block_at(self, stretch: _Stretch, used_mj: int) -> _Block:
        block = self._block
        if (block.stretch is not stretch or not block.from_mj <= used_mj < block.end_mj) and self._tariff is not None:
            end_mj = self._tariff.tier_end_mj(stretch.start_ns, used_mj)
            price = self._grossed(self._tariff.price_at(stretch.start_ns, used_mj))
            block = self._block = _Block(stretch, used_mj, UNLIMITED_MJ if end_mj is None else end_mj, price)
        return block

    def _used_in(self, period_ns: int) -> int:
        """The site's energy in a tier period. Periods that were asked for are remembered: the shares of a tick that spans a
        period's begin go back and forth over it, and the ledger does not have that tick yet."""
        if period_ns not in self._used_mj:
            if len(self._used_mj) >= PERIODS_KEPT:
                del self._used_mj[next(iter(self._used_mj))]
            self._used_mj[period_ns] = self._used_since(period_ns)
        return self._used_mj[period_ns]

    def _scaled(self, energy_mj: int) -> int:
        return energy_mj * self._pue_numerator // self._pue_denominator

    def _with_pue(self, price_atto: int) -> int:
        return price_atto * self._pue_numerator // self._pue_denominator

    def _grossed(self, price: Price) -> Price:
        return Price(price.rate, self._with_pue(price.atto_per_kwh), price.known)

    def _emissions(self, share: Share, stretch: _Stretch, energy_mj: int) -> int:
        numerator, denominator = stretch.carbon
        if not denominator:
            return 0
        key = (share.uuid, share.workload)
        grains = self._scaled(energy_mj) * numerator * GRAMS_TO_UG // denominator + self._emission_carries.get(key, 0)
        emissions_ug, self._emission_carries[key] = divmod(grains, MJ_PER_KWH)
        return emissions_ug

    def _book(self, device_name: str) -> Book:
        book = self._books.get(device_name)
        if book is None:
            book = self._books[device_name] = price_device(device_name, self._hardware, self.currency)
        return book

    def _pieces(self, start_ns: int, end_ns: int, energy_mj: int, time_ns: int, book: Book) -> Iterator[_Piece]:
        """A span between the boundaries of slots and of the carbon intensity, evenly by time, summing to it."""
        while True:
            stretch = self._stretch_around(start_ns)
            slot, boundary_ns = stretch.slot, stretch.end_ns
            if book.changes:
                slot = _cut(*slot, start_ns, book.next_change)
                boundary_ns = min(boundary_ns, slot[1])
            if boundary_ns >= end_ns:
                break
            fraction, whole = boundary_ns - start_ns, end_ns - start_ns
            part_mj, part_ns = energy_mj * fraction // whole, time_ns * fraction // whole
            yield _Piece(start_ns, boundary_ns, part_mj, part_ns, slot, stretch)
            start_ns, energy_mj, time_ns = boundary_ns, energy_mj - part_mj, time_ns - part_ns
        yield _Piece(start_ns, end_ns, energy_mj, time_ns, slot, stretch)

    def _stretch_around(self, instant_ns: int) -> _Stretch:
        """From an instant on, or a little before it, for as long as nothing changes: the last one, or one of those that were
        asked for lately, as most calls are near. Carbon cuts charges only: it has no part in a row's price."""
        stretch = self._stretch
        if not stretch.start_ns <= instant_ns < stretch.end_ns:
            found = self._stretches.get(instant_ns)
            if found is None:
                if len(self._stretches) >= STRETCHES_KEPT:
                    self._stretches.clear()
                found = self._stretches[instant_ns] = self._stretch_from(instant_ns)
            stretch = self._stretch = found
        return stretch

    def _stretch_from(self, instant_ns: int) -> _Stretch:
        start_ns = instant_ns - instant_ns % BUCKET_NS
        slot, period_ns, price, carbon, end_ns = (start_ns, start_ns + BUCKET_NS), None, None, (0, 0), FOREVER_NS
        if self._tariff is not None:
            slot = _cut(*slot, instant_ns, self._tariff.next_change)
            period_ns = self._tariff.period_start(instant_ns)
            price = self._grossed(self._tariff.price_at(instant_ns)) if period_ns is None else None
        if self._carbon is not None:
            carbon, end_ns = self._carbon(instant_ns).as_integer_ratio(), self._carbon.next_change(instant_ns)
        return _Stretch(instant_ns, min(slot[1], end_ns), slot, period_ns, price, carbon)


def _power_nano_per_hour(price: Price, power_mw: int) -> int:
    # mW for an hour = 3 600 000 mJ, a thousandth of a kWh's 3.6e9 mJ
    return price.atto_per_kwh * power_mw // (1_000_000 * 1_000_000_000)


def _cut(start_ns: int, end_ns: int, instant_ns: int, next_change: Callable[[int], int]) -> Slot:
    """The part of a slot between two price changes that an instant lies in. Every step begins at the slot's start, so that
    each instant in the part finds the same one, in whatever order they come."""
    while (change_ns := next_change(start_ns)) <= instant_ns:
        start_ns = change_ns
    return start_ns, min(end_ns, change_ns)
