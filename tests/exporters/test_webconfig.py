"""web.yml: what it may say, which sentence each fault gets, and how a change takes effect."""

from __future__ import annotations

import logging
import os

import bcrypt
import pytest

from agent.errors import ConfigError
from exporters.webconfig import RETRY_SECONDS, WebConfigFile, load_webconfig
from tests.exporters.serving import eventually

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


@pytest.fixture
def web_yml(tmp_path):
    """Writes a web.yml; a later one is visibly newer whatever the file system's clock."""
    path, times = tmp_path / "web.yml", iter(range(1_700_000_000, 1_700_001_000))

    def write(text: str):
        path.write_text(text)
        stamp = next(times)
        os.utime(path, (stamp, stamp))
        return path

    return write


def faults(path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_webconfig(path)
    assert raised.value.exit_status == 2
    return raised.value.faults


@pytest.mark.parametrize("text", [
    "", "# only a comment\n", "tls_server_config:\n", "basic_auth_users: {}\n", "http_server_config: {http2: false}\n",
])
def test_a_file_that_asks_for_nothing_gives_plain_http(web_yml, text):
    config = load_webconfig(web_yml(text))
    assert (config.context, dict(config.users), dict(config.headers), config.authenticates) == (None, {}, {}, False)


def test_everything_the_toolkit_knows_and_python_can_do(web_yml, tls_files):
    config = load_webconfig(web_yml(
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        "  client_allowed_sans: [prom, '10.0.0.1']\n"
        "  min_version: TLS12\n  max_version: TLS13\n  prefer_server_cipher_suites: false\n  curve_preferences: [CurveP256]\n"
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]\n"
        "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=1\n"
        f"basic_auth_users:\n  alice: {HASH}\n"))
    assert config.authenticates
    assert config.client_allowed_sans == ("prom", "10.0.0.1")
    assert dict(config.headers) == {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=1"}
    assert dict(config.users) == {"alice": HASH}
    assert [file.name for file in config.files] == ["web.yml", "server.crt", "server.key", "ca.crt"]
    suites = {suite["name"] for suite in config.context.get_ciphers() if suite["protocol"] == "TLSv1.2"}
    assert suites == {"ECDHE-ECDSA-AES256-GCM-SHA384"}


def test_tls_alone_is_no_authentication(web_yml, tls_files):
    assert not load_webconfig(web_yml(TLS)).authenticates
    optional = TLS + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n"
    assert not load_webconfig(web_yml(optional)).authenticates


@pytest.mark.parametrize(("text", "expected"), [
    ("tls_config:\n  cert_file: x\n", "1: tls_config: unknown key; allowed here: tls_server_config, http_server_config, "
                                      "basic_auth_users, rate_limit"),
    (TLS + "  cert_fil: x\n", "4: tls_server_config.cert_fil: unknown key"),
    (TLS + "  key_file: other.key\n", "4: tls_server_config.key_file: is given twice; keep one"),
    ("tls_server_config:\n  cert_file: server.crt\n", "1: tls_server_config.key_file: is missing; TLS needs key_file or key"),
    (TLS + "  min_version: TLS9\n", "4: tls_server_config.min_version: write one of: TLS10, TLS11, TLS12, TLS13"),
    (TLS + "  min_version: 1.2\n", "4: tls_server_config.min_version: must be a string; put it in quotes"),
    (TLS + "  client_auth_type: Maybe\n", "4: tls_server_config.client_auth_type: write one of: NoClientCert"),
    (TLS + "  client_auth_type: RequireAnyClientCert\n", "4: tls_server_config.client_auth_type: RequireAnyClientCert takes "
     "certificates without verifying them, which this server does not do; write RequireAndVerifyClientCert"),
    (TLS + "  client_ca_file: ca.crt\n", "1: tls_server_config.client_auth_type: is needed with a client CA"),
    (TLS + "  client_allowed_sans: [x]\n", "4: tls_server_config.client_allowed_sans: needs client_auth_type"),
    (TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: x\n",
     "5: tls_server_config.client_allowed_sans: must be a list of strings"),
    (TLS + "  cipher_suites:\n    - TLS_RSA_WITH_RC4\n", "4: tls_server_config.cipher_suites: TLS_RSA_WITH_RC4 is not known"),
    (TLS + "  curve_preferences: [P256]\n", "4: tls_server_config.curve_preferences: P256 is not known"),
    (TLS + "  curve_preferences: [X25519, CurveP256]\n", "4: tls_server_config.curve_preferences: this server's TLS takes one"),
    (TLS + "  prefer_server_cipher_suites: maybe\n", "4: tls_server_config.prefer_server_cipher_suites: must be true or false"),
    (TLS + "  cert: PEM\n", "4: tls_server_config.cert: is given beside cert_file; keep one"),
    ("http_server_config:\n  headers:\n    Server: x\n", "3: http_server_config.headers.Server: this header cannot be set"),
    ("http_server_config:\n  headers: {X-Frame-Options: allow}\n",
     "2: http_server_config.headers.X-Frame-Options: write one of: deny, sameorigin"),
    ("basic_auth_users:\n  alice: secret\n", "2: basic_auth_users.alice: is not a bcrypt hash; make one with: htpasswd"),
    ("basic_auth_users:\n  alice: 12\n", "2: basic_auth_users.alice: must be a string"),
    ("basic_auth_users: [alice]\n", "1: basic_auth_users: must be a mapping"),
    ("rate_limit: {interval: often, burst: 1}\n", "1: rate_limit.interval: is not a duration; write it as 1s or 250ms"),
    ("rate_limit:\n  interval: 1s\n", "1: rate_limit.burst: must be 1 or more"),
    ("rate_limit:\n  interval: 1s\n  burst: many\n", "3: rate_limit.burst: must be a whole number"),
    ("rate_limit: {every: 1s}\n", "1: rate_limit.every: unknown key; allowed here: interval, burst"),
    ("- 1\n", "1: file: must be a mapping"),
    ("a: [1\nb: 2\n", "2: file: is not YAML"),
    ("a: \x01\n", "1: file: is not YAML"),
])
def test_each_fault_has_its_line_and_a_sentence(web_yml, tls_files, text, expected):
    path = web_yml(text)
    found = faults(path)
    assert any(line.startswith(f"{path}:{expected}") for line in found), found


def test_all_faults_are_told_at_once(web_yml):
    assert len(faults(web_yml("x: 1\ny: 2\nbasic_auth_users:\n  a: b\n"))) == 3


def test_missing_and_unreadable_files(web_yml, tls_files, tmp_path):
    path = tmp_path / "web.yml"
    assert faults(path) == [f"{path}:1: web.config_file: cannot be read (No such file or directory); name a readable web.yml"]
    path.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in faults(path)[0]
    web_yml(TLS)
    (tmp_path / "server.key").unlink()
    assert faults(path)[0].startswith(f"{path}:2: tls_server_config.cert_file: ")
    (tmp_path / "server.key").write_text("no key")
    assert "cannot be used" in faults(path)[0]


def test_a_key_with_a_passphrase_is_refused_without_asking_on_the_terminal(web_yml, tls_files, tmp_path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    (tmp_path / "server.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")))
    assert "the key has a passphrase" in faults(web_yml(TLS))[0]


def test_a_foreign_client_ca_is_a_fault(web_yml, tls_files, tmp_path):
    (tmp_path / "ca.crt").write_text("nonsense")
    text = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
    assert faults(web_yml(text))[0].startswith(f"{tmp_path}/web.yml:5: tls_server_config.client_ca_file: ")


def test_inline_certificate_key_and_authority(web_yml, tls_files, tmp_path):
    def inline(name: str) -> str:
        return "|\n" + "".join(f"    {line}\n" for line in (tmp_path / name).read_text().splitlines())

    config = load_webconfig(web_yml(
        f"tls_server_config:\n  cert: {inline('server.crt')}  key: {inline('server.key')}  client_ca: {inline('ca.crt')}"
        "  client_auth_type: RequireAndVerifyClientCert\n"))
    assert config.authenticates
    assert [file.name for file in config.files] == ["web.yml"]


def test_a_change_is_taken_up_and_a_bad_one_is_not(web_yml, caplog):
    file = WebConfigFile(web_yml(f"basic_auth_users: {{alice: {HASH}}}\n"))
    web_yml(f"basic_auth_users: {{bob: {HASH}}}\n")
    assert set(file.current().users) == {"bob"}
    with caplog.at_level(logging.ERROR):
        web_yml("basic_auth_users: {carol: plain}\n")
        assert set(file.current().users) == {"bob"}
        assert set(file.current().users) == {"bob"}
    assert caplog.text.count("the old one stays in force") == 1
    web_yml(f"basic_auth_users: {{dave: {HASH}}}\n")
    assert set(file.current().users) == {"dave"}


def test_a_file_that_is_taken_away_changes_nothing(web_yml):
    path = web_yml(f"basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    path.unlink()
    assert set(file.current().users) == {"alice"}


def test_a_certificate_that_comes_after_the_file_that_names_it_is_found(web_yml, tls_files, tmp_path):
    file = WebConfigFile(web_yml(""))
    (tmp_path / "server.crt").rename(tmp_path / "later.crt")
    web_yml(TLS)
    assert file.current().context is None
    (tmp_path / "later.crt").rename(tmp_path / "server.crt")
    assert RETRY_SECONDS < 20
    assert eventually(lambda: file.current().context is not None)


def test_where_authentication_is_needed_a_file_without_it_is_a_bad_file(web_yml, caplog):
    file = WebConfigFile(web_yml(f"basic_auth_users: {{alice: {HASH}}}\n"), must_authenticate=True)
    web_yml("http_server_config: {http2: false}\n")
    with caplog.at_level(logging.ERROR):
        assert set(file.current().users) == {"alice"}
    assert "has no authentication any more" in caplog.text
