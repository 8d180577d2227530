"""A tariff as CONTRACT.md's rules make it: a schedule of named rates, adders and tax, in versions that follow each other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from agent.calendar.periods import Period, period_at
from agent.model import FOREVER_NS
from agent.tariffs.base import Price, Rate
from agent.tariffs.levies import Levies
from agent.tariffs.schedule import Schedule

_UNKNOWN = Price("", 0, known=False)


class TariffVersion:
    """A tariff's terms from one date on. ``tier_period`` is None where no rate has tiers."""

    def __init__(self, starts_ns: int, schedule: Schedule, rates: Mapping[str, Rate], levies: Levies,
                 tier_period: str | None, zone: ZoneInfo) -> None:
        self.starts_ns = starts_ns
        self.levies = levies
        self.rates = rates
        self._schedule = schedule
        self._tier_period = tier_period
        self._zone = zone
        self._adders_atto = levies.adders_atto
        self._tax_numerator, self._tax_denominator = levies.tax_factor.as_integer_ratio()
        self._period = Period("", 0, 0)
        self._priced: dict[tuple[str, int], Price] = {}      # by rate and its bare price: most prices come again

    def rate_at(self, instant_ns: int) -> str:
        """The name of the rate that the rules give, whichever stands in for it."""
        return self._schedule.rate_at(instant_ns)

    def base_at(self, instant_ns: int, used_mj: int) -> tuple[str, int | None]:
        """The rate that prices an instant and its bare price, before adders and tax; None where it has none."""
        name = self._schedule.rate_at(instant_ns)
        rate = self.rates[name]
        atto = rate.atto_at(instant_ns, used_mj)
        while atto is None and rate.fallback is not None:
            name = rate.fallback
            rate = self.rates[name]
            atto = rate.atto_at(instant_ns, used_mj)
        return name, atto

    def price_at(self, instant_ns: int, used_mj: int) -> Price:
        name, base_atto = self.base_at(instant_ns, used_mj)
        if base_atto is None:
            return Price(name, 0, known=False)
        price = self._priced.get((name, base_atto))
        if price is None:
            if len(self._priced) >= 256:         # a price series would fill it with prices that never come again
                self._priced.clear()
            price = self._priced[name, base_atto] = Price(name, self._with_levies(base_atto))
        return price

    def next_change(self, instant_ns: int) -> int:
        change_ns = self._schedule.next_change(instant_ns)
        rate: Rate | None = self.rates[self._schedule.rate_at(instant_ns)]
        while rate is not None:
            change_ns = min(change_ns, rate.next_change(instant_ns))
            stand_in = rate.fallback if rate.atto_at(instant_ns, 0) is None else None
            rate = self.rates[stand_in] if stand_in is not None else None
        period = self._tier_period_at(instant_ns)
        return change_ns if period is None else min(change_ns, period.end_utc_ns)

    def tier_end_mj(self, instant_ns: int, used_mj: int) -> int | None:
        name, _ = self.base_at(instant_ns, used_mj)
        return self.rates[name].tier_end_mj(used_mj)

    def period_start(self, instant_ns: int) -> int | None:
        period = self._tier_period_at(instant_ns)
        return None if period is None else period.start_utc_ns

    def _tier_period_at(self, instant_ns: int) -> Period | None:
        if self._tier_period is None:
            return None
        period = self._period
        if not period.start_utc_ns <= instant_ns < period.end_utc_ns:
            period = self._period = period_at(self._tier_period, instant_ns, self._zone)
        return period

    def _with_levies(self, base_atto: int) -> int:
        """Rate + adders, times 1 + tax where it is not included; rounded to the atto-unit, half up."""
        taxed = (base_atto + self._adders_atto) * self._tax_numerator
        return (2 * taxed + self._tax_denominator) // (2 * self._tax_denominator)


class RuledTariff:
    """The versions of a tariff, in order. Before the first one begins no price is known."""

    def __init__(self, name: str, currency: str, timezone: str, versions: Sequence[TariffVersion]) -> None:
        """``versions``: at least one, by rising ``starts_ns``."""
        self.name = name
        self.currency = currency
        self.timezone = timezone
        self.versions = tuple(versions)
        self._starts_ns = [version.starts_ns for version in versions]

    def version_at(self, instant_ns: int) -> TariffVersion | None:
        """The terms in force; None before the first version."""
        at = bisect_right(self._starts_ns, instant_ns)
        return self.versions[at - 1] if at else None

    def price_at(self, instant_ns: int, used_mj: int = 0) -> Price:
        version = self.version_at(instant_ns)
        return version.price_at(instant_ns, used_mj) if version else _UNKNOWN

    def next_change(self, instant_ns: int) -> int:
        at = bisect_right(self._starts_ns, instant_ns)
        until_ns = self._starts_ns[at] if at < len(self._starts_ns) else FOREVER_NS
        return min(until_ns, self.versions[at - 1].next_change(instant_ns)) if at else until_ns

    def tier_end_mj(self, instant_ns: int, used_mj: int) -> int | None:
        version = self.version_at(instant_ns)
        return version.tier_end_mj(instant_ns, used_mj) if version else None

    def period_start(self, instant_ns: int) -> int | None:
        version = self.version_at(instant_ns)
        return version.period_start(instant_ns) if version else None
