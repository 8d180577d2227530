"""A server's TLS context from the exporter-toolkit's words, which are Go's."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from agent.files.inputs import open_input

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1, "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE, "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = frozenset({"RequestClientCert", "RequireAnyClientCert", "RequireClientCert"})
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_TLS13_SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}


class TlsError(Exception):
    """One key of the TLS section that cannot be used, and what to do."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(f"{key}: {sentence}")
        self.key, self.sentence = key, sentence


class Tls(Struct, frozen=True, kw_only=True):
    """The ``tls_server_config`` section. Each of certificate, key and client CA is a file or PEM text."""

    cert_file: Path | None
    key_file: Path | None
    client_ca_file: Path | None
    cert: str
    key: str
    client_ca: str
    client_auth_type: str
    client_allowed_sans: tuple[str, ...] | None
    min_version: str
    max_version: str
    cipher_suites: tuple[str, ...]
    prefer_server_cipher_suites: bool
    curve_preferences: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for file in (self.cert_file, self.key_file, self.client_ca_file) if file is not None)

    def faults(self) -> Iterator[TlsError]:
        """What can be said without opening a file."""
        for key in ("cert", "key", "client_ca"):
            file, text = getattr(self, f"{key}_file"), getattr(self, key)
            if file is not None and text:
                yield TlsError(key, f"is given beside {key}_file; keep one")
            elif file is None and not text and key != "client_ca":
                yield TlsError(f"{key}_file", f"is missing; TLS needs {key}_file or {key}")
        yield from self._client_faults()
        for key in ("min_version", "max_version"):
            if getattr(self, key) not in _VERSIONS:
                yield TlsError(key, f"write one of: {', '.join(_VERSIONS)}")
        for suite in self.cipher_suites:
            if suite not in _SUITES and suite not in _TLS13_SUITES:
                yield TlsError("cipher_suites", f"{suite} is not known; known: {', '.join(_SUITES)}")
        for curve in self.curve_preferences:
            if curve not in _CURVES:
                yield TlsError("curve_preferences", f"{curve} is not known; known: {', '.join(_CURVES)}")
        if len(self.curve_preferences) > 1:
            yield TlsError("curve_preferences", "this server's TLS takes one curve; keep the one preferred most, or none")

    def _client_faults(self) -> Iterator[TlsError]:
        kind, authority = self.client_auth_type, self.client_ca_file is not None or bool(self.client_ca)
        if kind in _UNVERIFIED:
            yield TlsError("client_auth_type", f"{kind} takes certificates without verifying them, which this server does not "
                                               "do; write RequireAndVerifyClientCert")
        elif kind not in _CLIENT_AUTH:
            yield TlsError("client_auth_type", f"write one of: {', '.join(_CLIENT_AUTH)}")
        elif kind == "NoClientCert" and authority:
            yield TlsError("client_auth_type", "is needed with a client CA; write RequireAndVerifyClientCert")
        if self.client_allowed_sans is not None and kind != "RequireAndVerifyClientCert":
            yield TlsError("client_allowed_sans", "needs client_auth_type RequireAndVerifyClientCert; write that too")


def server_context(tls: Tls) -> ssl.SSLContext:
    """The context. Reads the files; raises TlsError for one that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    suites = [_SUITES[suite] for suite in tls.cipher_suites if suite in _SUITES]
    if suites:
        context.set_ciphers(":".join(suites))    # TLS 1.2 and below, as in Go
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.Options.OP_CIPHER_SERVER_PREFERENCE
    for curve in tls.curve_preferences:
        context.set_ecdh_curve(_CURVES[curve])
    try:
        with _as_file(tls.cert_file, tls.cert) as cert, _as_file(tls.key_file, tls.key) as key:
            context.load_cert_chain(cert, key, password=_no_password)
    except OSError as error:                     # ssl.SSLError is one too
        name = error.filename or tls.cert_file or "the inline certificate"
        raise TlsError("cert_file", f"{name} and its key cannot be used ({_reason(error)}); give a readable PEM certificate "
                                    "chain and the key that belongs to it, without a passphrase") from error
    context.verify_mode = _CLIENT_AUTH[tls.client_auth_type]
    try:
        if tls.client_ca_file is not None:
            open_input(tls.client_ca_file).close()
        if tls.client_ca_file is not None or tls.client_ca:
            context.load_verify_locations(cafile=tls.client_ca_file, cadata=tls.client_ca or None)
        elif context.verify_mode is not ssl.CERT_NONE:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (OSError, ValueError) as error:
        raise TlsError("client_ca_file", f"{tls.client_ca_file or 'the inline CA'} cannot be used ({_reason(error)}); give a "
                                         "readable PEM file of CA certificates") from error
    return context


def has_allowed_san(certificate: dict[str, object] | None, allowed: tuple[str, ...]) -> bool:
    """Whether one of a peer certificate's alternative names (DNS, IP, e-mail, URI) is in the list, exactly."""
    names = (certificate or {}).get("subjectAltName", ())
    return isinstance(names, tuple) and any(value in allowed for _, value in names)


@contextmanager
def _as_file(file: Path | None, text: str) -> Iterator[Path]:
    """The file, or the text as a file that exists in memory only: Python's TLS takes certificates from files alone."""
    if file is not None:
        open_input(file).close()                 # OpenSSL would wait for ever for what a pipe does not say
        yield file
        return
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _no_password() -> str:
    """Called for an encrypted key, where OpenSSL would otherwise ask on the terminal."""
    raise OSError("the key has a passphrase")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
