"""The README's first command for real: set up, started with the example configuration, costs served, ended in order."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.scripts.conftest import ROOT

DEADLINE_S = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def costs(url: str) -> list[float]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return []
    return [float(value) for value in re.findall(r"^finops_workload_cost_total\{.*\} (\S+)$", text, re.M)]


def test_one_command_serves_costs_and_says_where(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    command = ["sh", "scripts/run.sh", "--source", "simulated", "--config.file", "deploy/quickstart.toml",
               "--state.dir", str(tmp_path / "state"), "--web.listen-address", f"127.0.0.1:{port}"]
    with log.open("w") as output, subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output) as agent:
        try:
            pause = threading.Event()
            end = time.monotonic() + DEADLINE_S
            while not any(cost > 0 for cost in costs(f"http://127.0.0.1:{port}/metrics")):
                assert agent.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                pause.wait(0.1)
        finally:
            agent.send_signal(signal.SIGTERM)
        assert agent.wait(DEADLINE_S) == 0, log.read_text()
    assert f"127.0.0.1:{port}" in log.read_text()


def test_the_example_configuration_is_good() -> None:
    done = subprocess.run([ROOT / ".venv/bin/gpu-finops", "check", "deploy/quickstart.toml"], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
