"""The daemon's small parts: waking, systemd's socket, log lines, the scheduler under a stepping clock, reports."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from agent.jobs import Jobs
from agent.ledger.query import UsageRow
from agent.log import JsonFormatter, LogfmtFormatter
from agent.notify import ServiceNotifier
from agent.report import as_csv, as_json, as_table
from agent.units import MJ_PER_KWH, NANO, NS_PER_HOUR, NS_PER_S
from agent.wake import WakePipe


def test_a_wait_ends_when_woken_from_another_thread_and_else_at_its_time() -> None:
    pipe = WakePipe()
    assert not pipe.wait(0)
    threading.Thread(target=pipe.wake).start()
    assert pipe.wait(10 * NS_PER_S)
    assert not pipe.wait(0)                     # once, not for ever
    for _ in range(100_000):                    # far more than a pipe holds: waking never blocks
        pipe.wake()
    assert pipe.wait(0)
    pipe.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_watchdog_reload_and_stop(tmp_path: Path, abstract: bool) -> None:
    address = f"\0gpu-finops-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        environ = {"NOTIFY_SOCKET": address.replace("\0", "@"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
        notifier = ServiceNotifier(environ)
        notifier.ready()
        notifier.alive()
        notifier.reloading(5_000)
        notifier.stopping()
        heard = [manager.recv(200).decode() for _ in range(4)]
        notifier.close()
    assert heard == ["READY=1", "WATCHDOG=1", "RELOADING=1\nMONOTONIC_USEC=5", "STOPPING=1"]


def test_without_systemd_nothing_is_sent_and_another_process_watchdog_is_not_fed() -> None:
    ServiceNotifier({}).ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = f"\0gpu-finops-test-other-{os.getpid()}"
        manager.bind(address)
        manager.setblocking(False)
        notifier = ServiceNotifier({"NOTIFY_SOCKET": address.replace("\0", "@"), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
        notifier.alive()
        with pytest.raises(BlockingIOError):
            manager.recv(200)
        notifier.close()


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.WARNING, "f", 1, message, (), None)


def test_log_lines_are_one_line_each_and_parse_back() -> None:
    line = LogfmtFormatter().format(record('two words, "quoted"\nand a second line'))
    assert line.count("\n") == 0
    assert line.endswith('msg="two words, \\"quoted\\"\\nand a second line"')
    assert "level=warning" in line
    assert LogfmtFormatter().format(record("plain")).endswith("msg=plain")
    assert json.loads(JsonFormatter().format(record("a\nb")))["msg"] == "a\nb"


def test_jobs_run_on_the_callers_thread_and_start_anew_when_the_clock_steps_back() -> None:
    woken, ran = threading.Event(), []
    jobs = Jobs(woken.set)
    jobs.every(3_600, lambda: ran.append(threading.get_ident()), "hourly")
    jobs.start()
    assert not jobs.watch_clock(10 * NS_PER_S, 1_000 * NS_PER_S)
    assert not jobs.watch_clock(11 * NS_PER_S, 1_001 * NS_PER_S)
    jobs.run_due()
    assert ran == []                                                  # due in an hour
    assert jobs.watch_clock(12 * NS_PER_S, (1_002 - 3_600) * NS_PER_S)
    assert woken.wait(10)                                             # without the step: in an hour
    jobs.run_due()
    assert ran == [threading.get_ident()]
    jobs.close()


ROWS = [
    UsageRow(("kronos", "2026-06"), "CNY", MJ_PER_KWH * 2, NS_PER_HOUR * 3, 1_234_567_890, 570 * 10**6),
    UsageRow(("=cmd()", "2026-06"), "CNY", 1, 1, 1, 0),
]


def test_a_cost_of_nothing_is_written_with_its_digits() -> None:
    nothing = [UsageRow(("kronos",), "CNY", 0, 0, 0, 0)]
    written = as_csv(nothing, ["project"]).splitlines()[1]
    assert written == "kronos,0.000000000000,0.000,0.000000000000,,0.000000000,0.000000000,CNY"


def test_reports_agree_to_the_nano_in_every_format() -> None:
    by = ["project", "month"]
    document = json.loads(as_json(ROWS, by), parse_float=Decimal)
    assert [row["cost"] for row in document["rows"]] == [Decimal("1.234567890"), Decimal("1E-9")]
    assert document["totals"][0]["cost"] == Decimal("1.234567891")
    assert document["rows"][0]["energy_kwh"] == 2
    lines = as_csv(ROWS, by).splitlines()
    assert lines[0] == "project,month,energy_kwh,energy_joules,gpu_hours,emissions_kg,cost,cost_with_idle,currency"
    assert lines[1] == ("kronos,2026-06,2.000000000000,7200000.000,3.000000000000,0.570000000,"
                        "1.234567890,1.234567890,CNY")
    assert lines[2].startswith("'=cmd(),")                    # no formula for a spreadsheet to run
    assert [row["emissions_kg"] for row in document["rows"]] == [Decimal("0.57"), None]      # unknown is not zero
    table = as_table(ROWS, by)
    assert "total" in table.splitlines()[-1]
    assert "1.2346" in table


def test_the_sum_of_a_report_is_exact(tmp_path: Path) -> None:
    rows = [UsageRow((str(n),), "EUR", 0, 0, NANO // 3, 0) for n in range(3_000)]
    assert json.loads(as_json(rows, ["project"]), parse_float=Decimal)["totals"][0]["cost"] == Decimal("999.999999000")
