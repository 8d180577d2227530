"""Commands whose standard streams are closed, full, without a reader or not UTF-8; and a lock that names no process."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.test_faults import PRICED

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = f"{sys.executable} -P -m agent"
PLAN = f"{RUN} plan {REPOSITORY}/deploy/plan.toml"
EXEC = f"{RUN} exec --project p --source simulated"


def shell(script: str, cwd: Path, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """A script's status, and what it wrote on both streams."""
    done = subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, check=False, timeout=30,
                          env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(environ or {}))
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(("script", "status", "said"), [
    (f"{PLAN} >&-", 1, "gpu-finops: standard output cannot be written (Bad file descriptor); send it to another place\n"),
    (f"{PLAN} > /dev/full", 1,
     "gpu-finops: standard output cannot be written (No space left on device); send it to another place\n"),
    (f"{RUN} --help > /dev/full", 1,
     "gpu-finops: standard output cannot be written (No space left on device); send it to another place\n"),
    (f"{PLAN} | true; exit ${{PIPESTATUS[0]}}", 1, ""),
    (f"{RUN} check nope 2>&-", 2, ""),
    (f"{RUN} check nope 2> /dev/full", 2, ""),
    (f"{RUN} check nope >&- 2>&- <&-", 2, ""),
    (f"{EXEC} -- sh -c 'exit 5' 2>&-", 5, ""),
    (f"{EXEC} --json /dev/full -- sh -c 'exit 7' 2> /dev/null", 7, ""),
])
def test_the_status_and_the_sentence_stay(tmp_path: Path, script: str, status: int, said: str) -> None:
    assert shell(script, tmp_path) == (status, "", said)


def test_figures_that_cannot_be_written_are_told_and_the_command_keeps_its_status(tmp_path: Path) -> None:
    status, _, errors = shell(f"{EXEC} --json /dev/full -- sh -c 'exit 7'", tmp_path)
    assert status == 7
    assert errors.endswith("gpu-finops exec: /dev/full: the figures cannot be written (No space left on device)\n")


def test_a_closed_stream_leaves_its_number_to_no_other_file(tmp_path: Path) -> None:
    """Else what a driver's library prints would go into the ledger."""
    daemon = Daemon(tmp_path / "agent", config=PRICED, prefix=["bash", "-c", 'exec "$@" >&- <&-', "bash"])
    with daemon:
        assert daemon.process is not None
        held = [str(Path(f"/proc/{daemon.process.pid}/fd/{number}").readlink()) for number in (0, 1)]
        assert held == ["/dev/null", "/dev/null"]


def test_a_name_that_is_no_text_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.toml")).write_text("")
    done = subprocess.run([sys.executable, "-P", "-m", "agent", "check", b"\xff.toml"], cwd=tmp_path, capture_output=True,
                          check=False, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"good: \xff.toml\n", b"")


def test_an_output_without_the_sign_is_told_not_garbled(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('currency = "CNY"\n[[deployment]]\nname = "über"\nhardware = 1\nyears = 1\n'
                                     "electricity_per_year = 1\n")
    script = f"{RUN} plan p.toml --json"
    assert "über" in shell(script, tmp_path)[1]
    status, out, errors = shell(script, tmp_path, {"PYTHONIOENCODING": "ascii"})
    assert (status, out) == (1, "")
    assert errors == "gpu-finops: standard output is set to ascii, which has no 'ü'; set PYTHONIOENCODING=utf-8\n".replace(
        "ü", "\\xfc")


def test_figures_stand_until_there_are_others(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text("old")
    assert shell(f"{EXEC} --json figures.json -- nosuch", tmp_path)[0] == 127
    assert figures.read_text() == "old"
    assert shell(f"{EXEC} --json figures.json -- true", tmp_path)[0] == 0
    assert figures.read_text().startswith("{")


@pytest.mark.parametrize("word", ["-1", "0", "garbage", "", "99999999999999999999", "+5", "1 2"])
def test_a_lock_that_names_no_process_signals_nobody(tmp_path: Path, word: str) -> None:
    """kill(2) takes -1 for every process that there is. Here the command runs where there is none but its own."""
    (tmp_path / "lock").write_text(f"{word}\n")
    namespaces = ["--pid", "--fork"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--pid", "--fork"]
    script = 'sleep 30 & trap : USR1; "$@"; status=$?; kill -0 $! || exit 99; kill $!; exit $status'
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["unshare", *namespaces, "--kill-child", "bash", "-c", script, "bash", sys.executable, "-P", "-m",
                               "agent", "release", "--state.dir", str(tmp_path)], capture_output=True, text=True, check=False,
                              timeout=30, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/lock: names no process" in done.stderr
    assert signal.SIGUSR1.name in done.stderr
