"""A rate that is one number: the same price whenever its rule matches."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from agent.model import FOREVER_NS
from agent.tariffs.base import RateContext, RateKind
from agent.toml.document import Faults, Node
from agent.toml.table import plain_number
from agent.units import atto_per_kwh

HIGHEST_PRICE = 10**9                            # a price beyond this is a slip, in any currency


class FlatRate(Struct, frozen=True, gc=False):
    """``rates = { peak = 1.20 }``, in currency units per kWh."""

    atto_per_kwh: int

    @property
    def fallback(self) -> None:
        return None

    def atto_at(self, instant_ns: int, used_mj: int) -> int:
        return self.atto_per_kwh

    def next_change(self, instant_ns: int) -> int:
        return FOREVER_NS

    def tier_end_mj(self, used_mj: int) -> None:
        return None


def read_price(node: Node, faults: Faults) -> int | None:
    """A price per kWh as atto-units; None, with a fault, where it is not one."""
    price = plain_number(node.value)
    if price is None:
        faults.at(node, "is not a finite number; write the price of a kWh without quotes, such as 0.75")
        return None
    if abs(price) > HIGHEST_PRICE:
        faults.at(node, f"is {price}; write a price per kWh between -{HIGHEST_PRICE} and {HIGHEST_PRICE}")
        return None
    atto = atto_per_kwh(price)
    if price and not atto:
        faults.at(node, f"is {price:.3g}, finer than 1e-18; write the price of a kWh, 0 where it costs nothing")
        return None
    return atto


def _claims(node: Node) -> bool:
    return isinstance(node.value, int | Decimal) and not isinstance(node.value, bool)


def _read(node: Node, context: RateContext) -> FlatRate | None:
    atto = read_price(node, context.faults)
    return None if atto is None else FlatRate(atto)


KIND = RateKind(form="0.75", claims=_claims, read=_read)
