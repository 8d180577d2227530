"""Asks a daemon over HTTP or HTTPS, with a name and a password where its address has them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from agent.errors import FinOpsError, UsageError
from agent.settings import Web

_ANY: Final = "0.0.0.0"  # noqa: S104 - asked, not bound
_HERE: Final = {_ANY: "127.0.0.1", "::": "::1"}
_BUFFER_BYTES: Final = 64 * 1024


class DaemonError(FinOpsError):
    """A daemon that gives no answer: the reason, and what to do. ``closed``: it answers those who have a password, or a
    certificate, or know its own."""

    def __init__(self, reason: str, advice: str, *, closed: bool = False) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason, self.advice, self.closed = reason, advice, closed


class Answer:
    """A response, read once. Raises DaemonError where it breaks off."""

    def __init__(self, response: http.client.HTTPResponse, place: str) -> None:
        self.status, self.reason = response.status, response.reason
        self._response, self._place = response, place

    def read(self, most_bytes: int | None = None) -> bytes:
        with _told(self._place):
            return self._response.read(most_bytes)

    def read_within(self, seconds: float, most_bytes: int) -> bytes:
        """All of it, where that has an end in the time and size: the connection's own limit is on each wait for a piece."""
        until_s = time.monotonic() + seconds
        pieces, size = [], 0
        with _told(self._place):
            while piece := self._response.read1(_BUFFER_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > most_bytes or time.monotonic() > until_s:
                    raise TimeoutError("its answer has no end")
        return b"".join(pieces)

    def lines(self) -> Iterator[str]:
        """Text in UTF-8, line by line with their ends, as it comes."""
        text = io.TextIOWrapper(io.BufferedReader(self._response, _BUFFER_BYTES), encoding="utf-8", newline="\n")
        while True:
            with _told(self._place):
                line = text.readline()
            if not line:
                return
            yield line


class DaemonClient:
    """Where a daemon answers, and how to ask it."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """``url``: http(s)://[NAME:PASSWORD@]HOST:PORT; a host that stands for every address is asked at this machine's own.
        Raises UsageError."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise UsageError(f"--url {url} is no address ({error}); write it as http://127.0.0.1:10061") from error
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"--url {url}: the port is not a number from 0 to 65535") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _is_host(parts.hostname):
            raise UsageError(f"--url {url} is no address; write it as http://127.0.0.1:10061")
        self._headers = {"Accept": "application/json"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        self._host, self._port = _HERE.get(parts.hostname, parts.hostname), port
        self._path = parts.path.rstrip("/")
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.place = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")       # without name and password
        try:
            self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        except OSError as error:
            raise UsageError(f"--ca.file {ca_file}: cannot be read as certificates ({error}); give a PEM file") from error

    @contextlib.contextmanager
    def get(self, path: str, timeout_s: float) -> Iterator[Answer]:
        """The answer to a GET, whatever its status but 401; ``timeout_s`` is for each wait. Raises DaemonError."""
        connection = (http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._context)
                      if self._context else http.client.HTTPConnection(self._host, self._port, timeout=timeout_s))
        with contextlib.closing(connection):
            with _told(self.place):
                connection.request("GET", f"{self._path}{path}", headers=self._headers)
                response = connection.getresponse()
            if response.status == http.client.UNAUTHORIZED:
                raise DaemonError(f"the daemon at {self.place} wants a name and a password", "put them into $GPU_FINOPS_URL as "
                                  "https://NAME:PASSWORD@HOST:PORT", closed=True)
            yield Answer(response, self.place)


def _is_host(name: str) -> bool:
    """Whether a text can be a host's name: what the resolver's own encoding refuses cannot."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    """What may go wrong on the way to a daemon, as a sentence."""
    try:
        yield
    except ssl.SSLError as error:
        raise DaemonError(f"the daemon at {place} is not trusted, or wants a certificate ({error})", "name who signed its "
                          "certificate with --ca.file, and its address as it is in there with --url", closed=True) from error
    except (OSError, UnicodeDecodeError, http.client.HTTPException) as error:
        raise DaemonError(f"no daemon answers at {place} ({error or type(error).__name__})",
                          "start gpu-finops run, or name another address with --url") from error


def url_of(web: Web) -> str:
    """The address that a configuration makes a daemon listen at. Raises UsageError where TLS or a password may protect it."""
    if web.config_file is not None:
        raise UsageError(f"{web.config_file} protects the daemon; give its address as --url https://HOST:PORT, or with a name "
                         "and a password in $GPU_FINOPS_URL as https://NAME:PASSWORD@HOST:PORT")
    return f"http://[{web.host}]:{web.port}" if ":" in web.host else f"http://{web.host or _ANY}:{web.port}"
