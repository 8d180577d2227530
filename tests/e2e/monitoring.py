"""A real Prometheus and a real Alertmanager for tests, and a webhook that collects what they send.

Each is a context manager: it starts the program on a free loopback port, waits until its own readiness endpoint answers,
and stops it. Rules are this repository's own, with their time scaled down (``scaled_rules``), so that the text which is
shipped is the text that is tested.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
START_SECONDS = 30.0
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_WINDOW = re.compile(r'"(?:[^"\\]|\\.)*"|\[((?:\d+(?:ms|[smhdwy]))+)\]')      # strings are passed over


def wait_until(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """The condition's first true value. Fails with ``what`` after the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        pause.wait(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(*names: str) -> str:
    """The first of the names that is installed. Debian calls Alertmanager prometheus-alertmanager."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise AssertionError(f"none of {', '.join(names)} is installed; scripts/test-tools.sh fetches them")


def get(url: str) -> tuple[int, bytes]:
    """Status and body; (0, b"") while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@contextlib.contextmanager
def running(command: Sequence[str], ready_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program from its readiness to its end by SIGTERM. Its output is in ``log``, and in the failure if it dies."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
            return get(ready_url)[0] == 200

        wait_until(ready, f"{command[0]} ready at {ready_url}, see {log}")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _seconds(duration: str) -> float:
    return sum(int(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION.findall(duration))


def _scaled(duration: str, factor: float, minimum_seconds: float) -> str:
    return f"{max(round(_seconds(duration) * factor * 1000), round(minimum_seconds * 1000))}ms"


def scaled_rules(source: Path, target: Path, factor: float, window_seconds: float = 2.0) -> Path:
    """Write a rule file whose ``for`` and range windows are ``factor`` times the original's; nothing else changes.

    Windows do not become shorter than ``window_seconds`` (a rate wants at least two samples). Numbers within expressions
    stay: ages in seconds and shares of a budget.
    """
    document = yaml.safe_load(source.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _scaled(rule["for"], factor, 0)
            rule["expr"] = _WINDOW.sub(
                lambda m: f"[{_scaled(m[1], factor, window_seconds)}]" if m[1] else m[0], rule["expr"]
            )
    target.write_text(yaml.safe_dump(document, sort_keys=False, width=10**6))
    return target


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str
    log: Path

    def api(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an API answer; fails with the server's own words."""
        query = urllib.parse.urlencode(parameters)
        status, body = get(f"{self.url}/api/v1/{path}{'?' if query else ''}{query}")
        if status != 200:
            raise AssertionError(f"{path} {parameters}: {status} {body.decode()}")
        return json.loads(body)["data"]

    def query(self, expression: str, at_seconds: float | None = None) -> list[tuple[dict[str, str], float]]:
        """An instant query: labels and value of each series; a scalar has no labels."""
        data = self.api("query", query=expression, **({} if at_seconds is None else {"time": str(at_seconds)}))
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(row["metric"], float(row["value"][1])) for row in data["result"]]

    def firing(self) -> set[tuple[str, str]]:
        """(alert name, severity) of each firing alert."""
        return {
            (a["labels"]["alertname"], a["labels"].get("severity", ""))
            for a in self.api("alerts")["alerts"] if a["state"] == "firing"
        }

    def wait_for_target(self, job: str = "gpu-finops") -> None:
        """Until the job's first good scrape."""
        wait_until(lambda: any(value == 1 for _, value in self.query(f'up{{job="{job}"}}')), f"a good scrape of {job}")


@contextlib.contextmanager
def prometheus(
    directory: Path,
    target: str,
    *,
    rules: Sequence[Path] = (),
    alertmanager_url: str | None = None,
    interval: str = "250ms",
    scrape: Mapping[str, Any] | None = None,
) -> Iterator[Prometheus]:
    """Prometheus scraping ``target`` (host:port) as job gpu-finops, evaluating ``rules``, both every ``interval``.
    ``scrape`` adds to the scrape configuration (scheme, tls_config, basic_auth). All it writes is under ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{free_port()}"
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [
            {"job_name": "gpu-finops", "static_configs": [{"targets": [target]}], **(scrape or {})}
        ],
        "rule_files": [str(path.resolve()) for path in rules],
    }
    if alertmanager_url is not None:
        host = urllib.parse.urlsplit(alertmanager_url).netloc
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [host]}]}]}
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    command = [
        program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={urllib.parse.urlsplit(url).netloc}", "--log.level=warn",
        "--rules.alert.resend-delay=1s",
    ]
    log = directory / "prometheus.log"
    with running(command, f"{url}/-/ready", log):
        yield Prometheus(url, log)


@dataclass
class Webhook:
    """What an Alertmanager has sent: every alert of every notification, in order."""

    url: str = ""
    alerts: list[dict[str, Any]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, notification: Mapping[str, Any]) -> None:
        with self._changed:
            self.alerts.extend(notification["alerts"])
            self._changed.notify_all()

    def wait_for(self, alertname: str, status: str = "firing", seconds: float = 60.0, **labels: str) -> dict[str, Any]:
        """The first alert of that name, status and labels; waits for it under a deadline."""
        wanted = {"alertname": alertname, **labels}

        def found() -> dict[str, Any] | None:
            return next(
                (a for a in self.alerts if a["status"] == status and wanted.items() <= a["labels"].items()), None
            )

        with self._changed:
            if not self._changed.wait_for(found, seconds):
                seen = sorted({(a["labels"]["alertname"], a["status"]) for a in self.alerts})
                raise AssertionError(f"no {status} alert {wanted} within {seconds:g} s; seen: {seen}")
            alert = found()
        assert alert is not None
        return alert


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    """An HTTP server on a free loopback port that collects Alertmanager's notifications."""
    received = Webhook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.take(json.loads(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_address[1]}/alerts"
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def alertmanager(directory: Path, webhook_url: str) -> Iterator[str]:
    """Alertmanager with this repository's example configuration, sending to ``webhook_url`` without waiting; its URL."""
    directory.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
    for receiver in config["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook["url"] = webhook_url
    config["route"] |= {"group_wait": "100ms", "group_interval": "500ms"}
    file = directory / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        program("alertmanager", "prometheus-alertmanager"), f"--config.file={file}",
        f"--storage.path={directory / 'data'}", f"--web.listen-address={urllib.parse.urlsplit(url).netloc}",
        "--cluster.listen-address=", "--log.level=warn",
    ]
    with running(command, f"{url}/-/ready", directory / "alertmanager.log"):
        yield url
