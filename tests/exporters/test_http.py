"""The endpoints over real sockets: what each answers, to whom, and in which words it refuses."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
from decimal import Decimal

import pytest

from agent.errors import FinOpsError, LedgerError, UsageError
from agent.settings import Web
from exporters import EXPORTERS
from exporters.connections import Limits
from exporters.exposition import OPENMETRICS, TEXT
from exporters.listening import is_loopback
from tests.exporters import snapshots
from tests.exporters.serving import Answer, ask, connect, eventually, hooks, own_metrics, raw


def test_metrics_in_both_formats_and_compressed(serve):
    port = serve().port
    text = ask(port)
    assert (text.status, text.headers["content-type"]) == (200, TEXT)
    assert text.text.startswith("# HELP finops_gpu_info ")
    open_metrics = ask(port, Accept="application/openmetrics-text;version=1.0.0", Accept_Encoding="gzip")
    assert open_metrics.headers["content-type"] == OPENMETRICS
    assert open_metrics.headers["content-encoding"] == "gzip"
    assert gzip.decompress(open_metrics.body).endswith(b"# EOF\n")
    assert text.headers["vary"] == "Accept, Accept-Encoding"


def test_metrics_follow_what_is_published(serve):
    exporter = serve(snapshot=snapshots.fleet(1, 1, tick=1))
    assert "finops_agent_ticks_total 1.0\n" in ask(exporter.port).text
    exporter.publish(snapshots.fleet(1, 1, tick=2))
    assert "finops_agent_ticks_total 2.0\n" in ask(exporter.port).text


def test_the_servers_own_connections_and_process_are_in_the_metrics(serve):
    text = ask(serve().port).text
    assert "finops_agent_http_connections 1.0\n" in text
    assert "process_resident_memory_bytes " in text


def test_head_has_the_headers_and_no_body(serve):
    port = serve().port
    head = ask(port, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 1000


def test_one_connection_serves_many_requests(serve):
    connection = connect(serve().port)
    for path in ("/metrics", "/nothing", "/-/healthy", "/metrics"):
        connection.request("GET", path)
        status = Answer(connection.getresponse()).status
        assert status == (404 if path == "/nothing" else 200)
    connection.close()


def test_before_the_first_reading_it_is_healthy_and_not_ready(serve):
    exporter = serve(snapshot=None)
    assert ask(exporter.port, "/-/healthy").status == 200
    for path in ("/-/ready", "/metrics", "/", "/api/v1/snapshot"):
        answer = ask(exporter.port, path)
        assert answer.status == 503
        assert "reading of the devices" in answer.text
    exporter.publish(snapshots.empty())
    assert ask(exporter.port, "/-/ready").status == 200


def test_ready_asks_the_program(serve):
    fresh = []
    exporter = serve(hooks(ready=lambda: bool(fresh)))
    assert ask(exporter.port, "/-/ready").status == 503
    fresh.append(1)
    assert ask(exporter.port, "/-/ready").text == "ready\n"


def test_reload_takes_post_only_and_not_from_another_site(serve):
    asked = []
    port = serve(hooks(reload=lambda: asked.append(1))).port
    refused = ask(port, "/-/reload")
    assert (refused.status, refused.headers["allow"], refused.text) == (405, "POST", "this takes POST only\n")
    assert ask(port, "/-/reload", "POST", Origin="http://evil.example").status == 403
    assert asked == []
    assert ask(port, "/-/reload", "POST").status == 200
    assert ask(port, "/-/reload", "POST", Origin=f"http://127.0.0.1:{port}").status == 200
    assert asked == [1, 1]


@pytest.mark.parametrize("target", ["http://[", "//[x", "http://[::1/metrics"])
def test_an_address_that_is_none_is_the_clients_fault_and_fills_no_log(serve, caplog, target):
    with raw(serve().port) as (sock,):
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert caplog.text == ""


@pytest.mark.parametrize("origin", ["http://[", "null", "", "http://"])
def test_an_odd_origin_may_not_reload(serve, caplog, origin):
    asked = []
    assert ask(serve(hooks(reload=lambda: asked.append(1))).port, "/-/reload", "POST", Origin=origin).status == 403
    assert (asked, caplog.text) == ([], "")


@pytest.mark.parametrize(
    "path", ["/metrics", "/", "/-/healthy", "/-/ready", "/api/v1/usage", "/api/v1/focus", "/api/v1/snapshot"])
def test_other_methods_are_refused_with_what_is_allowed(serve, path):
    answer = ask(serve().port, path, "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_an_unknown_path_is_told_what_there_is(serve):
    answer = ask(serve().port, "/metric")
    assert answer.status == 404
    assert "/metrics" in answer.text


def test_usage_hands_its_question_on_and_numbers_come_back_as_numbers(serve):
    port = serve(hooks(usage=lambda query: {"asked": dict(query), "cost": Decimal("12.000000001"), "none": None})).port
    answer = ask(port, "/api/v1/usage?from=2026-11-01&to=2026-11-22&by=project,day")
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == ('{"asked":{"from":"2026-11-01","to":"2026-11-22","by":"project,day"},"cost":12.000000001,'
                           '"none":null}\n')


@pytest.mark.parametrize(("error", "status"), [(UsageError("cannot report by 'x'"), 400), (LedgerError("no ledger"), 503)])
def test_usage_gives_the_programs_sentence(serve, error, status):
    def usage(query):
        raise error

    answer = ask(serve(hooks(usage=usage)).port, "/api/v1/usage")
    assert (answer.status, json.loads(answer.body)) == (status, {"error": str(error)})


def test_usage_refuses_a_parameter_that_it_does_not_know(serve):
    answer = ask(serve().port, "/api/v1/usage?since=2026")
    assert (answer.status, json.loads(answer.body)) == (
        400, {"error": "unknown parameter 'since'; allowed: from, to, by, idle_policy, exact"})


def test_an_unforeseen_error_is_a_500_and_is_logged(serve, caplog):
    def usage(query):
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        answer = ask(serve(hooks(usage=usage)).port, "/api/v1/usage")
    assert answer.status == 500
    assert "cannot answer GET /api/v1/usage" in caplog.text


def test_a_slow_query_holds_up_no_scrape_and_the_queue_has_an_end(serve):
    release, entered, running = threading.Event(), threading.Semaphore(0), []

    def usage(query):
        running.append(1)
        most.append(len(running))
        entered.release()
        assert release.wait(20)
        running.pop()
        return {}

    most: list[int] = []
    exporter = serve(hooks(usage=usage), Limits(max_queries=3))
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(exporter.port, "/api/v1/usage").status)) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert entered.acquire(timeout=20)
    assert eventually(lambda: answers == [503, 503])       # three of five have a place
    assert "finops_agent_http_refused_requests_total 2.0\n" in own_metrics(exporter)
    release.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 200, 200, 503, 503]
    assert max(most) == 1                                  # one at a time


@pytest.mark.parametrize("request_bytes", [
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET\r\n\r\n",
], ids=["header", "body", "tls", "no path"])
def test_what_is_too_large_or_no_http_ends_the_connection_and_nothing_else(serve, request_bytes):
    exporter = serve()
    with raw(exporter.port) as (sock,):
        try:
            sock.sendall(request_bytes)
            received = sock.recv(1000)
        except ConnectionError:
            received = b""
        assert received == b"" or received.startswith(b"HTTP/1.1 400")
    assert ask(exporter.port).status == 200


def test_a_taken_port_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FinOpsError) as raised:
            EXPORTERS["prometheus"](Web(port=port), hooks())
    assert str(raised.value).startswith(f"cannot listen on 127.0.0.1:{port}: another program has this port; stop it, or give "
                                        "another with --web.listen-address")
    assert raised.value.exit_status == 1


def test_a_name_listens_on_each_of_its_addresses_that_the_machine_has(serve):
    port = serve(host="localhost").port
    for family, kind, _, _, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind) as sock:
            try:
                sock.bind((address[0], 0))
            except OSError:
                continue                         # an address that this machine does not have
            with socket.socket(family, kind) as client:
                client.connect(address)
    assert ask(port).status == 200


def test_an_address_of_another_machine_is_one_sentence():
    with pytest.raises(FinOpsError, match="give an address of this machine"):
        EXPORTERS["prometheus"](Web(host="203.0.113.7", port=0, allow_unauthenticated=True), hooks())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_open_address_without_authentication_is_refused(serve, host):
    with pytest.raises(UsageError, match=r"refusing to serve .* --web\.allow-unauthenticated") as raised:
        serve(host=host)
    assert raised.value.exit_status == 2


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_an_open_address_may_be_allowed(serve, host):
    assert ask(serve(host=host, allow_unauthenticated=True).port).status == 200


@pytest.mark.parametrize(("host", "expected"), [
    ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
    ("192.0.2.1", False), ("", False), ("no-such-host.invalid", False),
])
def test_what_counts_as_loopback(host, expected):
    assert is_loopback(host) is expected


def test_close_ends_connections_frees_the_port_and_may_be_repeated(serve):
    exporter = serve()
    with raw(exporter.port) as (sock,):
        assert eventually(lambda: "finops_agent_http_connections 2.0" in own_metrics(exporter))
        exporter.close()
        assert sock.recv(1) == b""
    exporter.close()
    with socket.create_server(("127.0.0.1", exporter.port)):
        pass


def test_close_without_start_frees_the_port():
    exporter = EXPORTERS["prometheus"](Web(port=0), hooks())
    exporter.close()
    with socket.create_server(("127.0.0.1", exporter.port)):
        pass
