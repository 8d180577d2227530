"""The ledger's charges as rows of a FOCUS 1.2 dataset (FinOps Open Cost and Usage Specification).

Costs are the ledger's own nano-units, so that every cost column sums to the ledger. ``docs/decisions/focus.md`` has the why.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from decimal import Context, Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent.ledger.focus import ChargeRow
from agent.model import INCLUDED_IN_RENT
from agent.pricing.host_cost import BY_GPU_TIME
from agent.units import MJ_PER_KWH, NS_PER_S
from exporters.focus_columns import QUANTITY_SCALE

NO_CURRENCY: Final = "XXX"                       # ISO 4217: no currency is involved
_EXACT: Final = Context(prec=80)
_NANO: Final = Decimal(1).scaleb(-9)
_QUANTUM: Final = Decimal(1).scaleb(-QUANTITY_SCALE)
_ATTO_PLACES, _FEMTO_PLACES = -18, -15

_SERVICES: Final = {
    "energy": "GPU energy", "hardware": "GPU hardware", "maintenance": "GPU maintenance", "rent": "GPU rent", "host": "Host",
}


class Account(Struct, frozen=True, kw_only=True):
    """Who charges whom: the site, its tag keys, and the currency that energy without a price would have had.

    ``dynamic`` has the (tariff, rate) pairs whose price a market sets; ``now_ns`` tells closed months from the present one.
    """

    site: str
    tag_keys: tuple[str, ...]
    currency: str
    now_ns: int
    dynamic: Collection[tuple[str, str]] = ()


def focus_rows(rows: Iterator[ChargeRow], account: Account) -> Iterator[dict[str, Any]]:
    """One mapping a row: column name to str, Decimal, datetime or None."""
    for row in rows:
        if row.component == "energy" or row.cost_nano or row.price:
            yield _focus_row(row, account)       # else: an hourly price of nothing, whose hours the energy's rows have


def _focus_row(row: ChargeRow, account: Account) -> dict[str, Any]:
    service = _SERVICES.get(row.component, row.component)
    by_energy = row.component == "energy" or bool(row.tariff)          # as Charge.price: a host may be priced by its power
    unit, meter = ("kWh", "Energy") if by_energy else ("Hours", "Time")
    status, category = _status(row)
    cost = Decimal(row.cost_nano).scaleb(-9, _EXACT)
    price = Decimal(row.price).scaleb(_ATTO_PLACES if by_energy else _FEMTO_PLACES, _EXACT)
    consumed = _consumed(row, cost, price)
    quantity = _priced_quantity(cost, price, consumed) if category == "Usage" and consumed is not None else None
    if category == "Usage" and quantity is None:
        status, category = "adjusted", "Adjustment"          # a cost that its price does not explain claims none
    usage = category == "Usage"
    unit_price = price if usage else None
    tags = {key: value for key, value in zip(account.tag_keys, row.workload, strict=False) if value}
    project = tags.get("project")
    sku = f"{row.component}/{meter.lower()}"
    if row.component not in {"energy", "host"}:
        sku += f"/{row.device_name or row.uuid}"
    rate = row.rate.removesuffix(BY_GPU_TIME).removesuffix(", ")       # the mark says how it was split, not what it costs
    return {
        "BilledCost": cost, "ContractedCost": cost, "EffectiveCost": cost, "ListCost": cost,
        "ListUnitPrice": unit_price, "ContractedUnitPrice": unit_price,
        "BillingAccountId": account.site, "BillingAccountName": account.site,
        "BillingCurrency": row.currency or account.currency or NO_CURRENCY,
        "BillingPeriodStart": _instant(row.month.start_utc_ns), "BillingPeriodEnd": _instant(row.month.end_utc_ns),
        "ChargePeriodStart": _instant(row.start_ns), "ChargePeriodEnd": _instant(row.end_ns),
        "ChargeCategory": category, "ChargeFrequency": "Usage-Based",
        "ChargeClass": "Correction" if row.correction and row.month.end_utc_ns <= account.now_ns else None,
        "ChargeDescription": _description(row, service, status),
        "CommitmentDiscountStatus": None,
        "ConsumedQuantity": consumed if usage else None, "ConsumedUnit": unit if usage else None,
        "PricingQuantity": quantity, "PricingUnit": unit if usage else None,
        "PricingCategory": ("Dynamic" if (row.tariff, rate) in account.dynamic else "Standard") if usage else None,
        "InvoiceId": None, "InvoiceIssuerName": account.site, "ProviderName": account.site, "PublisherName": account.site,
        "ResourceId": row.uuid, "ResourceName": row.device_name or None,
        "ResourceType": "MIG instance" if row.uuid.startswith("MIG-") else "GPU",
        "ServiceCategory": "Compute", "ServiceSubcategory": "Other (Compute)", "ServiceName": service,
        "SkuId": sku, "SkuMeter": meter, "SkuPriceId": "/".join(filter(None, (sku, row.tariff, rate))),
        "SkuPriceDetails": _json({"x_Tariff": row.tariff, "x_Rate": rate}) if row.tariff else None,
        # A cell that began with what a user wrote could begin with a spreadsheet's formula.
        "SubAccountId": f"project/{project}" if project else None, "SubAccountName": f"Project {project}" if project else None,
        "Tags": _json(tags) if tags else None,
        "x_Component": row.component, "x_Tariff": row.tariff or None, "x_Rate": row.rate or None,
        "x_EnergyJoules": Decimal(row.energy_mj).scaleb(-3, _EXACT), "x_GpuSeconds": Decimal(row.gpu_ns).scaleb(-9, _EXACT),
        "x_EmissionsGrams": Decimal(row.emissions_ug).scaleb(-6, _EXACT),
        "x_PriceStatus": status, "x_UnitPrice": None if status == "unpriced" else price,
    }


def _status(row: ChargeRow) -> tuple[str, str]:
    """What the price is, and the ChargeCategory that follows. A unit price may not be negative in FOCUS."""
    if row.correction:
        return "corrected", "Adjustment"
    if row.component == "energy" and not row.rate:
        return "unpriced", "Adjustment"
    if row.cost_nano < 0 or row.price < 0:
        return "credit", "Credit"
    if row.rate == INCLUDED_IN_RENT:
        return "included", "Usage"
    return "priced", "Usage"


def _consumed(row: ChargeRow, cost: Decimal, price: Decimal) -> Decimal | None:
    """kWh at the device; for all else the kWh or hours that the price was charged for. None where the price tells none."""
    if row.component == "energy":
        return _EXACT.divide(Decimal(row.energy_mj), Decimal(MJ_PER_KWH)).quantize(_QUANTUM, context=_EXACT)
    return _EXACT.divide(cost, price).quantize(_QUANTUM, context=_EXACT) if price else None


def _priced_quantity(cost: Decimal, price: Decimal, consumed: Decimal) -> Decimal | None:
    """The quantity whose product with the price is the cost, to the cost's last digit.

    The ledger hands on what a division leaves over, so a row's cost may be one nano-unit off price x energy: the quantity
    then differs from what was consumed by less than a nano-unit's worth. None where the cost is something else.
    """
    product = _EXACT.multiply(price, consumed)
    if product.quantize(_NANO, context=_EXACT) == cost:
        return consumed
    if price and abs(product - cost) < 2 * _NANO:
        return _EXACT.divide(cost, price).quantize(_QUANTUM, context=_EXACT)
    return None


def _description(row: ChargeRow, service: str, status: str) -> str:
    device = row.device_name or row.uuid
    text = {
        "unpriced": f"{service} on {device}, without a known price",
        "included": f"{service} on {device}, included in the rent",
        "credit": f"{service} on {device} at a negative price",
        "corrected": f"Correction by a re-rating: {service} on {device}",
        "adjusted": f"{service} on {device}, at more than one price",
    }.get(status, f"{service} on {device}")
    return f"{text}, rate {row.rate} of {row.tariff}" if row.tariff and row.rate else text


def _instant(moment_ns: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment_ns // NS_PER_S, dt.UTC)


def _json(values: dict[str, str]) -> str:
    return msgspec.json.encode(values).decode()
