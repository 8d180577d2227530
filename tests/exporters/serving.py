"""A client and attackers for the web server's tests: plain sockets and http.client, nothing of ours."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from exporters.base import Hooks
from tests.exporters import snapshots

DEADLINE_SECONDS = 20.0


def hooks(reload=lambda: None, ready=lambda: True, usage=lambda query: {"query": dict(query)},
          focus=lambda query: (piece for piece in [b"BilledCost\n"])) -> Hooks:
    return Hooks(reload=reload, ready=ready, usage=usage, focus=focus)


class Answer:
    """One response, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()


def connect(port: int, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    return http.client.HTTPSConnection("localhost", port, timeout=DEADLINE_SECONDS, context=tls)


def ask(port: int, path: str = "/metrics", method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str) -> Answer:
    """One request on a connection of its own."""
    connection = connect(port, tls)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def own_metrics(exporter, snapshot=None, **headers: str) -> str:
    """The metrics as of now: a snapshot is rendered once, so it is published again first."""
    exporter.publish(snapshot or snapshots.empty())
    return ask(exporter.port, **headers).text


@contextmanager
def raw(port: int, count: int = 1) -> Iterator[list[socket.socket]]:
    """Open TCP connections that say nothing by themselves."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sockets.append(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS))
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def ended(sock: socket.socket) -> bytes:
    """Everything that the server sends until it closes; fails if it does not within the deadline."""
    received = b""
    try:
        while chunk := sock.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within the deadline."""
    until, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        pause.wait(0.01)
    return True


class Trickle:
    """Sends one byte a second on each of many sockets until closed, from a thread of its own."""

    def __init__(self, sockets: list[socket.socket], beginning: bytes) -> None:
        self._sockets, self._stop = sockets, threading.Event()
        for sock in sockets:
            sock.sendall(beginning)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            for sock in self._sockets:
                try:
                    sock.send(b"a")
                except OSError:
                    continue                     # the server has had enough of this one

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
