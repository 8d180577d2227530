"""The probe process: deadlines, replacement, release, and what is left of it when its daemon dies."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import ConfigError, SourceEnded, SourceError
from agent.probe import LAST_BACKOFF_NS, STEADY_NS, Probe
from agent.sources.recording import Recorder
from agent.units import NS_PER_MS, NS_PER_S
from tests.agent.driver_probe import Driver, descriptors, devices, ends, eventually, look
from tests.agent.sources.held_clock import HeldClock
from tests.driver.scenario import Constant, Device, Fault, Process

A = Device("GPU-a", power=Constant(100))
HANG = Fault("nvmlDeviceGetPowerUsage", hang=True)


def pid_of(probe: Probe) -> int:
    assert probe.pid is not None
    return probe.pid


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock(time.time_ns())


def test_a_probe_that_hangs_is_stale_then_replaced_and_left_behind(driver: Driver, clock: HeldClock) -> None:
    driver.show(A)
    probe = driver.probe(clock)
    session, hung = look(probe).session, pid_of(probe)
    driver.show(A, faults=(HANG,))
    driver.clock.advance_s(1)
    short = driver.probe(clock, deadline_s=0.2)               # the same fault, asked with little patience
    while short.state == "opening":
        assert short.read() is None
    assert (short.read(), short.restarts, short.pid) == (None, 0, None)
    eventually(lambda: short.left_behind == 0)                # killed, and reaped without having been waited for
    driver.show(A)
    assert short.read() is None                               # its second has not passed
    clock.advance(NS_PER_S)
    eventually(lambda: short.read() is not None)              # 200 ms may be too short to start
    assert short.restarts == 1
    assert (look(probe).session, pid_of(probe)) == (session, hung)


def test_a_read_takes_no_longer_than_its_deadline(driver: Driver) -> None:
    """Two seconds of patience, a driver that would take an hour: the answer is None, and comes."""
    driver.show(A, faults=(HANG,))
    probe = driver.probe(deadline_s=0.3)
    while probe.state == "opening":
        assert probe.read() is None
    assert probe.read() is None
    assert probe.state == "waiting"


def test_a_killed_probe_is_replaced_with_a_growing_pause(driver: Driver, clock: HeldClock) -> None:
    driver.show(A)
    probe = driver.probe(clock)
    sessions = {look(probe).session}
    for restart, pause_s in enumerate((1, 2, 4, 8, 16, 32, 60, 60), start=1):
        os.kill(pid_of(probe), signal.SIGKILL)
        assert probe.read() is None
        clock.advance(pause_s * NS_PER_S - 1)
        assert (probe.read(), probe.restarts) == (None, restart - 1)
        clock.advance(1)
        reading = look(probe)
        assert (reading.sequence, probe.restarts, probe.left_behind) == (0, restart, 0)
        sessions.add(reading.session)
    assert len(sessions) == 9                                 # each child has a session of its own
    clock.advance(STEADY_NS)
    look(probe)                                               # it has worked for long: no series any more
    os.kill(pid_of(probe), signal.SIGKILL)
    assert probe.read() is None
    clock.advance(NS_PER_S)
    look(probe)
    assert LAST_BACKOFF_NS == 60 * NS_PER_S


@pytest.mark.parametrize("words", ["nonsense", '{"opened":true}', '{"opened":true}\\n{"session":7}'])
def test_an_answer_that_is_no_reading_replaces_the_probe(driver: Driver, clock: HeldClock, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """An interpreter that is set up to print something of its own when it starts."""
    (tmp_path / "sitecustomize.py").write_text(f"print('{words}', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    driver.show(A)
    probe = driver.probe(clock)
    assert (probe.read(), probe.pid, probe.state) == (None, None, "waiting")


def test_signals_for_the_daemon_do_not_end_its_probe(driver: Driver) -> None:
    driver.show(A)
    probe = driver.probe()
    look(probe)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid_of(probe), number)
    assert look(probe).sequence == 1
    assert os.getpgid(pid_of(probe)) != os.getpgid(0)


def test_opening_has_a_deadline_of_its_own(driver: Driver) -> None:
    driver.show(A, faults=(Fault("nvmlInit", delay_s=1.0),))
    slow = driver.probe(deadline_s=0.25)
    assert slow.read() is None
    assert slow.state == "opening"
    eventually(lambda: slow.read() is not None)
    assert slow.restarts == 0
    driver.show(A, faults=(Fault("nvmlInit", hang=True),))
    stuck = driver.probe(deadline_s=0.05, open_deadline_s=0.5)
    eventually(lambda: stuck.read() is None and stuck.state == "waiting")
    eventually(lambda: stuck.left_behind == 0)


def test_waiting_until_it_is_open(driver: Driver) -> None:
    driver.show(A)
    probe = driver.probe()
    assert probe.wait_open(20 * NS_PER_S)
    assert (probe.state, look(probe).sequence) == ("ready", 0)
    driver.show(A, faults=(Fault("nvmlInit", error=9),))
    with pytest.raises(SourceError, match="kernel driver is not loaded"):
        driver.probe().wait_open(20 * NS_PER_S)


def test_what_cannot_be_opened_is_told_and_tried_again(driver: Driver, clock: HeldClock) -> None:
    driver.show(A, faults=(Fault("nvmlInit", error=9),))
    probe = driver.probe(clock)
    with pytest.raises(SourceError, match="kernel driver is not loaded"):
        probe.read()
    assert probe.read() is None
    driver.show(A)
    clock.advance(NS_PER_S)
    assert (look(probe).sequence, probe.restarts) == (0, 1)


def test_a_driver_that_goes_away_in_mid_run_leaves_the_daemon_serving(driver: Driver, clock: HeldClock,
                                                                      caplog: pytest.LogCaptureFixture) -> None:
    driver.show(A)
    probe = driver.probe(clock)
    look(probe)
    driver.show(A, faults=(Fault("nvmlInit", error=9), Fault("*", error=1)))
    with caplog.at_level(logging.WARNING):
        assert probe.read() is None
        assert "dropped the connection" in caplog.text
        clock.advance(NS_PER_S)
        assert probe.read() is None
        assert "kernel driver is not loaded" in caplog.text
    driver.show(A)
    clock.advance(2 * NS_PER_S)
    assert devices(probe)["GPU-a"].power_mw == 100_000


def test_release_lets_go_of_the_driver_and_resume_takes_it_up(driver: Driver) -> None:
    driver.show(A)
    probe = driver.probe()
    first, pid = look(probe), pid_of(probe)
    library = Path(f"/proc/{pid}/maps").read_text()
    assert "libnvidia-ml.so.1" in library
    assert probe.release()
    assert ends(pid)
    assert (probe.read(), probe.pid, probe.state, probe.left_behind) == (None, None, "released", 0)
    probe.resume()
    assert look(probe).session != first.session
    assert probe.restarts == 0


def test_a_hung_probe_is_released_and_closed_all_the_same(driver: Driver) -> None:
    """Closing its pipe does not reach it; killing does."""
    driver.show(A, faults=(HANG,))
    for end in (Probe.release, Probe.close):
        probe = driver.probe(deadline_s=30)
        assert probe.wait_open(20 * NS_PER_S)
        pid = pid_of(probe)
        Path(f"/proc/{pid}/fd/{requests_of(pid)}").write_bytes(b"0\n")          # ask, and do not wait
        end(probe)
        assert ends(pid)
        eventually(lambda: probe.left_behind == 0)            # noqa: B023  called at once


def requests_of(pid: int) -> str:
    """The child's descriptor of the pipe from the daemon: the one it has only for reading."""
    for name, target in descriptors(pid).items():
        if int(name) > 2 and target.startswith("pipe:"):
            flags = Path(f"/proc/{pid}/fdinfo/{name}").read_text().split("flags:")[1].split()[0]
            if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
                return name
    raise AssertionError("no pipe to read requests from")


def test_a_closed_probe_says_nothing_more(driver: Driver) -> None:
    driver.show(A)
    probe = driver.probe()
    look(probe)
    pid = pid_of(probe)
    probe.close()
    probe.close()
    probe.resume()
    assert (probe.read(), probe.state, probe.pid, probe.left_behind) == (None, "closed", None, 0)
    assert ends(pid)


def test_nothing_of_the_daemons_is_inherited(driver: Driver, tmp_path: Path) -> None:
    """Not even what is marked to be: a stuck probe would hold the port and the ledger for ever."""
    driver.show(A)
    with socket.create_server(("127.0.0.1", 0)) as server, (tmp_path / "ledger").open("w") as ledger:
        server.set_inheritable(True)
        os.set_inheritable(ledger.fileno(), True)
        probe = driver.probe()
        look(probe)
        held = descriptors(pid_of(probe)).values()
    assert not [target for target in held if target.startswith("socket:") or "ledger" in target]
    ours = descriptors(os.getpid())
    assert sum(target.startswith("pipe:") for target in held if target not in (ours["1"], ours["2"])) == 2


def test_a_shortage_of_descriptors_is_waited_out(driver: Driver, clock: HeldClock, caplog: pytest.LogCaptureFixture) -> None:
    """The pipes of a new child cannot be made: the daemon goes on, and tries again when its pause is over."""
    driver.show(A)
    probe = driver.probe(clock)
    look(probe)
    os.kill(pid_of(probe), signal.SIGKILL)
    assert probe.read() is None
    clock.advance(NS_PER_S)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        answer = probe.read()
        with pytest.raises(SourceError, match=r"cannot be started: .*Too many open files; look at the limits"):
            probe.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (answer, probe.state, probe.restarts) == (None, "waiting", 0)
    assert "Too many open files" in caplog.text
    assert probe.read() is None                               # its pause has doubled
    clock.advance(2 * NS_PER_S)
    look(probe)
    assert probe.restarts == 1


@pytest.mark.parametrize("faults", [(), (Fault("nvmlInit", hang=True),)])
def test_a_probe_ends_with_its_daemon(driver: Driver, faults: tuple[Fault, ...]) -> None:
    """The daemon is killed: its probe ends, were it in a call that never returns, where it sees no pipe closed."""
    driver.show(A, faults=faults)
    program = ("import sys; from agent.probe import Probe; from agent.clock import SystemClock\n"
               "probe = Probe('nvml', {}, SystemClock(), deadline_ns=60_000_000_000)\n"
               "probe.start(); print(probe.pid, flush=True); probe.read(); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          cwd=Path(__file__).parents[2]) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        eventually(lambda: "libnvidia-ml" in Path(f"/proc/{pid}/maps").read_text())
        daemon.kill()
    assert ends(pid)


def test_a_reply_of_many_pages_is_put_together(driver: Driver) -> None:
    """Eight devices of 400 processes: more than a pipe holds at once."""
    pids = [4_100_000 + i for i in range(400)]
    driver.show(*[Device(f"GPU-{d}", processes=[Process(pid) for pid in pids]) for d in range(8)])
    for _ in range(2):
        reading = look(driver.probe())
        assert [len(device.processes or ()) for device in reading.devices] == [400] * 8


def test_another_package_of_the_same_name_in_the_working_directory_is_not_run(
        driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    driver.show(A)
    look(driver.probe())


def test_a_finite_source_ends(driver: Driver, tmp_path: Path, clock: HeldClock) -> None:
    driver.show(A)
    readings = [look(driver.probe()) for _ in range(2)]
    recorder = Recorder(tmp_path / "recording")
    for reading in readings:
        recorder.write(reading)
    recorder.close()
    probe = Probe("replay", {"file": str(tmp_path / "recording")}, clock, deadline_ns=20 * NS_PER_S)
    probe.start()
    assert [look(probe), look(probe)] == readings
    with pytest.raises(SourceEnded):
        probe.read()
    assert (probe.read(), probe.state) == (None, "ended")
    probe.close()


def test_options_that_cannot_be_are_a_configuration_error(clock: HeldClock) -> None:
    for source, options in (("replay", {}), ("no-such-source", {})):
        probe = Probe(source, options, clock, deadline_ns=20_000 * NS_PER_MS)
        probe.start()
        with pytest.raises(ConfigError) as caught:
            probe.read()
        assert caught.value.exit_status == 2
        probe.close()
