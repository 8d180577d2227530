"""The table of processes: a PID that is reused is another process, and those that are gone leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent.model import ProcessCpu, ProcessFacts
from agent.sources.processes import KEEP_READS, ProcessTable
from agent.sources.procfs import Procfs
from tests.agent.driver_probe import descriptors


def write_stat(root: Path, pid: int, start_ticks: int) -> None:
    (root / str(pid)).mkdir(exist_ok=True)
    (root / str(pid) / "stat").write_text(f"{pid} (job) S 1 {'0 ' * 17}{start_ticks} 0 0\n")


def look(table: ProcessTable, *pids: int) -> tuple[list[int], tuple[ProcessFacts, ...]]:
    table.begin()
    ticks = [table.start_ticks(pid) for pid in pids]
    return ticks, table.finish()


def sleeper() -> int:
    return os.posix_spawn("/bin/sleep", ["sleep", "600"], {})


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_facts_are_sent_once() -> None:
    table, pid = ProcessTable(Procfs()), sleeper()
    try:
        (first,), started = look(table, pid)
        assert first == Procfs().start_ticks(pid) > 0
        assert [(f.pid, f.start_ticks) for f in started] == [(pid, first)]
        assert look(table, pid, pid) == ([first, first], ())
        assert look(table) == ([], ())
        assert look(table, pid) == ([first], ())              # off the device for a moment
    finally:
        end(pid)
        table.close()


@pytest.mark.parametrize("descriptor_cap", [0, 100])
def test_a_reused_pid_is_another_process(tmp_path: Path, descriptor_cap: int) -> None:
    """The kernel says that the first holder has ended (or /proc is read again); /proc says who holds the PID now."""
    table, pid = ProcessTable(Procfs(tmp_path), descriptor_cap), sleeper()
    write_stat(tmp_path, pid, 1000)
    assert look(table, pid)[0] == [1000]
    assert table.descriptors == min(1, descriptor_cap)
    write_stat(tmp_path, pid, 2000)
    if descriptor_cap:
        assert look(table, pid)[0] == [1000]                  # the descriptor vouches for the process: /proc is not read
    end(pid)
    ticks, started = look(table, pid)
    assert ticks == [2000]
    assert [f.start_ticks for f in started] == [2000]
    assert look(table, pid) == ([2000], ())
    table.close()


def test_a_process_that_has_ended_but_is_listed_is_hidden() -> None:
    table, pid = ProcessTable(Procfs()), sleeper()
    assert look(table, pid)[0][0] > 0
    end(pid)
    ticks, started = look(table, pid)
    assert ticks == [0]
    assert started[0].hidden is not None
    table.close()


def test_short_processes_leave_nothing_behind() -> None:
    """2,000 processes in 20 reads: neither entries nor descriptors grow past those that live."""
    table = ProcessTable(Procfs())
    open_before = len(descriptors(os.getpid()))
    for _ in range(20):
        pids = [sleeper() for _ in range(100)]
        _, started = look(table, *pids)
        assert len(started) == 100
        assert len(table) == table.descriptors == 100
        for pid in pids:
            end(pid)
    look(table)
    assert (len(table), table.descriptors) == (0, 0)
    assert len(descriptors(os.getpid())) <= open_before
    table.close()


def test_a_process_that_stays_off_the_devices_is_forgotten() -> None:
    table, pid = ProcessTable(Procfs()), sleeper()
    try:
        look(table, pid)
        for _ in range(KEEP_READS):
            look(table)
        assert len(table) == 1
        look(table)
        assert (len(table), table.descriptors) == (0, 0)
        assert len(look(table, pid)[1]) == 1                  # told anew
    finally:
        end(pid)
        table.close()


def test_past_the_descriptor_cap_identity_is_read_again() -> None:
    pids = [sleeper() for _ in range(3)]
    table = ProcessTable(Procfs(), descriptor_cap=2)
    try:
        ticks, _ = look(table, *pids)
        assert table.descriptors == 2
        assert look(table, *pids) == (ticks, ())
        assert ticks == [Procfs().start_ticks(pid) for pid in pids]
    finally:
        for pid in pids:
            end(pid)
        table.close()


def test_a_process_of_an_exec_keeps_its_identity() -> None:
    with subprocess.Popen(["sh", "-c", "echo ready; read line; exec sleep 600"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdout.readline()
        table = ProcessTable(Procfs())
        (before,), _ = look(table, shell.pid)
        shell.stdin.write(b"\n")
        shell.stdin.close()
        assert look(table, shell.pid) == ([before], ())
        table.close()
        shell.kill()


def test_cpu_time_of_those_on_a_device_now(tmp_path: Path) -> None:
    table = ProcessTable(Procfs(tmp_path))
    for pid, user, system in ((11, 250, 50), (12, 7, 0), (13, 1, 1)):
        write_stat(tmp_path, pid, pid * 100)
        fields = ["S", "1", *["0"] * 9, str(user), str(system), *["0"] * 6, str(pid * 100), "0", "0"]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (job) 9) {' '.join(fields)}\n")
    look(table, 11, 12, 13)
    look(table, 11, 12)                          # 13 has left its device
    (tmp_path / "12" / "stat").write_text(f"12 (other) S 1 {'0 ' * 17}4711 0 0\n")      # and 12's PID is another's
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert table.cpu() == (ProcessCpu(11, 1_100, 300 * tick_ns),)
    table.close()


def test_cpu_time_is_the_kernels() -> None:
    own = os.getpid()
    table = ProcessTable(Procfs())
    look(table, own)
    before = os.times()
    (mine,) = table.cpu()
    after = os.times()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert before.user + before.system - 2 * tick_s <= mine.cpu_ns / 1e9 <= after.user + after.system + 2 * tick_s
    table.close()
