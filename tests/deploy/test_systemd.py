"""The systemd unit: accepted by systemd's own tools, within its exposure limit, and one that the agent can live in."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.confined import settings
from tests.driver.scenario import Constant, Device, Scenario, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "systemd" / "gpu-finops.service"
QUICKSTART = ROOT / "deploy" / "quickstart.toml"
CONFINED = [sys.executable, str(Path(__file__).with_name("confined.py")), str(UNIT)]
EXPOSURE_LIMIT = "20"                             # 2.0, as --threshold counts


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def only(key: str) -> str:
    (value,) = settings(UNIT, key)
    return value


def test_exposure_is_at_most_2() -> None:
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_LIMIT}", UNIT)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_verify_is_silent(tmp_path: Path) -> None:
    """With the program where the unit expects it; systemd looks whether it is there."""
    program = tmp_path / "gpu-finops"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    installed = tmp_path / UNIT.name
    installed.write_text(UNIT.read_text().replace("/opt/gpu-finops/.venv/bin/gpu-finops", str(program)))
    assert str(program) in installed.read_text()
    done = analyze("verify", installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_key_is_given_twice_by_mistake() -> None:
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    keys = [line.partition("=")[0] for line in lines]
    assert {key for key in keys if keys.count(key) > 1} == {"SystemCallFilter"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"), ("DynamicUser", "yes"), ("StateDirectory", "gpu-finops"),
        ("ConfigurationDirectory", "gpu-finops"), ("ExecReload", "/bin/kill -HUP $MAINPID"),
        # what the agent must see: other users' processes, the devices, this host's identities
        ("ProtectProc", "default"), ("ProcSubset", "all"), ("PrivateUsers", "no"), ("DeviceAllow", "char-nvidia* rw"),
        ("AmbientCapabilities", "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"),
        ("CapabilityBoundingSet", "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"),
    ],
)
def test_what_the_agent_depends_on(key: str, value: str) -> None:
    assert only(key) == value


def test_devices_are_not_hidden() -> None:
    assert settings(UNIT, "PrivateDevices") == []


@pytest.mark.parametrize(
    ("attempt", "answer"),
    [
        ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)", "PermissionError"),
        ("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "not supported"),
        ("import os; os.chown('/tmp', -1, -1)", "PermissionError"),
        ("import os; os.sched_setaffinity(0, os.sched_getaffinity(0))", "PermissionError"),
    ],
)
def test_the_confinement_of_these_tests_confines(attempt: str, answer: str) -> None:
    done = subprocess.run([*CONFINED, sys.executable, "-c", attempt], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert answer in done.stderr


@pytest.mark.parametrize("source", ["simulated", "nvml"])
def test_the_agent_lives_under_the_units_filters_and_tells_systemd(tmp_path: Path, source: str) -> None:
    """Both processes, from start to end: ready, fed watchdog, reload, costs served, a clean stop."""
    scenario = Scenario(devices=[Device("GPU-a", power=Constant(300))], epoch_ns=boottime_ns())
    driver = driver_environ(scenario.write(tmp_path / "scenario"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environ = {
            **driver, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(int(only("WatchdogSec")) * 10**6),
        }

        def next_state() -> str:
            return manager.recv(4096).decode().partition("\n")[0]

        with Daemon(
            tmp_path / "agent", config=QUICKSTART.read_text(), environ=environ, source=source, prefix=CONFINED
        ) as daemon:
            assert next_state() == "READY=1"
            assert next_state() == "WATCHDOG=1"
            assert daemon.value("finops_workload_cost_total") > 0
            daemon.signal(1)
            while (state := next_state()) != "RELOADING=1":
                assert state == "WATCHDOG=1"
            assert next_state() == "READY=1"
            assert daemon.stop() == 0
            while (state := next_state()) != "STOPPING=1":
                assert state == "WATCHDOG=1"
        assert "ermission" not in daemon.errors()
