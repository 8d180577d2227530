"""A large FOCUS export out of a running daemon: scrapes and ticks go on beside it, and memory does not grow with it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec

from agent.ledger.at_rest import forget_at_rest
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.ledger.seal import install, seal_all
from agent.pricing.pricing import BUCKET_NS
from agent.units import NANO
from tests.agent.priced import instant_ns
from tests.agent.records import UUID
from tests.e2e.daemon import TEN_A_SECOND, Daemon, until

START_NS = instant_ns("2026-03-01")
WORKLOADS, DAYS = 20, 20
GROWTH_KIB = 12 * 1024                           # the export is larger: 24 MB


def large(state: Path) -> None:
    """Rows of 20 workloads for 20 days, each quarter of an hour at a price of its own, so that no rows are joined."""
    Ledger(state, START_NS).close()
    forget_at_rest(state / FILE_NAME)
    with closing(sqlite3.connect(state / FILE_NAME)) as db:
        install(db)
        db.execute("INSERT INTO device (uuid, name) VALUES (?, 'NVIDIA H100')", (UUID,))
        db.executemany("INSERT INTO workload (id, tags) VALUES (?, ?)", [
            (n, msgspec.json.encode((f"p{n}", "", "", "")).decode()) for n in range(1, WORKLOADS + 1)])
        db.executemany(
            "INSERT INTO usage (start_ns, uuid, workload, component, currency, tariff, rate, price, energy_mj, gpu_ns, "
            "cost_nano, emissions_ug, span_ns) VALUES (?, ?, ?, 'energy', 'CNY', 'flat', ?, ?, 3600000, 1, ?, 0, ?)", (
            (START_NS + i * BUCKET_NS, UUID, n, f"r{i % 7}", str(i % 7 * 10**18), i % 7 * NANO // 1000, BUCKET_NS)
            for i in range(DAYS * 96) for n in range(1, WORKLOADS + 1)))
        seal_all(db)
        db.commit()


def report(daemon: Daemon, to: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agent", "report", "--format", "focus", "--from", "2026-03-01", "--to", "2026-03-22",
               "--config.file", str(daemon.config), "--state.dir", str(daemon.state)]
    environ = {key: value for key, value in os.environ.items() if key != "GPU_FINOPS_URL"}
    with to.open("wb") as out, to.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, env=environ)


def memory_kib(daemon: Daemon) -> int:
    """The most that the daemon ever had."""
    assert daemon.process is not None
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def scrapes(daemon: Daemon, process: subprocess.Popen[bytes]) -> list[float]:
    """How long each whole scrape takes, while a process runs."""
    seconds, pause = [], threading.Event()
    while process.poll() is None:
        began = time.monotonic()
        assert b"finops_agent_ticks_total" in daemon.get("/metrics")
        seconds.append(time.monotonic() - began)
        pause.wait(0.015)
    return seconds


def test_scrapes_and_ticks_go_on_beside_an_export(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "daemon", config=TEN_A_SECOND)
    large(daemon.state)
    with daemon:
        assert scrapes(daemon, report(daemon, tmp_path / "first.csv"))       # what code and caches take is there now
        before_kib, ticks = memory_kib(daemon), daemon.value("finops_agent_ticks_total")
        assert scrapes(daemon, report(daemon, tmp_path / "through.csv"))
        assert daemon.value("finops_agent_ticks_total") > ticks
        assert memory_kib(daemon) - before_kib < GROWTH_KIB
        daemon.stop()
    assert report(daemon, tmp_path / "file.csv").wait(60) == 0
    through = (tmp_path / "through.csv").read_bytes()
    assert through == (tmp_path / "file.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    assert through.count(b"\n") == 1 + WORKLOADS * DAYS * 96
    assert len(through) > 20 * 2**20
    assert [(tmp_path / f"{name}.err").read_text() for name in ("first", "through", "file")] == [""] * 3


def test_a_daemon_that_dies_in_the_middle_leaves_no_export_that_looks_whole(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "daemon", config=TEN_A_SECOND)
    large(daemon.state)
    with daemon:
        process = report(daemon, tmp_path / "cut.csv")
        until(lambda: (tmp_path / "cut.csv").stat().st_size > 100_000, "the export to be under way")
        daemon.signal(signal.SIGKILL)
        daemon.finish()
        assert process.wait(60) == 1
    assert "broke off, so what is written is not whole; do it again" in (tmp_path / "cut.err").read_text()
