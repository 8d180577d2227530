"""The columns of a FOCUS 1.2 dataset that the agent writes: their order, types and whether they may be null.

Every mandatory column of the FinOps Open Cost and Usage Specification, those of its conditional ones that apply to GPUs in a
site of one's own, and ours (``x_``) last. ``docs/decisions/focus.md`` says what each holds.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from msgspec import Struct

FOCUS_VERSION: Final = "1.2"
COST_SCALE: Final = 9                # digits after the point: the ledger's nano-units
QUANTITY_SCALE: Final = 18           # the ledger's prices, and quantities fine enough to multiply with them
PRECISION: Final = 38


class Column(Struct, frozen=True):
    """``kind``: STRING, DECIMAL, DATETIME or JSON. ``scale`` is a decimal's digits after the point."""

    name: str
    kind: str = "STRING"
    nullable: bool = False
    scale: int = 0


def _cost(name: str) -> Column:
    return Column(name, "DECIMAL", scale=COST_SCALE)


def _quantity(name: str) -> Column:
    return Column(name, "DECIMAL", nullable=True, scale=QUANTITY_SCALE)


def _instant(name: str) -> Column:
    return Column(name, "DATETIME")


def _maybe(name: str) -> Column:
    return Column(name, nullable=True)


COLUMNS: Final = (
    _cost("BilledCost"), Column("BillingAccountId"), Column("BillingAccountName"), Column("BillingCurrency"),
    _instant("BillingPeriodEnd"), _instant("BillingPeriodStart"), Column("ChargeCategory"), _maybe("ChargeClass"),
    Column("ChargeDescription"), Column("ChargeFrequency"), _instant("ChargePeriodEnd"), _instant("ChargePeriodStart"),
    _maybe("CommitmentDiscountStatus"),    # always null; rules about ConsumedQuantity speak of it, and validators want to look
    _quantity("ConsumedQuantity"), _maybe("ConsumedUnit"), _cost("ContractedCost"), _quantity("ContractedUnitPrice"),
    _cost("EffectiveCost"), _maybe("InvoiceId"), Column("InvoiceIssuerName"), _cost("ListCost"), _quantity("ListUnitPrice"),
    _maybe("PricingCategory"), _quantity("PricingQuantity"), _maybe("PricingUnit"), Column("ProviderName"),
    Column("PublisherName"), Column("ResourceId"), _maybe("ResourceName"), Column("ResourceType"), Column("ServiceCategory"),
    Column("ServiceName"), Column("ServiceSubcategory"), Column("SkuId"), Column("SkuMeter"),
    Column("SkuPriceDetails", "JSON", nullable=True), Column("SkuPriceId"), _maybe("SubAccountId"), _maybe("SubAccountName"),
    Column("Tags", "JSON", nullable=True),
    Column("x_Component"), Column("x_EmissionsGrams", "DECIMAL", scale=6), Column("x_EnergyJoules", "DECIMAL", scale=3),
    Column("x_GpuSeconds", "DECIMAL", scale=9), Column("x_PriceStatus"), _maybe("x_Rate"), _maybe("x_Tariff"),
    _quantity("x_UnitPrice"),
)


def schema() -> list[dict[str, Any]]:
    """The columns as FOCUS metadata describes them."""
    found: list[dict[str, Any]] = []
    for column in COLUMNS:
        described: dict[str, Any] = {"ColumnName": column.name, "DataType": column.kind}
        if column.kind == "DECIMAL":
            described |= {"NumericPrecision": PRECISION, "NumberScale": column.scale}
        elif column.kind != "DATETIME":
            described["StringEncoding"] = "UTF-8"
        found.append(described | {"x_Nullable": column.nullable})
    return found


def schema_id() -> str:
    """A name that changes whenever a column does."""
    text = repr((FOCUS_VERSION, [(c.name, c.kind, c.nullable, c.scale) for c in COLUMNS]))
    return f"gpu-finops-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
