"""The real program as a child process: started on a free port, asked over HTTP, stopped as systemd stops it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

T = TypeVar("T")
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(wanted: Callable[[], T | None], what: str, deadline_s: float = 20.0) -> T:
    """Poll until something is there. Fails, saying what was waited for, past the deadline."""
    pause = threading.Event()
    for _ in range(int(deadline_s / 0.05)):
        got = wanted()
        if got:
            return got
        pause.wait(0.05)
    raise AssertionError(f"waited {deadline_s:g} s for {what}")


@contextlib.contextmanager
def killed(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that is killed at the end, however that comes."""
    process = subprocess.Popen(command, env=dict(environ))
    try:
        yield process
    finally:
        process.kill()
        process.wait()

TEN_A_SECOND = """
interval = "100ms"
flush_interval = "100ms"
[site]
tariff = "flat"
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 1.0 }
rule = [{ rate = "all" }]
"""


class Daemon:
    """``gpu-finops run`` with a configuration text, as a context manager."""

    def __init__(self, directory: Path, *arguments: str, config: str = "", environ: Mapping[str, str] | None = None,
                 source: str = "simulated", port: int | None = None, prefix: Sequence[str] = ()) -> None:
        """``prefix`` is a command that executes the rest of its arguments, as ``nice`` does."""
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.state = directory / "state"
        self.config = directory / "gpu-finops.toml"
        self.config.write_text(config)
        self.port = port or free_port()
        self.log = directory / "stderr.log"
        self._arguments = [
            *prefix, sys.executable, "-m", "agent", "run", "--config.file", str(self.config), "--source", source,
            "--state.dir", str(self.state), "--web.listen-address", f"127.0.0.1:{self.port}", *arguments]
        self._environ = dict(os.environ) | dict(environ or {})
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Daemon:
        self.start()
        until(self.first_cost, "the first cost to be served")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._arguments, env=self._environ, stderr=log, stdout=log)

    def finish(self, deadline_s: float = 15.0) -> int:
        """Wait for the process to end by itself; its exit status."""
        assert self.process is not None
        return self.process.wait(deadline_s)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, as systemd does; the exit status."""
        self.signal(signal.SIGTERM)
        return self.finish()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.finish()

    def errors(self) -> str:
        return self.log.read_text()

    def get(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=5) as response:
            body: bytes = response.read()
            return body

    def series(self) -> Series:
        """Everything that /metrics shows now: (name, sorted labels) -> value."""
        text = self.get("/metrics").decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}

    def value(self, name: str, **labels: str) -> float:
        """The sum over the series of a name that have these labels; fails where there is none."""
        found = [
            value for (given, pairs), value in self.series().items()
            if given == name and labels.items() <= dict(pairs).items()]
        assert found, f"no series {name} {labels}"
        return sum(found)

    def first_cost(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended by itself:\n{self.errors()}"
        try:
            return any(name == "finops_workload_cost_total" for name, _ in self.series())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def counters(self) -> Series:
        """The series that may never fall."""
        lifetime = re.compile(r"finops_(gpu|workload|waste)_.*_total")
        return {key: value for key, value in self.series().items() if lifetime.fullmatch(key[0])}
