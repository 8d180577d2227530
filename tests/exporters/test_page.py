"""The page for people: in a real browser, without scripts, and with names that are out to break it."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.model import IDLE as IDLE_PROJECT
from agent.model import BudgetStatus, WorkloadStatus
from agent.units import NANO
from exporters.page import page
from tests.exporters import snapshots
from tests.exporters.browser import dom_after
from tests.exporters.serving import ask, hooks


class Reader(HTMLParser):
    """Words, table rows, tags and attributes of a document; fails where tags do not pair up."""

    VOID = frozenset({"meta", "link", "br", "rect", "polyline", "!doctype"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open or "script" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_the_numbers_are_there_without_scripts():
    read = Reader(page(snapshots.fixed()))
    # Σ cost 79.40 less credit 0.25; one workload priced at 7.36 an hour; 412.5 W; 7.2 GJ and 1.5 J = 2 kWh.
    for expected in ("79.15 CNY", "7.36 CNY/h", "412 W", "2.00 kWh so far", "7.33 CNY", "9.3% of all cost", "1.2 CNY/kWh",
                     "cn-industrial, peak", "12,345.00 of 30,000.00 CNY", "41%", "130%", "forecast 21,000.00 CNY", "61.0 GiB",
                     "64 °C", "does not answer", "without a known price: 1."):
        assert expected in read.text
    assert read.rows == [
        ["project", "team", "model", "model version", "power", "per hour", "energy", "GPU time", "cost"],
        ["kronos", "quant", "kronos-base", "1.0", "300 W", "7.36/h", "1.39 kWh", "6.9 h", "51.42 CNY"],
        ["kronos", "quant", "kronos-small", "2.1", "112 W", "unpriced", "333.3 Wh", "3.1 h", "20.40 CNY"],
        ["idle: nobody on it", "", "", "", "\N{EN DASH}", "\N{EN DASH}", "277.8 Wh", "1.0 h", "7.33 CNY"],
        ["untagged processes", "", "", "", "\N{EN DASH}", "\N{EN DASH}", "1.5 J", "0.5 s", "under 0.0001 CNY"],
    ]
    assert "Simulated." not in read.text
    assert "Stale." not in read.text


def test_trouble_is_said():
    troubled = replace(snapshots.fixed(), simulated=True, stale=True,
                       agent=snapshots.agent(ledger_ok=False, queued_ticks=17, dropped_ticks=4, config_reload_success=False))
    text = Reader(page(troubled)).text
    for expected in ("Simulated. These GPUs do not exist", "Stale. The devices have not answered since 2026-11-22 00:00:00 UTC",
                     "Ledger. The last write failed. Readings that wait in memory: 17, dropped: 4.", "Configuration. ",
                     "gpu-finops check"):
        assert expected in text
    assert "412 W" not in text                   # present values of devices that do not answer
    assert "79.15 CNY" in text                   # committed totals stay


def test_an_empty_machine_has_a_page():
    text = Reader(page(snapshots.empty())).text
    assert "No GPU has been seen." in text
    assert "0 CNY" in text


def test_without_a_price_cost_is_unknown_and_never_zero():
    first = snapshots.uuid(0)
    totals = replace(snapshots.NO_TOTALS, energy_mj={(first, snapshots.KRONOS): 1_000})
    read = Reader(page(snapshots.empty(currency="", totals=totals)))
    assert read.rows[1][-1] == "\N{EN DASH}"
    assert "Cost so far \N{EN DASH}" in read.text
    assert "no tariff: set site.tariff" in read.text


def test_currencies_are_never_added_up():
    first = snapshots.uuid(0)
    totals = replace(snapshots.NO_TOTALS, cost_nano={(first, snapshots.KRONOS, "energy", "CNY"): 2 * NANO,
                                                     (first, snapshots.KRONOS, "rent", "USD"): 3 * NANO})
    read = Reader(page(snapshots.empty(totals=totals)))
    assert read.rows[1][-1] == "2.00 CNY + 3.00 USD"
    assert "2.00 CNY 3.00 USD" in read.text


@given(st.text(st.characters(codec="utf-8"), min_size=1) | st.sampled_from([
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</main></style></script>", "${main}", "&lt;",
    "' onload='x"]))
def test_names_from_outside_are_only_text(name):
    first = snapshots.uuid(0)
    workload = (name, name, name, name)
    harmless = Reader(page(snapshots.fixed()))
    hostile = Reader(page(replace(
        snapshots.fixed(), site=name, currency=name, driver_version=name, agent=snapshots.agent(version=name),
        devices=(snapshots.device(0, name=name, state=name, energy_method=name),),
        workloads=(WorkloadStatus(uuid=first, workload=workload, power_mw=1, memory_used_bytes=None, cost_nano_per_hour=1,
                                  method=name),),
        totals=replace(snapshots.NO_TOTALS, cost_nano={(first, workload, name, name): NANO},
                       waste_nano={(first, workload, name, name): NANO}),
        tariff=replace(snapshots.fixed().tariff, tariff=name, rate=name, currency=name),
        budgets=(BudgetStatus(name=name, period=name, currency=name, limit_nano=1, spent_nano=1, forecast_nano=1,
                              burn_ratio={}),))))
    assert hostile.tags <= harmless.tags
    assert {key for key, _ in hostile.attributes} <= {key for key, _ in harmless.attributes}


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tmp_path_factory.mktemp("chromium")


def test_a_browser_shows_it_and_keeps_it_fresh(serve, profile):
    exporter = serve(hooks(usage=lambda query: {"totals": [{"cost": 12.5, "currency": "CNY"}]} if "from" in query else {}))
    dom = dom_after(f"http://127.0.0.1:{exporter.port}/", profile, 8000)
    assert "data-error" not in dom
    assert 'data-live="2"' in dom                # fetched again every three seconds of the page's clock
    text = Reader(dom).text
    for expected in ("79.15 CNY", "12.50 CNY today", "7.36 CNY/h", "kronos-base", "412 W"):
        assert expected in text
    points = dom.partition('<polyline points="')[2].partition('"')[0]
    assert points.split() == ["0.00,1.00", "50.00,1.00", "100.00,1.00"]      # three times the same rate: a line at the top


def test_a_browser_says_so_when_the_agent_is_gone(serve, profile):
    """The usage query is the page's last sign of life here: it closes the server."""
    exporter = serve(hooks(usage=lambda query: exporter.close()))
    dom = dom_after(f"http://127.0.0.1:{exporter.port}/", profile, 8000)
    assert '<div class="banner bad" id="lost">' in dom
    assert "79.15" in dom                        # the last numbers stay
    assert "data-error" not in dom


def test_nothing_is_loaded_from_elsewhere_and_only_our_script_runs(serve):
    answer = ask(serve().port, "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["script-src"].startswith("'sha256-")
    outside = [value for key, value in Reader(answer.text).attributes if key in {"src", "href"}
               and not value.startswith(("/", "data:"))]
    assert outside == []


def test_reserved_names_are_explained_not_shown():
    assert IDLE_PROJECT not in Reader(page(snapshots.fixed())).text
