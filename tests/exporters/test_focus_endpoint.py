"""``/api/v1/focus`` over real sockets: piece by piece, as its reader takes it, and never taken for whole when cut."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from agent.errors import LedgerError, UsageError
from exporters.connections import Limits
from tests.exporters.serving import Answer, ask, connect, ended, eventually, hooks, own_metrics, raw

PATH = "/api/v1/focus"
PIECE = b"0123456789abcdef" * 1024
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Dataset:
    """Pieces without end, or so many; counts those that were asked for, and knows whether it was closed."""

    def __init__(self, pieces: int = 10**9, error: Exception | None = None) -> None:
        self.pieces, self.error, self.made, self.closed = pieces, error, 0, threading.Event()
        self.threads: set[str] = set()

    def __call__(self, query: dict[str, str]) -> Iterator[bytes]:
        try:
            while self.made < self.pieces:
                self.made += 1
                self.threads.add(threading.current_thread().name)
                yield PIECE
            if self.error is not None:
                raise self.error
        finally:
            self.threads.add(threading.current_thread().name)
            self.closed.set()


def test_the_pieces_come_whole_and_in_order(serve):
    asked = []

    def focus(query):
        asked.append(dict(query))
        yield from (b"BilledCost\n", "1.0é\n".encode(), b"2.0\n")

    port = serve(hooks(focus=focus)).port
    answer = ask(port, f"{PATH}?from=2026-11-01&to=2026-11-22")
    assert (answer.status, answer.text) == (200, "BilledCost\n1.0é\n2.0\n")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-disposition"] == 'attachment; filename="gpu-finops-focus.csv"'
    assert asked == [{"from": "2026-11-01", "to": "2026-11-22"}]


def test_a_connection_goes_on_after_an_export(serve):
    dataset = Dataset(20)
    connection = connect(serve(hooks(focus=dataset)).port)
    for path, size in ((PATH, 20 * len(PIECE)), ("/-/healthy", 8)):
        connection.request("GET", path)
        assert len(Answer(connection.getresponse()).body) == size
    connection.close()


def test_head_makes_the_first_piece_only(serve):
    dataset = Dataset()
    answer = ask(serve(hooks(focus=dataset)).port, PATH, "HEAD")
    assert (answer.status, answer.body, dataset.made) == (200, b"", 1)
    assert dataset.closed.wait(20)


@pytest.mark.parametrize(("error", "status"), [(UsageError("no such date"), 400), (LedgerError("no ledger"), 503)])
def test_what_cannot_begin_is_a_sentence(serve, error, status):
    answer = ask(serve(hooks(focus=Dataset(0, error))).port, PATH)
    assert (answer.status, json.loads(answer.body)) == (status, {"error": str(error)})


def test_it_refuses_a_parameter_that_it_does_not_know(serve):
    answer = ask(serve().port, f"{PATH}?by=project")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "unknown parameter 'by'; allowed: from, to"})


def test_http_1_0_could_not_tell_a_part_from_the_whole(serve):
    dataset = Dataset()
    with raw(serve(hooks(focus=dataset)).port) as (sock,):
        sock.sendall(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
        assert ended(sock).startswith(b"HTTP/1.1 505 ")
    assert dataset.made == 0


@pytest.mark.parametrize("error", [LedgerError("the disk is gone"), ZeroDivisionError("a fault")])
def test_an_export_that_breaks_off_is_seen_to_be_no_whole(serve, caplog, error):
    connection = connect(serve(hooks(focus=Dataset(3, error))).port)
    connection.request("GET", PATH)
    with caplog.at_level(logging.ERROR), pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()
    assert "the answer to /api/v1/focus broke off" in caplog.text
    assert str(error) in caplog.text


def test_nothing_is_made_that_the_reader_does_not_take(serve):
    dataset = Dataset()
    exporter = serve(hooks(focus=dataset))
    with slow_reader(exporter.port) as sock:
        sock.sendall(REQUEST)
        assert eventually(lambda: dataset.made > 0)
        assert eventually(lambda: stands_still(dataset))
        held = dataset.made * len(PIECE)
        assert held < 16 * 2**20                             # what kernels buffer, not what there is
        before = dataset.made
        taken = 0
        while taken < held:
            taken += len(sock.recv(65536))
        assert eventually(lambda: dataset.made > before)
        assert ask(exporter.port).status == 200
    assert dataset.closed.wait(20)                           # the reader is gone: so is the ledger's transaction
    assert all(name.startswith("exports") for name in dataset.threads)


def stands_still(dataset: Dataset) -> bool:
    before = dataset.made
    threading.Event().wait(0.1)
    return dataset.made == before


def slow_reader(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    return sock


def test_a_second_export_waits_its_turn_and_queries_go_on(serve):
    dataset = Dataset()
    exporter = serve(hooks(focus=dataset))
    with slow_reader(exporter.port) as sock:
        sock.sendall(REQUEST)
        assert eventually(lambda: dataset.made > 0)
        refused = ask(exporter.port, PATH)
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert "another export is running" in refused.text
        assert ask(exporter.port, "/api/v1/usage").status == 200
        assert "finops_agent_http_refused_requests_total 1.0\n" in own_metrics(exporter)
    dataset.pieces = 0
    assert eventually(lambda: ask(exporter.port, PATH).status != 503)


@pytest.mark.parametrize("limits", [Limits(receive_seconds=0.5, total_seconds=0.5),
                                    Limits(receive_seconds=0.5, total_seconds=60, export_seconds=0.5)], ids=["piece", "whole"])
def test_a_reader_that_takes_too_long_is_closed(serve, limits):
    dataset = Dataset()
    exporter = serve(hooks(focus=dataset), limits)
    with slow_reader(exporter.port) as sock:
        sock.sendall(REQUEST)
        assert dataset.closed.wait(20)
    assert "timed_out_connections_total 1.0\n" in own_metrics(exporter)


def test_a_steady_reader_has_longer_than_one_answer_has(serve):
    dataset = Dataset()
    exporter = serve(hooks(focus=dataset), Limits(receive_seconds=1.0, total_seconds=1.0, export_seconds=60.0))
    with slow_reader(exporter.port) as sock:
        sock.sendall(REQUEST)
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert sock.recv(65536)
    assert dataset.closed.wait(20)
    assert "timed_out_connections_total 0.0\n" in own_metrics(exporter)


def test_closing_the_server_ends_an_export(serve):
    dataset = Dataset()
    exporter = serve(hooks(focus=dataset))
    with slow_reader(exporter.port) as sock:
        sock.sendall(REQUEST)
        assert eventually(lambda: dataset.made > 0)
        exporter.close()
        assert not ended(sock).endswith(b"0\r\n\r\n")
    assert dataset.closed.wait(20)
