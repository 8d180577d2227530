"""Asks a running daemon for its snapshot over HTTP: what ``gpu-finops top`` shows."""

from __future__ import annotations

import base64
import http.client
import ssl
import time
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from agent.errors import FinOpsError, UsageError
from agent.settings import Web
from agent.snapshot_shape import ToldSnapshot

_TIMEOUT_S: Final = 5.0
_WHOLE_TIMEOUT_S: Final = 8.0
_PIECE_BYTES: Final = 2**16
_MOST_BYTES: Final = 64 * 2**20


class SnapshotClient:
    """Where a daemon listens, and how to ask it."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """``url``: http(s)://[NAME:PASSWORD@]HOST:PORT. Raises UsageError."""
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
        self._host, self._port = parts.hostname, port
        self._path = f"{parts.path.rstrip('/')}/api/v1/snapshot"
        self._tls = parts.scheme == "https"
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.place = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")       # without name and password
        try:
            self._context = ssl.create_default_context(cafile=ca_file) if self._tls else None
        except OSError as error:
            raise UsageError(f"--ca.file {ca_file}: cannot be read as certificates ({error}); give a PEM file") from error

    def ask(self) -> ToldSnapshot:
        """The snapshot's document. Raises FinOpsError with a sentence."""
        connection = (http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=self._context)
                      if self._context else http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S))
        try:
            connection.request("GET", self._path, headers=self._headers)
            response = connection.getresponse()
            body = _read(response)
        except (OSError, http.client.HTTPException) as error:
            raise FinOpsError(f"no daemon answers at {self.place} ({error}); start gpu-finops run, or name another address "
                              "with --url") from error
        finally:
            connection.close()
        if response.status == http.client.UNAUTHORIZED:
            raise FinOpsError(f"the daemon at {self.place} wants a name and a password; put them into $GPU_FINOPS_URL as "
                              "https://NAME:PASSWORD@HOST:PORT")
        if response.status == http.client.SERVICE_UNAVAILABLE:
            raise FinOpsError(f"the daemon at {self.place} has nothing to show yet; try again in a few seconds")
        if response.status != http.client.OK:
            raise FinOpsError(f"the daemon at {self.place} answers {response.status} {response.reason}; see its log")
        try:
            return msgspec.json.decode(body, type=ToldSnapshot)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FinOpsError(f"what answers at {self.place} is no gpu-finops of this version; name its address with --url"
                              ) from error


def _is_host(name: str) -> bool:
    """Whether a text can be a host's name: what the resolver's own encoding refuses cannot."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def _read(response: http.client.HTTPResponse) -> bytes:
    """The body, in a time that has an end: the socket's own limit is on each piece of it."""
    until_s = time.monotonic() + _WHOLE_TIMEOUT_S
    pieces, size = [], 0
    while piece := response.read1(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_BYTES or time.monotonic() > until_s:
            raise TimeoutError("its answer has no end")
    return b"".join(pieces)


def url_of(web: Web) -> str:
    """The address that a configuration makes a daemon listen at. Raises UsageError where TLS or a password may protect it."""
    if web.config_file is not None:
        raise UsageError(f"{web.config_file} protects the daemon; give its address as --url https://HOST:PORT, or with a name "
                         "and a password in $GPU_FINOPS_URL as https://NAME:PASSWORD@HOST:PORT")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.host, web.host)  # noqa: S104 - asked, not bound
    return f"http://[{host}]:{web.port}" if ":" in host else f"http://{host}:{web.port}"
