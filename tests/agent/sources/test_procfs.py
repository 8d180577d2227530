"""Facts of real processes that the test starts, and of process directories written by hand."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.sources.accounts import Names
from agent.sources.procfs import Procfs

NOBODY = 65534
UNDUMPABLE = "import ctypes,sys;ctypes.CDLL(None).prctl(4,0,0,0,0);print(1,flush=True);sys.stdin.read()"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environ = {"FINOPS_PROJECT": "kronos", "FINOPS_MODEL": "k=base", "SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "0,1",
               "AWS_SECRET_ACCESS_KEY": "never", "XFINOPS_PROJECT": "no", "CUDA_VISIBLE_DEVICES_OLD": "no"}
    with subprocess.Popen(["sleep", "600", "0"], env={"PATH": os.environ["PATH"], **environ}, cwd=tmp_path) as process:
        yield process
        process.kill()


def write_process(root: Path, pid: int, *, start_ticks: int = 5, cgroup: str = "0::/\n", name: str = "job",
                  status: str = "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n", cmdline: bytes = b"") -> None:
    folder = root / str(pid)
    folder.mkdir(exist_ok=True)
    fields = ["S", "17", *["0"] * 17, str(start_ticks), *["0"] * 30]          # fields 3, 4, ... 22 of proc(5)
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (folder / "status").write_text(status)
    (folder / "cgroup").write_text(cgroup)
    (folder / "comm").write_text(name + "\n")
    (folder / "cmdline").write_bytes(cmdline)
    (folder / "environ").write_bytes(b"")


def test_facts_of_a_real_child(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    facts = Procfs().facts(child.pid)
    oracle = psutil.Process(child.pid)
    assert facts.pid == child.pid
    assert facts.parent_pid == os.getpid()
    assert facts.user == pwd.getpwuid(os.getuid()).pw_name == oracle.username()
    assert facts.command == "sleep 600 0"
    assert facts.exe == oracle.exe()
    assert facts.cwd == str(tmp_path.resolve())
    assert facts.hidden is None
    since_boot_s = oracle.create_time() - psutil.boot_time()
    assert facts.start_ticks == pytest.approx(since_boot_s * os.sysconf("SC_CLK_TCK"), abs=2)


def test_only_the_named_variables_are_read(child: subprocess.Popen[bytes]) -> None:
    assert Procfs().facts(child.pid).environ == {
        "FINOPS_PROJECT": "kronos", "FINOPS_MODEL": "k=base", "SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert Procfs(environ=["XFINOPS_PROJECT"]).facts(child.pid).environ == {"XFINOPS_PROJECT": "no"}
    assert Procfs(environ=[]).facts(child.pid).environ == {}


def test_a_name_with_blanks_and_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 2 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        try:
            oracle = psutil.Process(process.pid)
            ticks = (oracle.create_time() - psutil.boot_time()) * os.sysconf("SC_CLK_TCK")
            assert Procfs().start_ticks(process.pid) == pytest.approx(ticks, abs=2)
            assert Procfs().facts(process.pid).parent_pid == os.getpid()
        finally:
            process.kill()


def test_a_process_that_is_not_there_is_hidden_and_says_why() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    facts = Procfs().facts(process.pid)
    assert (facts.start_ticks, facts.environ, facts.user) == (0, {}, "")
    assert facts.hidden is not None
    assert "PID namespace" in facts.hidden


def test_without_permission_the_readable_facts_remain() -> None:
    """A process that forbids dumps is closed to its own user too; root reads it, so root steps down first."""
    with subprocess.Popen([sys.executable, "-c", UNDUMPABLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env={"FINOPS_PROJECT": "kronos"}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        reading, writing = os.pipe()
        reader = os.fork()
        if reader == 0:
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, NOBODY)
            facts = Procfs().facts(process.pid)
            os.write(writing, repr((facts.user, bool(facts.start_ticks), facts.exe, facts.environ, facts.hidden)).encode())
            os._exit(0)
        os.close(writing)
        seen = os.read(reading, 4096).decode()
        os.close(reading)
        os.waitpid(reader, 0)
        process.stdin.close()
    user = pwd.getpwuid(os.getuid()).pw_name
    assert seen == repr((user, True, "", {}, "no permission to read exe, cwd, environ: the agent needs CAP_SYS_PTRACE for "
                                             "the processes of other users"))


@pytest.mark.parametrize(("lines", "path", "unit"), [
    ("0::/system.slice/vllm.service\n", "/system.slice/vllm.service", "vllm.service"),
    ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/train.service\n",
     "/user.slice/user-1000.slice/user@1000.service/app.slice/train.service", "train.service"),
    ("0::/user.slice/user-1000.slice/session-3.scope\n", "/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
    ("0::/system.slice/slurmstepd.scope/job_9/step_0/user/task_0\n",
     "/system.slice/slurmstepd.scope/job_9/step_0/user/task_0", "slurmstepd.scope"),
    ("0::/system.slice/_cgroup.service\n", "/system.slice/_cgroup.service", "cgroup.service"),
    ("9:name=systemd:/system.slice/a.service\n4:cpu,memory:/slurm/uid_7/job_9\n0::/\n", "/slurm/uid_7/job_9", ""),
    ("9:name=systemd:/system.slice/a.service\n4:memory:/\n", "/system.slice/a.service", "a.service"),
    ("0::/odd:name/b.scope\n", "/odd:name/b.scope", "b.scope"),
    ("0::/\n", "/", ""),
    ("", "", ""),
])
def test_cgroup_and_unit(tmp_path: Path, lines: str, path: str, unit: str) -> None:
    write_process(tmp_path, 7, cgroup=lines)
    facts = Procfs(tmp_path).facts(7)
    assert (facts.cgroup, facts.unit) == (path, unit)


def test_text_that_is_not_utf8_is_kept_readable(tmp_path: Path) -> None:
    write_process(tmp_path, 7, cmdline=b"train\0caf\xe9\0")
    assert Procfs(tmp_path).facts(7).command == "train caf�"


def test_a_process_without_arguments_has_its_name(tmp_path: Path) -> None:
    write_process(tmp_path, 7, name="kthread")
    assert Procfs(tmp_path).facts(7).command == "[kthread]"


def test_a_user_without_a_name_is_a_number(tmp_path: Path) -> None:
    write_process(tmp_path, 7, status="Name:\tx\nUid:\t3999999\t0\t0\t0\nGid:\t3999998\t0\t0\t0\n")
    facts = Procfs(tmp_path).facts(7)
    assert (facts.user, facts.group) == ("3999999", "3999998")


def test_a_directory_server_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    answer, asked = threading.Event(), threading.Event()

    def ask(number: int) -> str:
        answer.wait(30)
        asked.set()
        return f"user{number}"

    names = Names(tmp_path / "passwd", ask, patience_s=0.01)
    assert names.of(7) == "7"
    answer.set()
    assert asked.wait(30)
    deadline = threading.Event()
    while names.of(7) == "7" and not deadline.wait(0.01):
        pass
    assert names.of(7) == "user7"


def test_an_account_made_later_gets_its_name(tmp_path: Path) -> None:
    def unknown(number: int) -> str:
        raise KeyError(number)

    file = tmp_path / "passwd"
    file.write_text("root:x:0:0::/:/bin/sh\nsecond:x:0:0::/:/bin/sh\n")
    names = Names(file, unknown)
    assert (names.of(0), names.of(7)) == ("root", "7")
    file.write_text("root:x:0:0::/:/bin/sh\ntrainer:x:7:7::/:/bin/sh\n")
    os.utime(file, ns=(1, 1))
    assert names.of(7) == "trainer"
