"""The dashboard: well formed, about metrics that exist, and every query answered by a real Prometheus."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import MetricsPage
from tests.deploy.promql import faults
from tests.e2e.monitoring import Prometheus, prometheus, wait_until

GRAFANA = Path(__file__).resolve().parents[2] / "dashboards" / "grafana"
DASHBOARD = json.loads((GRAFANA / "cost-overview.json").read_text())
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
QUERIES = {
    f"{panel['title']}/{target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
}
CHOSEN = {
    "instance": ".*", "project": ".*", "currency": "CNY", "__range": "30s", "__rate_interval": "5s", "__interval": "1s",
}


def filled(text: str) -> str:
    """A query as Grafana sends it: variables and macros replaced. An unknown one is an error."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: CHOSEN[match[1]], text)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    page = MetricsPage()
    try:
        with prometheus(tmp_path_factory.mktemp("prometheus"), page.address) as server:
            server.wait_for_target()
            wait_until(lambda: page.scrapes >= 6, "six scrapes")
            yield server
    finally:
        page.close()


def test_panels_have_their_own_ids_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_everything_asks_the_chosen_data_source() -> None:
    def sources(node: Any) -> Iterator[Any]:
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key == "datasource")
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                yield from sources(item)

    found = list(sources(DASHBOARD))
    assert found
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in found)
    assert VARIABLES["datasource"]["query"] == "prometheus"


def test_several_instances_can_be_chosen_and_every_query_heeds_the_choice() -> None:
    assert VARIABLES["instance"]["multi"]
    assert VARIABLES["instance"]["includeAll"]
    selectors = [s for query in QUERIES.values() for s in re.findall(r"finops_\w+(?:\{[^}]*\})?", query)]
    assert [s for s in selectors if 'instance=~"$instance"' not in s] == []


def test_counters_are_read_through_rate_or_increase() -> None:
    """But for the lifetime totals of the ledger, which are shown as they are, and zeros made of them."""
    for title, query in QUERIES.items():
        if title.startswith("Booked since the ledger began"):
            continue
        bare = re.sub(r"0 \* sum\(\w+\{[^}]*\}\)", "", query)
        assert re.findall(r"(?<!rate\()(?<!increase\()\bfinops_\w+_total\b", bare) == [], title


@pytest.mark.parametrize("title", QUERIES)
def test_queries_name_only_what_the_agent_serves(title: str) -> None:
    assert faults(QUERIES[title]) == []


@pytest.mark.parametrize("name", [n for n, v in VARIABLES.items() if v["type"] == "query"])
def test_variables_list_a_label_that_exists(name: str) -> None:
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["definition"])
    assert match
    assert faults(f"count by ({match[2]}) ({match[1]})") == []


@pytest.mark.parametrize("title", QUERIES)
def test_prometheus_answers_every_query_with_data(served: Prometheus, title: str) -> None:
    assert served.query(filled(QUERIES[title])), QUERIES[title]


def test_the_booked_total_is_the_counters_less_the_credits(served: Prometheus) -> None:
    title = next(title for title in QUERIES if title.startswith("Booked since"))
    now = float(served.query("time()")[0][1]) - 0.5
    (cost,) = served.query("finops_workload_cost_total", now)
    (credit,) = served.query("finops_workload_credit_total", now)
    assert served.query(filled(QUERIES[title]), now) == [({}, cost[1] - credit[1])]
    assert cost[1] > 100


def test_the_daily_cost_deducts_credits_and_does_without_any(tmp_path: Path, metrics_page: MetricsPage) -> None:
    metrics_page.values["finops_workload_credit_total"] = None
    with prometheus(tmp_path, metrics_page.address) as server:
        server.wait_for_target()
        first = metrics_page.scrapes
        wait_until(lambda: metrics_page.scrapes >= first + 6, "six scrapes")
        for title in ("Cost today ($currency)/A", "Cost by project, team, model and version/A"):
            ((_, value),) = server.query(filled(QUERIES[title]))
            assert value > 0


def test_provisioning_files_name_what_is_there() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/gpu-finops.yml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/gpu-finops.yml").read_text())["datasources"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] in (Path(__file__).resolve().parents[2] / "docs/install.md").read_text()
    assert source["type"] == "prometheus"
