"""``gpu-finops top`` in a terminal of its own, before a server that answers what a daemon would."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.top.test_top_screen import GOLDEN

ROOT = Path(__file__).resolve().parents[3]
HOME = b"\x1b[H"
LEAVE = b"\x1b[?25h\x1b[?1049l"


class Answering(http.server.BaseHTTPRequestHandler):
    """``status`` and ``body`` are the server's; what was asked is kept."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    made.status, made.body, made.asked = 200, json.dumps(GOLDEN).encode(), []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def top(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "agent", "top", *arguments], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | environ, check=False)


def address(server: http.server.ThreadingHTTPServer, who: str = "") -> str:
    return f"http://{who}127.0.0.1:{server.server_port}"


def test_one_look_is_plain_text(server: http.server.ThreadingHTTPServer) -> None:
    done = top("--once", "--url", address(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert "now   7.3600 CNY/h" in done.stdout
    assert "\x1b" not in done.stdout
    assert server.asked == [("/api/v1/snapshot", None)]


def test_a_name_and_a_password_come_from_the_environment_and_are_not_shown(server: http.server.ThreadingHTTPServer) -> None:
    server.status = 401
    done = top("--once", GPU_FINOPS_URL=address(server, "bob:s%3Aecret@"))
    assert server.asked == [("/api/v1/snapshot", "Basic Ym9iOnM6ZWNyZXQ=")]            # bob:s:ecret
    assert done.returncode == 1
    assert f"the daemon at {address(server)} wants a name and a password" in done.stderr
    assert "ecret" not in done.stderr


@pytest.mark.parametrize(("status", "body", "said"), [
    (503, b"", "has nothing to show yet; try again in a few seconds"),
    (500, b"", "answers 500 Internal Server Error; see its log"),
    *[(200, body, "is no gpu-finops of this version; name its address with --url") for body in (
        b"<html>", b"[1]", b"{}", b"[" * 2000, b"\xff", json.dumps(GOLDEN | {"devices": None}).encode(),
        json.dumps(GOLDEN | {"overview": {"net_cost": 5}}).encode())],
])
def test_an_answer_that_is_no_snapshot_is_one_sentence(server: http.server.ThreadingHTTPServer, status: int, body: bytes,
                                                       said: str) -> None:
    server.status, server.body = status, body
    done = top("--once", "--url", address(server))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(said + "\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "said"), [
    (["--url", "localhost:10061"], "--url localhost:10061 is no address; write it as http://127.0.0.1:10061"),
    (["--url", "http://h:99999"], "--url http://h:99999: the port is not a number from 0 to 65535"),
    (["--interval", "2"], "--interval '2' is not a duration; write a duration such as 2s"),
    (["--interval", "1ms"], "--interval 1ms is too short; write 100ms or more"),
    (["--url", "http://127.0.0.1:1"], "standard output is no terminal; add --once for one look as plain text"),
    (["--url", "https://127.0.0.1:1", "--ca.file", "/none"], "--ca.file /none: cannot be read as certificates"),
])
def test_wrong_use_says_what_to_write(arguments: list[str], said: str) -> None:
    done = top(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_protected_daemon_wants_its_address(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_users: {}\n")
    (tmp_path / "g.toml").write_text('[web]\nconfig_file = "web.yml"\n')
    done = top("--once", "--config.file", str(tmp_path / "g.toml"), GPU_FINOPS_URL="")
    assert done.returncode == 2
    assert "web.yml protects the daemon; give its address as --url https://HOST:PORT" in done.stderr


class Terminal:
    """The program in a terminal of some size."""

    def __init__(self, *arguments: str) -> None:
        self.screen, inner = pty.openpty()
        self.resize(80, 24)
        environ = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen([sys.executable, "-m", "agent", "top", *arguments], stdin=inner, stdout=inner,
                                        stderr=inner, cwd=ROOT, env=environ)
        os.close(inner)
        self.seen = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, wanted: bytes, deadline_s: float = 20) -> bytes:
        """What came up to and with some bytes; it is then forgotten."""
        while wanted not in self.seen:
            ready, _, _ = select.select([self.screen], [], [], deadline_s)
            assert ready, f"waited for {wanted!r}, saw {self.seen[-500:]!r}"
            self.seen += os.read(self.screen, 65536)
        upto = self.seen.index(wanted) + len(wanted)
        found, self.seen = self.seen[:upto], self.seen[upto:]
        return found


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.screen)


def longest(frame: bytes) -> int:
    text = re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", frame.decode())
    return max(len(line) for line in text.split("\r\n"))


def test_it_redraws_follows_the_terminals_size_and_leaves_it_as_it_was(
        server: http.server.ThreadingHTTPServer, terminals: list[Terminal]) -> None:
    terminal = Terminal("--interval", "1h", "--url", address(server))
    terminals.append(terminal)
    assert terminal.until(HOME) == b"\x1b[?1049h\x1b[?25l" + HOME
    first = terminal.until(HOME)
    assert b"7.3600 CNY/h" in first
    assert longest(first) == 80                  # the golden's longest line is cut there
    terminal.resize(33, 10)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.until(HOME)                         # at once, though the next look would be in an hour
    second = terminal.until(HOME)
    assert longest(second) == 33
    assert second.count(b"\r\n") == 9
    terminal.process.send_signal(signal.SIGTERM)
    terminal.until(LEAVE)
    assert terminal.process.wait(10) == 0


def test_a_daemon_that_goes_is_said_and_one_that_comes_back_is_shown(
        server: http.server.ThreadingHTTPServer, terminals: list[Terminal]) -> None:
    server.status = 503
    terminal = Terminal("--interval", "100ms", "--url", address(server))
    terminals.append(terminal)
    terminal.until(b"gpu-finops: the daemon at")
    server.status = 200
    terminal.until(b"7.3600 CNY/h")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until(LEAVE)
    assert terminal.process.wait(10) == 0
