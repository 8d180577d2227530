"""A year of an instance in one ledger of three million rows: how long a report takes, a start, and damage.

    python benchmarks/ledger_report.py [--rows 3000000] [--directory D]

The rows stand as they were written, none rolled up: 8 GPUs, 11 workloads, a row a quarter of an hour. Ends with 1 where the
report by project takes longer than 2 s, or the ledger's part of a start does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.budgets import BudgetBook
from agent.ledger.at_rest import forget_at_rest
from agent.ledger.file import FILE_NAME, fault_of
from agent.ledger.ledger import Ledger
from agent.ledger.rescue import Backfill
from agent.ledger.seal import install, seal_all
from agent.settings import Budget
from agent.units import NANO, NS_PER_HOUR, NS_PER_S
from tests.agent.records import KEYS

QUARTER_NS = NS_PER_HOUR // 4
GPUS = 8
LIMIT_S = 2.0


def fill(state: Path, rows: int) -> tuple[int, int]:
    """Rows and totals as commits would have left them, written in bulk; the first and the last instant."""
    start_ns = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * NS_PER_S
    Ledger(state, start_ns).close()
    forget_at_rest(state / FILE_NAME)
    with contextlib.closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        install(db)
        quarters = 365 * 96
        workloads = -(-rows // quarters // GPUS)
        db.execute("BEGIN")
        for n in range(workloads):
            tags = json.dumps([f"project-{n % 5}", f"team-{n % 3}", "model", str(n)])
            db.execute("INSERT INTO workload VALUES (?, ?)", (n + 1, tags))
        uuids = [f"GPU-{n:08d}-0000-0000-0000-000000000000" for n in range(GPUS)]
        pairs = [(uuid, n + 1) for n in range(workloads) for uuid in uuids]
        for quarter in range(quarters):
            at_ns = start_ns + quarter * QUARTER_NS
            keys = pairs[:rows * (quarter + 1) // quarters - rows * quarter // quarters]
            db.executemany("INSERT INTO usage VALUES (?, ?, ?, 'energy', 'CNY', 't', ?, '1200000000000000000', 90000000, "
                           "9000000000, 30000001, 7, 900000000000)",
                           [(at_ns, uuid, n, "peak" if quarter % 96 < 48 else "valley") for uuid, n in keys])
        db.execute("INSERT INTO summary SELECT start_ns, workload, currency, SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano), "
                   "SUM(emissions_ug), MAX(span_ns) FROM usage GROUP BY 1, 2, 3")
        db.execute("INSERT INTO device (uuid, name, energy_mj) SELECT uuid, 'H100', SUM(energy_mj) FROM usage GROUP BY uuid")
        db.execute("INSERT INTO workload_total (uuid, workload, energy_mj, gpu_ns, emissions_ug) "
                   "SELECT uuid, workload, SUM(energy_mj), SUM(gpu_ns), SUM(emissions_ug) FROM usage GROUP BY 1, 2")
        db.execute("INSERT INTO cost_total (uuid, workload, component, currency, cost_nano, credit_nano, carry) "
                   "SELECT uuid, workload, component, currency, SUM(cost_nano), 0, 0 FROM usage GROUP BY 1, 2, 3, 4")
        db.execute("INSERT INTO state_total SELECT uuid, workload, 'active', gpu_ns, energy_mj FROM workload_total")
        db.execute("INSERT INTO state_cost SELECT uuid, workload, 'active', currency, cost_nano FROM cost_total")
        seal_all(db)
        db.execute("COMMIT")
    return start_ns, start_ns + quarters * QUARTER_NS


def report(state: Path, config: Path, *arguments: str) -> float:
    """Seconds that the command takes, from its start to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "agent", "report", "--config.file", str(config), "--state.dir", str(state), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).resolve().parents[1])
    return round(time.perf_counter() - began, 2)


def start(state: Path, now_ns: int) -> float:
    """Seconds for what the daemon asks of its ledger before the first tick, with a budget of each period."""
    began = time.perf_counter()
    ledger = Ledger(state, now_ns)
    budgets = tuple(Budget(name=period, match={"project": "*"}, period=period, limit=1_000, currency="CNY")
                    for period in ("day", "week", "month", "quarter", "year"))
    book = BudgetBook(budgets, KEYS, "CNY", "UTC")
    book.restore(ledger.spend(*book.history_ns(now_ns)), now_ns)
    spent_nano = book.judge(now_ns)[-1].spent_nano
    took = time.perf_counter() - began
    ledger.close()
    assert spent_nano > NANO
    return round(took, 2)


def checked(state: Path) -> float:
    """Seconds of the hourly look for damage, beside the ticks."""
    began = time.perf_counter()
    assert fault_of(state / FILE_NAME) is None
    return round(time.perf_counter() - began, 2)


def replaced(state: Path, now_ns: int) -> tuple[float, float]:
    """Seconds that ticks wait while a damaged file is set aside, and those until all of it but one quarter of an hour has been
    carried over beside them."""
    forget_at_rest(state / FILE_NAME)
    with contextlib.closing(sqlite3.connect(state / FILE_NAME)) as db, db:
        db.execute("UPDATE usage SET energy_mj = energy_mj + 1 WHERE start_ns = (SELECT MIN(start_ns) FROM usage)")
    ledger = Ledger(state, now_ns)
    began = time.perf_counter()
    ledger.give_up("one quarter of an hour is damaged", now_ns)
    waited = time.perf_counter() - began
    rows = Backfill(ledger.path)()
    carried = time.perf_counter() - began
    ledger.close()
    assert rows > 0
    return round(waited, 2), round(carried, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        state, config = Path(folder) / "state", Path(folder) / "gpu-finops.toml"
        config.write_text("")
        _, end_ns = fill(state, options.rows)
        year = ("--from", "2026-01-01", "--to", "2027-01-01")
        figures: dict[str, float | int] = {
            "rows": options.rows, "megabytes": (state / FILE_NAME).stat().st_size // 10**6,
            "start_s": start(state, end_ns - NS_PER_HOUR), "by_project_s": report(state, config, *year, "--by", "project"),
            "by_project_month_s": report(state, config, *year, "--by", "project,month"),
            "by_project_day_s": report(state, config, *year, "--by", "project,day"),
            "by_gpu_s": report(state, config, *year, "--by", "gpu"),
            "by_rate_month_s": report(state, config, *year, "--by", "rate,month"),
            "one_month_by_gpu_s": report(state, config, "--from", "2026-03-01", "--to", "2026-04-01", "--by", "gpu"),
            "checked_s": checked(state)}
        figures["set_aside_s"], figures["carried_over_s"] = replaced(state, end_ns)
    print(json.dumps(figures, indent=2))
    return 1 if figures["by_project_s"] > LIMIT_S or figures["start_s"] > LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main())
