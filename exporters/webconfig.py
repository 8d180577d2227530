"""The exporter-toolkit's ``web.yml``: TLS, client certificates, basic auth, headers, rate limit. Read strictly, and read again
when it or a file that it names has changed; a bad new file leaves the old one in force and is logged.

Two things that Go's TLS can do and Python's cannot are faults with a sentence, not silently something else: asking for a
client certificate without verifying it, and several curve preferences.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from agent.errors import ConfigError
from agent.files.inputs import read_input
from exporters.ratelimit import RateLimit, go_duration_seconds
from exporters.tls import Tls, TlsError, server_context
from exporters.yamltree import Faults, Table

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
_BCRYPT_COSTS = frozenset(f"{cost:02d}" for cost in range(4, 32))
_SECTIONS = "tls_server_config, http_server_config, basic_auth_users, rate_limit"
_TLS_KEYS = ("cert_file, key_file, cert, key, client_auth_type, client_ca_file, client_ca, client_allowed_sans, min_version, "
             "max_version, cipher_suites, prefer_server_cipher_suites, curve_preferences")
_HEADERS: Mapping[str, tuple[str, ...]] = {      # name -> values allowed; none: any
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}


class WebConfig(Struct, frozen=True):
    """What a web.yml says. ``context`` is None for plain HTTP."""

    context: ssl.SSLContext | None
    client_allowed_sans: tuple[str, ...] | None
    headers: Mapping[str, str]
    users: Mapping[str, str]                     # name -> bcrypt hash
    files: tuple[Path, ...]                      # everything that was read
    rate_limit: RateLimit | None = None

    @property
    def authenticates(self) -> bool:
        """Whether a stranger is turned away: by password or by client certificate."""
        return bool(self.users) or (self.context is not None and self.context.verify_mode is ssl.CERT_REQUIRED)


PLAIN = WebConfig(context=None, client_allowed_sans=None, headers={}, users={}, files=())


def load_webconfig(path: Path) -> WebConfig:
    """The file and everything it names. Raises ConfigError with all faults."""
    import yaml  # noqa: PLC0415  (only where such a file is given: 1.5 MiB)

    faults = Faults(str(path))
    try:
        text = read_input(path).decode()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigError([f"{path}:1: web.config_file: cannot be read ({reason}); name a readable web.yml"]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{path}:{line}: file: is not YAML ({error.problem}); mend it"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}:1: file: is not YAML ({' '.join(str(error).split())}); mend it"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}:1: file: is nested too deeply; write the keys of a web.yml"]) from error
    root = Table(node, "", faults)
    section = root.table("tls_server_config")
    tls = _tls(section, path.parent)
    headers = _http(root.table("http_server_config"))
    users = _users(root.table("basic_auth_users"))
    rate_limit = _rate_limit(root.table("rate_limit"))
    root.done(_SECTIONS)
    context = None
    if tls is not None and not faults.lines:
        try:
            context = server_context(tls)
        except TlsError as error:
            section.fault(error.key, error.sentence)
    if faults.lines:
        raise ConfigError(faults.lines)
    files = (path, *(tls.files if tls is not None else ()))
    return WebConfig(context, tls.client_allowed_sans if tls is not None else None, headers, users, files,
                     rate_limit)


def _tls(table: Table, directory: Path) -> Tls | None:
    if not table.has():
        return None

    def file(key: str) -> Path | None:
        name = table.text(key)
        return directory / name if name else None

    tls = Tls(
        cert_file=file("cert_file"), key_file=file("key_file"), client_ca_file=file("client_ca_file"),
        cert=table.text("cert") or "", key=table.text("key") or "", client_ca=table.text("client_ca") or "",
        client_auth_type=table.text("client_auth_type") or "NoClientCert",
        client_allowed_sans=table.texts("client_allowed_sans"),
        min_version=table.text("min_version") or "TLS12", max_version=table.text("max_version") or "TLS13",
        cipher_suites=table.texts("cipher_suites") or (),
        prefer_server_cipher_suites=table.flag("prefer_server_cipher_suites", True),
        curve_preferences=table.texts("curve_preferences") or (),
    )
    table.done(_TLS_KEYS)
    for error in tls.faults():
        table.fault(error.key, error.sentence)
    return tls


def _http(table: Table) -> dict[str, str]:
    table.flag("http2", True)                    # a permission, and HTTP/1.1 needs none
    given = table.table("headers")
    headers = given.texts_by_key()
    for name, value in headers.items():
        allowed = _HEADERS.get(name)
        if allowed is None:
            given.fault(name, f"this header cannot be set; allowed: {', '.join(_HEADERS)}")
        elif "\n" in value or "\r" in value:
            given.fault(name, "a header is one line; take the line break out")
        elif allowed and value not in allowed:
            given.fault(name, f"write one of: {', '.join(allowed)}")
    table.done("http2, headers")
    return {name: value for name, value in headers.items() if value}


def _users(table: Table) -> dict[str, str]:
    users = table.texts_by_key()
    for name, stored in users.items():
        parts = stored.split("$")
        if not (len(parts) == 4 and parts[1] in {"2a", "2b", "2y"} and parts[2] in _BCRYPT_COSTS and len(parts[3]) == 53):
            table.fault(name, "is not a bcrypt hash; make one with: htpasswd -nBC 10 '' | tr -d ':\\n'")
    return users


def _rate_limit(table: Table) -> RateLimit | None:
    text, burst = table.word("interval"), table.whole("burst")
    table.done("interval, burst")
    if text is None:
        return None
    seconds = go_duration_seconds(text)
    if seconds is None:
        table.fault("interval", "is not a duration; write it as 1s or 250ms")
    elif seconds > 0 and not burst:
        table.fault("burst", "must be 1 or more, or no request is ever answered")
    return RateLimit(seconds, burst) if seconds and burst else None


class WebConfigFile:
    """A web.yml that is kept up to date. Used from the server's thread only."""

    def __init__(self, path: Path | None, must_authenticate: bool = False) -> None:
        """Raises ConfigError. ``must_authenticate``: a later file without any authentication is a bad file."""
        self._path = path
        self._must_authenticate = must_authenticate
        self._config = load_webconfig(path) if path is not None else PLAIN
        self._seen = self._stamps()
        self._complaint = ""
        self._retry_at = math.inf                # monotonic; after a bad file: what it names may come later

    def current(self) -> WebConfig:
        """What is in force now. Costs a stat call a file; a change costs a reading."""
        if self._path is not None:
            stamps = self._stamps()
            if stamps != self._seen or time.monotonic() >= self._retry_at:
                self._seen = stamps
                self._reread(self._path)
        return self._config

    def _reread(self, path: Path) -> None:
        try:
            config = load_webconfig(path)
            faults = self._missing_authentication(config, path)
        except ConfigError as error:
            faults = str(error)
        if faults:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            if faults != self._complaint:
                log.error("web configuration not read again, the old one stays in force: %s", faults)
                self._complaint = faults
            return
        self._config, self._complaint, self._retry_at = config, "", math.inf
        self._seen = self._stamps()              # the new file may name other files
        log.info("web configuration read again from %s", path)

    def _missing_authentication(self, config: WebConfig, path: Path) -> str:
        if not self._must_authenticate or config.authenticates:
            return ""
        return (f"{path}:1: basic_auth_users: has no authentication any more, which the listening address needs; keep it, or "
                "restart with --web.allow-unauthenticated")

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._config.files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
