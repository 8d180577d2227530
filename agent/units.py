"""The integers this program counts in, and the only places where they meet other units.

Energy is integer millijoules (mJ), time integer nanoseconds (ns), money integer nano-units of its currency
(1e-9 of a yuan, dollar, euro). Prices are integers too, fine enough that no configured price is rounded:

- price per kilowatt-hour: *atto-units* (1e-18 of the currency) per kWh;
- price per hour: *femto-units* (1e-15 of the currency) per hour.

With these scales ``quantity * price`` is an exact integer over one of two constant denominators, and what a division
leaves over (the *carry*) fits a signed 64-bit integer.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_US: Final = 1_000
NS_PER_HOUR: Final = 3_600 * NS_PER_S
MJ_PER_J: Final = 1_000
MJ_PER_KWH: Final = 3_600_000_000          # 1 kWh = 3.6e6 J
NANO: Final = 1_000_000_000                # nano-units in one unit of a currency
ATTO: Final = 10**18
FEMTO: Final = 10**15
HOURS_PER_YEAR: Final = 8_760              # the straight-line convention of CONTRACT.md; leap years too

ENERGY_COST_DENOMINATOR: Final = MJ_PER_KWH * (ATTO // NANO)      # mJ x atto-units/kWh over this = nano-units
TIME_COST_DENOMINATOR: Final = NS_PER_HOUR * (FEMTO // NANO)      # ns x femto-units/h over this = nano-units


def energy_cost_nano(energy_mj: int, price_atto_per_kwh: int, carry: int) -> tuple[int, int]:
    """Cost in nano-units of energy at a price, and the carry for the next call. Exact: costs so returned sum to
    energy x price rounded down to one nano-unit. ``carry`` is in 0 .. ENERGY_COST_DENOMINATOR - 1."""
    return divmod(energy_mj * price_atto_per_kwh + carry, ENERGY_COST_DENOMINATOR)


def time_cost_nano(duration_ns: int, price_femto_per_hour: int, carry: int) -> tuple[int, int]:
    """Cost in nano-units of time at an hourly price, and the carry for the next call; as ``energy_cost_nano``."""
    return divmod(duration_ns * price_femto_per_hour + carry, TIME_COST_DENOMINATOR)


def atto_per_kwh(price: Decimal) -> int:
    """A price per kWh in currency units as atto-units per kWh, half-even at 1e-18."""
    return int((price * ATTO).to_integral_value())


def femto_per_hour(price: Decimal) -> int:
    """A price per hour in currency units as femto-units per hour, half-even at 1e-15."""
    return int((price * FEMTO).to_integral_value())


def split_integer(total: int, weights: list[int]) -> list[int]:
    """Split ``total`` (of either sign) in proportion to non-negative integer ``weights``, by largest remainder.

    The parts are integers that sum to ``total`` exactly; each is within one of its exact proportion; equal remainders go
    to the earlier part. Weights that are all zero count as equal. Raises ValueError when there is no weight.
    """
    if not weights:
        raise ValueError("cannot split an amount over no weights")
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    parts = [total * weight // whole for weight in weights]
    missing = total - sum(parts)
    if missing:
        remainders = [total * weight % whole for weight in weights]
        largest_first = sorted(range(len(weights)), key=remainders.__getitem__, reverse=True)     # stable: the earlier first
        for i in largest_first[:missing]:
            parts[i] += 1
    return parts
