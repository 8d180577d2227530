"""The FOCUS export: what the specification asks, what its validator misses, and that money and energy are the ledger's."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from decimal import Decimal, localcontext
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.config.config import Config
from agent.ledger.file import FILE_NAME
from agent.ledger.focus import ChargeRow, charge_rows
from agent.units import NS_PER_S
from exporters.focus import NO_CURRENCY, Account, focus_rows
from exporters.focus_columns import COLUMNS
from tests.exporters.focus import books

Rows = list[dict[str, str]]
BERLIN = ZoneInfo("Europe/Berlin")

# The columns that FOCUS 1.2 makes mandatory, and whether it lets them be null; written down from the specification.
MANDATORY = {
    "BilledCost": False, "BillingAccountId": False, "BillingAccountName": True, "BillingCurrency": False,
    "BillingPeriodEnd": False, "BillingPeriodStart": False, "ChargeCategory": False, "ChargeClass": True,
    "ChargeDescription": True, "ChargePeriodEnd": False, "ChargePeriodStart": False, "ContractedCost": False,
    "EffectiveCost": False, "InvoiceIssuerName": False, "ListCost": False, "PricingQuantity": True, "PricingUnit": True,
    "ProviderName": False, "PublisherName": False, "ServiceCategory": False, "ServiceName": False,
}
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
KINDS = {
    "DECIMAL": re.compile(r"-?\d+\.\d+"), "DATETIME": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    "STRING": re.compile(r"(?s)\S.*"), "JSON": re.compile(r"(?s)\{.*\}"),
}


def instant(text: str) -> int:
    return int(dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC).timestamp()) * NS_PER_S


def ledger(config: Config, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(config.state_dir / FILE_NAME)) as db:
        return db.execute(sql).fetchall()


def sums(rows: Rows, column: str, *keys: str) -> dict[tuple[str, ...], Decimal]:
    found: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for row in rows:
        found[tuple(row[key] for key in keys)] += Decimal(row[column])
    return found


def test_the_header_has_every_mandatory_column_and_ours_last(exported: Path) -> None:
    header = exported.read_text().splitlines()[0].split(",")
    assert set(MANDATORY) <= set(header)
    assert len(set(header)) == len(header)
    standard = [name for name in header if not name.startswith("x_")]
    assert header == [*sorted(standard), *sorted(set(header) - set(standard))]
    assert all(re.fullmatch(r"(x_)?([A-Z][a-z]+)+", name) for name in header)


def test_every_cell_has_its_columns_type_and_only_nullable_ones_are_empty(rows: Rows) -> None:
    declared = {column.name: column for column in COLUMNS}
    assert {name: declared[name].nullable or MANDATORY[name] for name in MANDATORY} == MANDATORY
    for row in rows:
        for name, cell in row.items():
            assert (declared[name].nullable and cell == "") or KINDS[declared[name].kind].fullmatch(cell), (name, cell)


@pytest.mark.parametrize("column", COSTS)
def test_each_cost_column_sums_to_the_ledger(rows: Rows, config: Config, column: str) -> None:
    booked = {(str(uuid), str(component)): int(nano) for uuid, component, nano in ledger(
        config, "SELECT uuid, component, SUM(cost_nano) FROM usage GROUP BY uuid, component")}
    assert {key: int(total * 10**9) for key, total in sums(rows, column, "ResourceId", "x_Component").items()} == booked
    totals = ledger(config, "SELECT SUM(cost_nano) - SUM(credit_nano) FROM cost_total")
    assert sum(booked.values()) == totals[0][0]
    assert sum(booked.values()) > 0


@pytest.mark.parametrize(("column", "field", "unit"), [
    ("x_EnergyJoules", "energy_mj", 10**3), ("x_GpuSeconds", "gpu_ns", 10**9), ("x_EmissionsGrams", "emissions_ug", 10**6)])
def test_energy_time_and_emissions_sum_to_the_ledger(rows: Rows, config: Config, column: str, field: str, unit: int) -> None:
    (booked,), = ledger(config, f"SELECT SUM({field}) FROM workload_total")
    assert int(sum(Decimal(row[column]) for row in rows) * unit) == booked > 0


def test_list_cost_is_list_unit_price_times_quantity_to_the_last_digit(rows: Rows) -> None:
    priced = [row for row in rows if row["ListUnitPrice"]]
    assert {row["x_Component"] for row in priced} == {"energy", "hardware", "maintenance", "rent", "host"}
    with localcontext(prec=60):
        for row in priced:
            product = Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"])
            assert product.quantize(Decimal("1e-9")) == Decimal(row["ListCost"]), row
            assert row["ContractedUnitPrice"] == row["ListUnitPrice"]


def test_what_was_priced_is_what_was_consumed_to_a_nano_unit_worth(rows: Rows) -> None:
    for row in rows:
        if row["ChargeCategory"] == "Usage" and row["x_Component"] == "energy":
            consumed = Decimal(row["x_EnergyJoules"]) / 3_600_000
            assert abs(Decimal(row["ConsumedQuantity"]) - consumed) < Decimal("1e-17")
            assert abs(Decimal(row["PricingQuantity"]) - consumed) * Decimal(row["ListUnitPrice"]) < Decimal("1e-9")


def test_the_hours_of_hardware_are_the_hours_of_the_energys_rows(rows: Rows) -> None:
    hourly = [row for row in rows if row["x_Component"] in {"hardware", "rent"}]
    quantity = sums(hourly, "PricingQuantity", "ResourceId", "Tags")
    seconds = sums([row for row in rows if row["x_Component"] == "energy"], "x_GpuSeconds", "ResourceId", "Tags")
    assert quantity.keys() == seconds.keys()
    for key, hours in quantity.items():
        assert abs(hours - seconds[key] / 3600) < Decimal("1e-8")


def test_charge_periods_are_an_hour_at_most_and_cut_at_prices_pauses_and_the_sites_month(rows: Rows) -> None:
    kronos = [row for row in rows if row["x_Component"] == "energy" and row["SubAccountId"] == "project/kronos"]
    periods = [(row["ChargePeriodStart"][8:16], row["ChargePeriodEnd"][8:16], row["x_Rate"]) for row in kronos]
    assert periods == [
        ("30T20:00", "30T20:15", "market"), ("30T20:30", "30T21:00", "market"), ("30T21:00", "30T21:30", "market"),
        ("30T21:30", "30T22:00", "market"), ("30T22:00", "30T22:45", ""), ("30T22:45", "30T23:00", "night"),
        ("30T23:00", "30T23:15", "night"), ("30T23:30", "01T00:00", "night"), ("01T00:00", "01T01:00", "night"),
        ("01T01:00", "01T02:00", "night"), ("01T02:00", "01T03:00", "night")]
    for row in rows:
        start, end = instant(row["ChargePeriodStart"]), instant(row["ChargePeriodEnd"])
        assert 0 < end - start <= 3600 * NS_PER_S
        assert instant(row["BillingPeriodStart"]) <= start < end <= instant(row["BillingPeriodEnd"])
    # the site's June ends at 22:00 UTC
    assert {(row["BillingPeriodStart"], row["BillingPeriodEnd"]) for row in rows} == {
        ("2026-05-31T22:00:00Z", "2026-06-30T22:00:00Z"), ("2026-06-30T22:00:00Z", "2026-07-31T22:00:00Z")}


def test_a_month_that_begins_at_half_past_cuts_the_hour(config: Config) -> None:
    # St. John's is 2:30 behind UTC then
    rows = [row for row in charge_rows(config.state_dir, None, None, ZoneInfo("America/St_Johns"))
            if row.workload == books.KRONOS and row.component == "energy"]
    night = [(row.start_ns - books.START_NS, row.end_ns - books.START_NS) for row in rows[-2:]]
    assert night == [(minute * books.MINUTE_NS, (minute + 30) * books.MINUTE_NS) for minute in (360, 390)]
    assert all(row.month.start_utc_ns <= row.start_ns < row.end_ns <= row.month.end_utc_ns for row in rows)


def test_no_two_rows_charge_the_same_thing_twice(rows: Rows) -> None:
    names = ("ResourceId", "Tags", "x_Component", "x_Rate", "ChargePeriodStart")
    keys = Counter(tuple(row[name] for name in names) for row in rows)
    assert set(keys.values()) == {1}


def test_negative_prices_are_credits_without_a_unit_price(rows: Rows) -> None:
    credits = [row for row in rows if row["ChargeCategory"] == "Credit"]
    assert {row["ChargePeriodStart"] for row in credits} == {"2026-06-30T21:00:00Z"}
    assert all(Decimal(row["BilledCost"]) < 0 and not row["ListUnitPrice"] and not row["ConsumedQuantity"] for row in credits)
    # (-55.5 / 1000 + 0.0071) x 1.19 x 1.37
    assert {Decimal(row["x_UnitPrice"]) for row in credits} == {Decimal("-0.07890652")}
    assert all(Decimal(row["BilledCost"]) >= 0 for row in rows if row["ChargeCategory"] != "Credit")


def test_energy_without_a_price_is_there_and_claims_none(rows: Rows) -> None:
    unpriced = [row for row in rows if row["x_PriceStatus"] == "unpriced"]
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in unpriced} >= {
        ("2026-06-30T22:00:00Z", "2026-06-30T22:45:00Z")}
    for row in unpriced:
        assert Decimal(row["x_EnergyJoules"]) > 0
        assert (row["ChargeCategory"], row["BillingCurrency"], row["ListUnitPrice"], row["x_UnitPrice"]) == (
            "Adjustment", "EUR", "", "")
        assert "without a known price" in row["ChargeDescription"]


def test_energy_and_hardware_are_apart_and_each_service_has_one_category(rows: Rows) -> None:
    assert {row["x_Component"]: row["ServiceName"] for row in rows} == {
        "energy": "GPU energy", "hardware": "GPU hardware", "maintenance": "GPU maintenance", "rent": "GPU rent",
        "host": "Host"}
    assert {row["ServiceCategory"] for row in rows} == {"Compute"}
    assert {(row["x_Component"], row["PricingUnit"]) for row in rows if row["PricingUnit"]} == {
        ("energy", "kWh"), ("hardware", "Hours"), ("maintenance", "Hours"), ("rent", "Hours"), ("host", "kWh")}
    parents = {row["SkuPriceId"]: row["SkuId"] for row in rows}
    assert all(parents[row["SkuPriceId"]] == row["SkuId"] for row in rows)
    assert {(row["ResourceId"], row["ResourceType"]) for row in rows} == {
        (books.UUID, "GPU"), (books.RENTED, "GPU"), (books.MIG, "MIG instance")}
    rented = {row["x_PriceStatus"] for row in rows if row["ResourceId"] == books.RENTED and row["x_Component"] == "energy"}
    assert rented == {"included"}


def test_a_price_that_a_market_sets_is_dynamic(rows: Rows) -> None:
    assert {(row["x_Rate"], row["PricingCategory"]) for row in rows if row["ListUnitPrice"] and row["x_Rate"]} == {
        ("market", "Dynamic"), ("night", "Standard"), ("included in rent", "Standard"), ("spot", "Dynamic"),
        ("market, by GPU time", "Dynamic"), ("night, by GPU time", "Standard")}
    hosts = {row["SkuPriceId"] for row in rows if row["x_Component"] == "host"}
    assert hosts == {"host/energy/spot/market", "host/energy/spot/night"}


def test_a_host_priced_by_power_is_charged_the_kwh_that_it_drew(rows: Rows) -> None:
    night = [row for row in rows if row["x_Component"] == "host" and row["x_Rate"].startswith("night")]
    # 200 W + 0.3 x 300 W for the 4 h 15 min from 22:45, shared over three devices
    assert abs(sum(Decimal(row["ConsumedQuantity"]) for row in night) - Decimal("0.29") * Decimal("4.25")) < Decimal("1e-6")
    assert {Decimal(row["ListUnitPrice"]) for row in night} == {Decimal("0.35605752")}      # (0.2113 + 0.0071) x 1.19 x 1.37


def test_tags_are_what_was_given_and_no_cell_begins_a_formula(rows: Rows, exported: Path) -> None:
    tags = {row["ResourceId"]: set[str]() for row in rows}
    for row in rows:
        tags[row["ResourceId"]].add(row["Tags"])
    keys = ("project", "team", "model", "model_version")
    assert {frozenset(json.loads(text).items()) for text in tags[books.UUID]} == {
        frozenset(zip(keys, workload, strict=True)) for workload in (books.KRONOS, books.FORMULA)}
    assert tags[books.RENTED] == {'{"project":"__idle__"}'}
    assert tags[books.MIG] == {""}
    with exported.open(newline="") as lines:
        for cells in csv.reader(lines):
            assert not [cell for cell in cells if re.match(r"[=+@\t\r]|-(?!\d)", cell)]


def test_without_any_currency_the_code_for_none_stands_in(config: Config) -> None:
    account = Account(site="s", tag_keys=("project",), currency="", now_ns=0)
    rows = list(focus_rows(charge_rows(config.state_dir, None, None, BERLIN), account))
    assert {row["BillingCurrency"] for row in rows if row["x_PriceStatus"] == "unpriced"} == {NO_CURRENCY}


def test_a_span_is_half_open(config: Config) -> None:
    def read(start_ns: int | None, end_ns: int | None) -> list[ChargeRow]:
        return list(charge_rows(config.state_dir, start_ns, end_ns, BERLIN))

    middle_ns = books.START_NS + 45 * books.MINUTE_NS
    before, after = read(None, middle_ns), read(middle_ns, None)
    assert sum(r.cost_nano for r in [*before, *after]) == sum(r.cost_nano for r in read(None, None))
    assert max(r.end_ns for r in before) == middle_ns == min(r.start_ns for r in after)
