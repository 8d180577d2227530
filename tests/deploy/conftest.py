"""A stand-in for the agent's /metrics, made from the table of metrics, for tests of rules and dashboards."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from exporters.families import FAMILIES, SELF_FAMILIES, label_names
from tests.deploy.promql import TAG_KEYS

LABEL_VALUES = {
    "uuid": "GPU-a", "index": "0", "name": "Test GPU", "driver_version": "570", "energy_method": "counter",
    "state": "parked", "project": "kronos", "team": "quant", "model": "kronos-base", "model_version": "1.0",
    "component": "energy", "currency": "CNY", "reason": "parked", "tariff": "cn", "rate": "peak", "budget": "monthly",
    "period": "2026-11", "window": "1h", "version": "0.1.0",
    "parent_uuid": "GPU-a", "method": "sampled",
}


class MetricsPage:
    """Serves one series of every metric. Counters start at 100 and grow by 1 a scrape, gauges are 1; ``values`` overrides
    a metric's value, None leaves it out. Change it while it serves."""

    def __init__(self) -> None:
        self.values: dict[str, float | None] = {}
        self.scrapes = 0
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.scrapes += 1
                body = page.render().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def render(self, overrides: Mapping[str, float | None] | None = None) -> str:
        values = {**self.values, **(overrides or {})}
        lines = []
        for family in (*FAMILIES, *SELF_FAMILIES):
            default = 100.0 + self.scrapes if family.type == "counter" else 1.0
            value = values.get(family.name, default)
            if value is None:
                continue
            labels = ",".join(f'{n}="{LABEL_VALUES[n]}"' for n in label_names(family.labels, TAG_KEYS))
            lines += [f"# TYPE {family.name} {family.type}", f"{family.name}{{{labels}}} {value}"]
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def metrics_page() -> Iterator[MetricsPage]:
    page = MetricsPage()
    try:
        yield page
    finally:
        page.close()
