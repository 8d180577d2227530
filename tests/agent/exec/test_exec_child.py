"""One command in the foreground: its environment, its signal mask, its status, and a terminal's Ctrl-C."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.exec.child import FORWARDED, CannotStart, Child
from agent.units import NS_PER_S

# Counts each SIGINT as the kernel delivers it, and tells how many came within a while after the first.
COUNTS = """
import os, signal, sys, threading
if sys.argv[1:]:
    os.setsid()
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.signal(signal.SIGINT, lambda number, frame: None)
signal.set_wakeup_fd(writer)
print("ready", flush=True)
came = 0 if sys.argv[1:] else len(os.read(reader, 1))
threading.Event().wait(0.5)
os.set_blocking(reader, False)
try:
    came += len(os.read(reader, 100))
except BlockingIOError:
    pass
print("signals:", came, flush=True)
raise SystemExit(4)
"""


def run(command: list[str], environ: dict[str, str] | None = None) -> int | None:
    child = Child(command, environ if environ is not None else dict(os.environ))
    try:
        for _ in range(200):
            if child.wait(NS_PER_S // 10):
                break
    finally:
        child.close()
    return child.status


def test_the_command_gets_the_environment_and_the_mask_of_the_caller(tmp_path: Path) -> None:
    status = tmp_path / "status"
    assert run(["cp", "/proc/self/status", str(status)]) == 0         # of cp itself: shells have a mask of their own
    assert run(["sh", "-c", 'test "$A" = b'], {"A": "b", "PATH": os.environ["PATH"]}) == 0
    masks = dict(line.split(":\t") for line in status.read_text().splitlines() if line.startswith("Sig"))
    assert int(masks["SigBlk"], 16) == 0
    assert not int(masks["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1))


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -SEGV $$", 139)])
def test_status(script: str, status: int) -> None:
    assert run(["sh", "-c", script]) == status


def test_the_callers_signals_are_as_before_whatever_came_meanwhile() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = Child(["true"], dict(os.environ))
    try:
        assert before.isdisjoint(FORWARDED)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= FORWARDED
        while not child.wait(NS_PER_S):
            continue
        os.kill(os.getpid(), signal.SIGTERM)             # after its end: meant for the command, and dropped
    finally:
        child.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_program_that_cannot_start_leaves_the_signals_alone() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(CannotStart, match="give a program on the PATH") as refused:
        Child(["no-such-program-anywhere"], dict(os.environ))
    assert refused.value.exit_status == 127
    with pytest.raises(CannotStart, match="that this user may execute") as refused:
        Child(["/etc/hostname"], dict(os.environ))
    assert refused.value.exit_status == 126
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_wait_ends_with_the_command_and_not_before() -> None:
    child = Child(["sleep", "60"], dict(os.environ))
    try:
        assert not child.wait(0)
        os.kill(child.pid, signal.SIGKILL)
        for _ in range(20):                              # the end of another child of ours may cut a wait short
            if child.wait(30 * NS_PER_S):
                break
    finally:
        child.close()
    assert child.status == 137


@pytest.mark.parametrize(("left_the_terminal", "signals"), [([], 1), (["yes"], 0)])
def test_ctrl_c_in_a_terminal_reaches_the_command_as_it_would_without_exec(left_the_terminal: list[str], signals: int) -> None:
    controller, terminal = pty.openpty()
    python = sys.executable
    command = [python, "-m", "agent", "exec", "--project", "p", "--source", "simulated", "--", python, "-c", COUNTS]
    process = subprocess.Popen(["setsid", "--ctty", "--wait", *command, *left_the_terminal],
                               stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    try:
        seen = b""
        while b"ready" not in seen:
            seen += os.read(controller, 1024)
        os.write(controller, b"\x03")
        while b"signals: " not in seen or not seen.endswith(b"\n"):
            seen += os.read(controller, 1024)
        assert b"signals: %d\r\n" % signals in seen
        assert process.wait(30) == 4
    finally:
        process.kill()
        process.wait()
        os.close(controller)
