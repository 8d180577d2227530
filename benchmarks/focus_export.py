"""Scrapes of a daemon at ten ticks a second, while it streams a FOCUS export of 25 MB: how long they take, and what it needs.

    python benchmarks/focus_export.py

Ends with 1 where one scrape in a hundred takes longer than 100 ms.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.daemon import TEN_A_SECOND, Daemon
from tests.e2e.test_focus_export import large, memory_kib, report, scrapes

LIMIT_MS = 100


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        daemon = Daemon(directory / "daemon", config=TEN_A_SECOND)
        large(daemon.state)
        with daemon:
            scrapes(daemon, report(daemon, directory / "first.csv"))
            before_kib, missed = memory_kib(daemon), daemon.value("finops_agent_missed_ticks_total")
            milliseconds = sorted(1e3 * took for took in scrapes(daemon, report(daemon, directory / "second.csv")))
            figures = {
                "export_megabytes": round((directory / "second.csv").stat().st_size / 1e6, 1), "scrapes": len(milliseconds),
                "median_ms": round(statistics.median(milliseconds), 1),
                "p99_ms": round(milliseconds[int(0.99 * len(milliseconds)) - 1], 1), "worst_ms": round(milliseconds[-1], 1),
                "missed_ticks": daemon.value("finops_agent_missed_ticks_total") - missed,
                "grown_kib": memory_kib(daemon) - before_kib}
    print(json.dumps(figures, indent=2))
    return 1 if figures["p99_ms"] > LIMIT_MS else 0


if __name__ == "__main__":
    sys.exit(main())
