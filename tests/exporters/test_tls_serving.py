"""TLS, client certificates and passwords, over real connections."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import threading

import bcrypt
import pytest

from exporters.basicauth import credentials
from exporters.connections import Limits
from tests.exporters.serving import Answer, ask, connect, eventually, own_metrics

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"


def hashed(password: bytes, rounds: int = 4) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(rounds)).decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def web_yml(tls_files, tmp_path):
    path, times = tmp_path / "web.yml", iter(range(1_700_000_000, 1_700_001_000))

    def write(text: str):
        path.write_text(text)
        stamp = next(times)
        os.utime(path, (stamp, stamp))
        return path

    return write


def test_https_and_nothing_for_plain_http(serve, web_yml, trusting):
    port = serve(config_file=web_yml(TLS)).port
    assert ask(port, tls=trusting()).text.startswith("# HELP")
    with pytest.raises(ConnectionError):
        ask(port)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(port, tls=ssl.create_default_context())


def test_versions_are_kept_to(serve, web_yml, trusting):
    port = serve(config_file=web_yml(TLS + "  min_version: TLS13\n")).port
    assert ask(port, tls=trusting(minimum_version=ssl.TLSVersion.TLSv1_3)).status == 200
    with pytest.raises(ssl.SSLError):
        ask(port, tls=trusting(maximum_version=ssl.TLSVersion.TLSv1_2))


def test_a_client_certificate_is_asked_for_and_verified(serve, web_yml, trusting):
    import trustme

    port = serve(config_file=web_yml(CLIENTS)).port
    assert ask(port, tls=trusting("prometheus.example")).status == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, tls=trusting())
    stranger = trusting()
    trustme.CA().issue_cert("prometheus.example").configure_cert(stranger)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, tls=stranger)


@pytest.mark.parametrize(("identity", "allowed"), [
    ("prometheus.example", True), ("10.1.2.3", True), ("ops@example.org", True), ("other.example", False),
])
def test_only_listed_alternative_names_are_let_in(serve, web_yml, trusting, identity, allowed):
    text = CLIENTS + "  client_allowed_sans: [prometheus.example, 10.1.2.3, ops@example.org]\n"
    port = serve(config_file=web_yml(text)).port
    if allowed:
        assert ask(port, tls=trusting(identity)).status == 200
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, tls=trusting(identity))


def test_a_new_certificate_is_served_without_restart_and_old_connections_go_on(serve, web_yml, tls_files, trusting):
    exporter = serve(config_file=web_yml(TLS))
    context = trusting()

    def certificate() -> bytes:
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=20) as sock, \
                context.wrap_socket(sock, server_hostname="localhost") as tls:
            return tls.getpeercert(binary_form=True)

    before = certificate()
    held = connect(exporter.port, context)
    held.request("GET", "/-/healthy")
    assert Answer(held.getresponse()).status == 200
    after = tls_files()
    assert after != before
    assert certificate() == after
    held.request("GET", "/-/healthy")
    assert Answer(held.getresponse()).status == 200
    held.close()


def test_a_broken_new_certificate_leaves_the_old_one_in_force(serve, web_yml, trusting, tmp_path):
    port = serve(config_file=web_yml(TLS)).port
    (tmp_path / "server.crt").write_text("half a file")
    assert ask(port, tls=trusting()).status == 200


def test_headers_from_the_file_are_in_every_answer(serve, web_yml):
    port = serve(config_file=web_yml("http_server_config: {headers: {Strict-Transport-Security: max-age=60}}\n")).port
    for path in ("/metrics", "/nothing"):
        assert ask(port, path).headers["strict-transport-security"] == "max-age=60"


PATHS = ["/metrics", "/", "/-/healthy", "/-/ready", "/api/v1/usage", "/api/v1/focus", "/api/v1/snapshot", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_wants_the_password(serve, web_yml, path):
    port = serve(config_file=web_yml(f"basic_auth_users: {{alice: {hashed(b'right')}, bob: {hashed(b'other')}}}\n")).port
    for wrong in ({}, {"Authorization": basic("alice", "other")}, {"Authorization": basic("carol", "right")},
                  {"Authorization": basic("alice", "")}, {"Authorization": "Bearer right"}, {"Authorization": "Basic !"}):
        answer = ask(port, path, **wrong)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="gpu-finops"')
    for _ in range(2):
        assert ask(port, path, Authorization=basic("alice", "right")).status == (404 if path == "/nothing" else 200)


def test_reload_wants_the_password_too(serve, web_yml):
    port = serve(config_file=web_yml(f"basic_auth_users: {{alice: {hashed(b'right')}}}\n")).port
    assert ask(port, "/-/reload", "POST").status == 401


def test_a_password_that_is_withdrawn_stops_working_at_once(serve, web_yml):
    port = serve(config_file=web_yml(f"basic_auth_users: {{alice: {hashed(b'right')}}}\n")).port
    assert ask(port, Authorization=basic("alice", "right")).status == 200
    web_yml(f"basic_auth_users: {{alice: {hashed(b'new')}}}\n")
    assert ask(port, Authorization=basic("alice", "right")).status == 401
    assert ask(port, Authorization=basic("alice", "new")).status == 200
    web_yml(f"basic_auth_users: {{bob: {hashed(b'new')}}}\n")
    assert ask(port, Authorization=basic("alice", "new")).status == 401


def test_htpasswds_prefix_long_passwords_and_other_letters(serve, web_yml):
    stored = hashed("päss:wörd".encode()).replace("$2b$", "$2y$")
    long = hashed(b"x" * 72)
    port = serve(config_file=web_yml(f"basic_auth_users: {{alice: {stored}, bob: {long}}}\n")).port
    assert ask(port, Authorization=basic("alice", "päss:wörd")).status == 200
    assert ask(port, Authorization=basic("bob", "x" * 100)).status == 200      # bcrypt ends at 72 bytes, as htpasswd's does
    assert ask(port, Authorization=basic("bob", "x" * 71)).status == 401
    assert ask(port, Authorization=basic("alice", "a\0b")).status == 401


def test_slow_password_checks_hold_up_nobody_who_is_known_and_their_queue_has_an_end(serve, web_yml):
    # 2**14 rounds take the better part of a second: guesses queue up while a scraper that was right before goes on.
    text = f"basic_auth_users: {{scraper: {hashed(b'right')}, alice: {hashed(b'secret', 14)}}}\n"
    exporter = serve(config_file=web_yml(text), limits=Limits(max_password_checks=2))
    assert ask(exporter.port, Authorization=basic("scraper", "right")).status == 200
    answers: list[int] = []
    threads = [threading.Thread(target=lambda i=i: answers.append(
        ask(exporter.port, Authorization=basic("alice", f"guess {i}")).status)) for i in range(8)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: 503 in answers)
    assert ask(exporter.port, Authorization=basic("scraper", "right")).status == 200
    assert len(answers) < 8                      # the scraper did not wait for the guesses that are being checked
    for thread in threads:
        thread.join()
    assert set(answers) == {401, 503}
    assert f"finops_agent_http_refused_requests_total {answers.count(503)}.0\n" in own_metrics(
        exporter, Authorization=basic("scraper", "right"))


def test_an_unknown_user_costs_what_a_wrong_password_costs(serve, web_yml):
    # With no room for any check, whoever needs one is told so: known and unknown users alike.
    port = serve(config_file=web_yml(f"basic_auth_users: {{alice: {hashed(b'right')}}}\n"),
                 limits=Limits(max_password_checks=0)).port
    assert ask(port, Authorization=basic("alice", "wrong")).status == 503
    assert ask(port, Authorization=basic("nobody", "wrong")).status == 503
    assert ask(port).status == 401


def test_an_open_address_is_served_with_authentication(serve, web_yml):
    exporter = serve(host="0.0.0.0", config_file=web_yml(f"basic_auth_users: {{alice: {hashed(b'right')}}}\n"))
    assert ask(exporter.port).status == 401
    assert ask(exporter.port, Authorization=basic("alice", "right")).status == 200
    web_yml("basic_auth_users: {}\n")            # must not open the door
    assert ask(exporter.port).status == 401


@pytest.mark.parametrize(("header", "expected"), [
    ("Basic YTpi", ("a", b"b")), ("basic YTpi", ("a", b"b")), ("Basic YTpiOmM=", ("a", b"b:c")), ("Basic YQ==", None),
    ("Basic", None), ("", None), ("Digest YTpi", None), ("Basic /////", None), ("Basic Ov8=", ("", b"\xff")),
])
def test_reading_of_the_authorization_header(header, expected):
    assert credentials(header) == expected


def test_a_client_without_tls_is_turned_away_and_others_go_on(serve, web_yml, trusting):
    exporter = serve(config_file=web_yml(TLS))
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")  # no TLS: the handshake fails and the connection ends
        with contextlib.suppress(ConnectionError):
            assert len(sock.recv(100)) < 20      # a TLS alert at most
    assert ask(exporter.port, tls=trusting()).status == 200


