"""A rate in blocks: its price depends on the site's kWh since the start of the tariff's tier period."""

from __future__ import annotations

from bisect import bisect_right

from msgspec import Struct

from agent.model import FOREVER_NS
from agent.tariffs.base import RateContext, RateKind
from agent.tariffs.flat import read_price
from agent.toml.document import Node
from agent.toml.table import Table
from agent.units import MJ_PER_KWH


class TieredRate(Struct, frozen=True):
    """``rates = { base = [{ upto = 3120, price = 0.617 }, { price = 0.677 }] }``: the kWh at a limit is in the block after."""

    limits_mj: tuple[int, ...]                   # rising; one fewer than the prices
    prices_atto: tuple[int, ...]

    @property
    def fallback(self) -> None:
        return None

    def atto_at(self, instant_ns: int, used_mj: int) -> int:
        return self.prices_atto[bisect_right(self.limits_mj, used_mj)]

    def next_change(self, instant_ns: int) -> int:
        return FOREVER_NS

    def tier_end_mj(self, used_mj: int) -> int | None:
        block = bisect_right(self.limits_mj, used_mj)
        return self.limits_mj[block] if block < len(self.limits_mj) else None


def _claims(node: Node) -> bool:
    return isinstance(node.value, list)


def _read(node: Node, context: RateContext) -> TieredRate | None:
    faults = context.faults
    limits_mj: list[int] = []
    prices_atto: list[int] = []
    if not node.value:
        faults.at(node, "has no block; write [{ upto = 3120, price = 0.617 }, { price = 0.677 }]")
        return None
    last = node.value[-1]
    for item in node.value:
        block = Table(item, faults)
        price_node = block.get("price")
        if price_node is None:
            block.missing("price", "price = 0.617")
        elif (price := read_price(price_node, faults)) is not None:
            prices_atto.append(price)
        upto_node, upto = block.get("upto"), block.number("upto", above=0, high=10**12)
        if upto_node is None and item is not last:
            block.missing("upto", "the kWh at which this block ends; only the last block has none")
        elif upto_node is not None and item is last:
            faults.at(upto_node, "ends the last block, so that kWh past it have no price; leave upto out of the last one")
        elif upto is not None:
            limit_mj = int(upto * MJ_PER_KWH)
            if limits_mj and limit_mj <= limits_mj[-1]:
                faults.at(item, f"ends at {upto} kWh, not after the block before; order the blocks by rising upto")
            limits_mj.append(limit_mj)
        block.close()
    if len(prices_atto) != len(node.value) or len(limits_mj) != len(node.value) - 1:
        return None
    return TieredRate(tuple(limits_mj), tuple(prices_atto))


KIND = RateKind(form="[{ upto = 3120, price = 0.617 }, { price = 0.677 }]", claims=_claims, read=_read)
