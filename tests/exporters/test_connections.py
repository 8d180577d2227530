"""Slow and stuck clients, and more of them than there is room for."""

from __future__ import annotations

import resource
import socket
import threading
import time

import pytest

from exporters.connections import DESCRIPTOR_RESERVE, FEWEST_CONNECTIONS, ConnectionTable, Limits
from tests.exporters import snapshots
from tests.exporters.serving import Answer, Trickle, ask, connect, ended, eventually, own_metrics, raw

SLOW_CLIENTS = 500
SCRAPES = 200
P99_SECONDS = 0.1                                # asked for by name: a scrape answers within 100 ms, whatever others do


def scrapes_p99(port: int, tls=None) -> float:
    """The 99th percentile of whole scrapes, each on a connection of its own, parsed no further than its length."""
    seconds, pause = [], threading.Event()
    for _ in range(SCRAPES):
        pause.wait(0.015)                        # so that the slow clients send a few bytes meanwhile
        began = time.monotonic()
        answer = ask(port, tls=tls, Accept_Encoding="gzip")
        seconds.append(time.monotonic() - began)
        assert answer.status == 200
        assert len(answer.body) > 1000
    return sorted(seconds)[int(0.99 * SCRAPES) - 1]


def test_500_clients_of_a_byte_a_second_delay_no_scrape(server_process):
    port = server_process(8, 10)
    with raw(port, SLOW_CLIENTS) as slow:
        trickle = Trickle(slow, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        try:
            assert scrapes_p99(port) <= P99_SECONDS
            text = ask(port).text
        finally:
            trickle.close()
    open_now = float(text.partition("\nfinops_agent_http_connections ")[2].partition("\n")[0])
    assert open_now > SLOW_CLIENTS               # they were all there meanwhile


def test_handshakes_that_never_finish_delay_no_scrape(server_process, tls_files, trusting, tmp_path):
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    port = server_process(8, 10, tmp_path / "web.yml")
    with raw(port, SLOW_CLIENTS) as slow:
        # The head of a TLS record that promises a 512-byte ClientHello; its bytes then trickle in.
        trickle = Trickle(slow, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        try:
            assert scrapes_p99(port, trusting()) <= P99_SECONDS
        finally:
            trickle.close()


def test_a_byte_now_and_then_buys_no_time(serve):
    exporter = serve(limits=Limits(receive_seconds=1.0))
    began = time.monotonic()
    with raw(exporter.port) as (sock,):
        sock.settimeout(0.05)
        sent = 0
        while time.monotonic() < began + 20:
            try:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nX: "[sent % 26:][:1])
                sent += 1
                assert sock.recv(1) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert sent > 5
    assert time.monotonic() - began >= 1.0
    assert "finops_agent_http_timed_out_connections_total 1.0\n" in own_metrics(exporter)


def test_a_silent_client_a_stuck_handshake_and_an_idle_connection_are_closed(serve, tls_files, tmp_path):
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    limits = Limits(receive_seconds=0.3, keep_alive_seconds=0.3)
    with raw(serve(limits=limits).port) as (sock,):
        assert ended(sock) == b""
    with raw(serve(limits=limits, config_file=tmp_path / "web.yml").port) as (sock,):
        sock.sendall(b"\x16\x03\x01")
        assert ended(sock) == b""
    with raw(serve(limits=limits).port) as (sock,):
        sock.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended(sock).endswith(b"healthy\n")


def test_a_request_after_a_rest_has_its_own_deadline(serve):
    exporter = serve(limits=Limits(receive_seconds=0.6, keep_alive_seconds=60))
    with raw(exporter.port) as (sock,):
        sock.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1000).endswith(b"healthy\n")
        sock.settimeout(1.5)
        with pytest.raises(TimeoutError):
            sock.recv(1)                         # rests past the time for receiving: not closed
        sock.settimeout(20)
        sock.sendall(b"G")
        assert ended(sock) == b""                # but what has begun must end


def test_a_reader_that_does_not_read_is_closed(serve):
    large = snapshots.fleet(16, 100)             # 3 MB of text
    exporter = serve(limits=Limits(receive_seconds=0.5, total_seconds=1.0), snapshot=large)
    reading = socket.socket()
    reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reading.settimeout(20)
    with reading:
        reading.connect(("127.0.0.1", exporter.port))
        for _ in range(8):                       # more than any kernel buffers
            reading.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert eventually(lambda: "timed_out_connections_total 1.0\n" in own_metrics(exporter, large))


def test_a_full_house_closes_the_longest_without_a_request_and_serves_the_newcomer(serve):
    exporter = serve(limits=Limits(max_connections=FEWEST_CONNECTIONS))
    scraper = connect(exporter.port)
    scraper.request("GET", "/metrics")
    assert Answer(scraper.getresponse()).status == 200
    # One more than fits: the oldest of the silent has to go, not the scraper, who was there before them.
    with raw(exporter.port, FEWEST_CONNECTIONS) as (oldest, *_, newest):
        assert ended(oldest) == b""
        exporter.publish(snapshots.fixed())
        scraper.request("GET", "/metrics")
        text = Answer(scraper.getresponse()).text
        assert "finops_agent_http_evicted_connections_total 1.0\n" in text
        assert f"finops_agent_http_connections {FEWEST_CONNECTIONS}.0\n" in text
        newest.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert newest.recv(1000).startswith(b"HTTP/1.1 200")
    scraper.close()


def test_many_more_clients_than_room_leave_scrapes_alone(serve):
    exporter = serve(limits=Limits(max_connections=16))
    with raw(exporter.port, 200):
        assert ask(exporter.port).status == 200
        assert ask(exporter.port).status == 200


def test_the_cap_stays_below_the_descriptor_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        assert ConnectionTable(Limits(max_connections=512)).cap == 300 - DESCRIPTOR_RESERVE
        assert ConnectionTable(Limits(max_connections=100)).cap == 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        assert ConnectionTable(Limits()).cap == FEWEST_CONNECTIONS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
