"""How long a scrape takes: 1,000 and 10,000 series whose counters all move between two scrapes, and prometheus_client beside.

    python benchmarks/scrape.py [--rounds 50]

``render`` is the text alone, ``HTTP`` a whole request over loopback on a kept connection, plain and with gzip, as Prometheus
asks for it.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from agent.settings import Web  # noqa: E402
from exporters.base import Hooks  # noqa: E402
from exporters.exposition import Exposition  # noqa: E402
from exporters.prometheus import PrometheusExporter  # noqa: E402
from tests.exporters.snapshots import fleet  # noqa: E402

SIZES = ((1_000, 4, 21), (10_000, 8, 112))        # at least so many series, of so many GPUs with so many workloads each


def median_ms(work: Callable[[int], None], rounds: int) -> float:
    times = []
    for tick in range(1, rounds + 1):
        started = time.perf_counter()
        work(tick)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


class Parsed:
    """Our own output as prometheus_client's objects, for its renderer to write again."""

    def __init__(self, text: str) -> None:
        self._families = list(text_string_to_metric_families(text))

    def collect(self) -> list[object]:
        return list(self._families)


def measure(gpus: int, workloads: int, rounds: int) -> dict[str, float]:
    snapshots = [fleet(gpus, workloads, tick) for tick in range(rounds + 1)]
    exposition = Exposition()

    def render(tick: int) -> None:
        exposition.publish(snapshots[tick])
        exposition.render()

    render(0)
    figures = {"render": median_ms(render, rounds)}
    body = exposition.render() or b""
    figures["series"] = sum(1 for line in body.splitlines() if not line.startswith(b"#"))
    registry = CollectorRegistry()
    registry.register(Parsed(body.decode()))  # type: ignore[arg-type]
    figures["prometheus_client"] = median_ms(lambda tick: generate_latest(registry) and None, max(3, rounds // 5))

    exporter = PrometheusExporter(Web(port=0), Hooks(reload=lambda: None, ready=lambda: True, usage=lambda query: {},
                                                     focus=lambda query: (piece for piece in ())))
    exporter.start()
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=10)

    def scrape(tick: int, headers: dict[str, str]) -> None:
        exporter.publish(snapshots[tick])
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200 or len(gzip.decompress(data) if headers else data) < len(body) // 2:
            raise SystemExit("a scrape failed")

    scrape(0, {})
    figures["HTTP"] = median_ms(lambda tick: scrape(tick, {}), rounds)
    figures["HTTP gzip"] = median_ms(lambda tick: scrape(tick, {"Accept-Encoding": "gzip"}), rounds)
    connection.close()
    exporter.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    columns = ("series", "render", "HTTP", "HTTP gzip", "prometheus_client")
    print("| size | series | render, ms | HTTP, ms | HTTP gzip, ms | prometheus_client, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for size, gpus, workloads in SIZES:
        figures = measure(gpus, workloads, options.rounds)
        cells = [f"{figures[column]:.0f}" if column == "series" else f"{figures[column]:.2f}" for column in columns]
        print(f"| {size:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
