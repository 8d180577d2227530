"""The web server: sockets, one thread with an event loop, and the way from a connection to an endpoint and back.

Nothing slow runs on the loop: passwords and ledger queries have a thread each, and every connection has a deadline and
counts against a cap (``exporters.connections``). Tornado reads and writes HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct
from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.netutil import add_accept_handler

from agent.errors import FinOpsError, UsageError
from agent.settings import Web
from exporters.connections import ConnectionTable, Limits, TrackedStream, TrackedTlsStream
from exporters.listening import is_loopback, listen
from exporters.streaming import send
from exporters.tls import has_allowed_san
from exporters.webconfig import WebConfigFile

log = logging.getLogger(__name__)

ONE_PACKET_BYTES = 8 * 1024
SWEEP_SECONDS = 0.5
CLOSE_SECONDS = 5.0


class Request(Struct, frozen=True):
    """What an endpoint sees of a request."""

    method: str
    path: str
    query: dict[str, str]
    headers: HTTPHeaders
    secure: bool
    version: str                                 # HTTP/1.1 or HTTP/1.0


class Response(Struct, frozen=True):
    """What an endpoint answers. ``rest`` follows the body, piece by piece, to those who speak HTTP/1.1: only so can an answer
    that breaks off be told from a whole one."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = {}
    rest: AsyncGenerator[bytes, None] | None = None


class Endpoints(Protocol):
    """Answers requests. Called on the loop; slow work is its own to move elsewhere."""

    def __call__(self, request: Request) -> Awaitable[Response]: ...


class HttpServer:
    """Serves endpoints on an address. The address is taken when the object is made, answered on from ``start`` on."""

    def __init__(self, web: Web, endpoints_of: Callable[[WebConfigFile, ConnectionTable], Endpoints],
                 limits: Limits | None = None) -> None:
        """Raises UsageError, ConfigError or FinOpsError: an open address without authentication, a bad web.yml, a port
        that is taken."""
        exposed = not is_loopback(web.host) and not web.allow_unauthenticated
        self._config = WebConfigFile(web.config_file, must_authenticate=exposed)
        if exposed and not self._config.current().authenticates:
            raise UsageError(
                f"refusing to serve costs to everyone who reaches {web.host}:{web.port}: set web.config_file to a web.yml with "
                "basic_auth_users or client certificates, listen on 127.0.0.1, or allow it with --web.allow-unauthenticated")
        self.connections = ConnectionTable(limits or Limits())
        self._endpoints = endpoints_of(self._config, self.connections)
        self._sockets = listen(web.host, web.port)
        self.port: int = self._sockets[0].getsockname()[1]
        scheme = "http" if self._config.current().context is None else "https"
        host = f"[{web.host}]" if ":" in web.host else web.host or "0.0.0.0"  # noqa: S104 - shown, and bound above
        self.url = f"{scheme}://{host}:{self.port}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="http", daemon=True)
        self._serving = threading.Event()
        self._answers: set[asyncio.Task[None]] = set()
        # A stranger's broken handshake is no event of ours; what is counted is in the metrics.
        logging.getLogger("tornado.general").setLevel(logging.ERROR)

    def start(self) -> None:
        """Answer from now on, on a thread of its own."""
        self._thread.start()
        self._serving.wait(CLOSE_SECONDS)

    def close(self) -> None:
        """Close every connection and the address. Safe to call twice, or without ``start``."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSE_SECONDS)
        for sock in self._sockets:
            sock.close()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        limits = self.connections.limits
        # Deadlines are the connection table's; Tornado's own, which begin anew with each phase, are set past them.
        server = HTTPServer(
            _Delegate(self._received), max_header_size=limits.max_header_bytes, max_body_size=limits.max_body_bytes,
            max_buffer_size=limits.max_header_bytes + limits.max_body_bytes, chunk_size=8 * 1024,
            idle_connection_timeout=2 * (limits.keep_alive_seconds + limits.total_seconds))
        stops = [add_accept_handler(sock, lambda connection, address: self._accepted(server, connection, address))
                 for sock in self._sockets]
        self._serving.set()
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), SWEEP_SECONDS)
            except TimeoutError:
                self.connections.close_overdue()
        for stop in stops:
            stop()
        for task in self._answers:
            task.cancel()
        await server.close_all_connections()

    def _accepted(self, server: HTTPServer, connection: socket.socket, address: Any) -> None:
        self.connections.make_room()
        context = self._config.current().context
        try:
            if context is None:
                stream = TrackedStream(connection, table=self.connections, max_buffer_size=server.max_buffer_size,
                                       read_chunk_size=server.read_chunk_size)
            else:
                wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                stream = TrackedTlsStream(wrapped, table=self.connections, max_buffer_size=server.max_buffer_size,
                                          read_chunk_size=server.read_chunk_size)
        except OSError:                          # gone again before we looked
            connection.close()
            return
        server.handle_stream(stream, address)

    def _received(self, start: RequestStartLine, headers: HTTPHeaders, connection: HTTP1Connection) -> None:
        stream = cast(TrackedStream, connection.stream)
        stream.request_received()
        allowed = self._config.current().client_allowed_sans
        if allowed is not None and not has_allowed_san(_certificate(stream), allowed):
            stream.close()
            return
        task = asyncio.ensure_future(self._answer(start, headers, connection, stream))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, start: RequestStartLine, headers: HTTPHeaders, connection: HTTP1Connection,
                      stream: TrackedStream) -> None:
        try:
            request = _request(start, headers, secure=isinstance(stream, TrackedTlsStream))
            response = await self._endpoints(request) if request is not None else sentence(400, "this is no address")
        except Exception:
            log.exception("cannot answer %s %s", start.method, start.path)
            response = Response(500, "text/plain; charset=utf-8", b"the agent failed at this request; its log says why\n")
        fields = HTTPHeaders({"Content-Type": response.content_type, **self._config.current().headers, **response.headers})
        line = ResponseStartLine("HTTP/1.1", response.status, http.client.responses[response.status])
        if response.rest is not None:
            await _stream(start, line, fields, connection, stream, response)
            return
        if stream.closed():
            return
        fields["Content-Length"] = str(len(response.body))
        body = b"" if start.method == "HEAD" else response.body
        if len(body) <= ONE_PACKET_BYTES:
            connection.write_headers(line, fields, body)
        else:
            connection.write_headers(line, fields)
            connection.write(body)               # as it is: slow readers share one body instead of holding a copy each
        connection.finish()


async def _stream(start: RequestStartLine, line: ResponseStartLine, fields: HTTPHeaders, connection: HTTP1Connection,
                  stream: TrackedStream, response: Response) -> None:
    """An answer in chunks. One that cannot be ended well ends the connection, without the chunk that says it is whole."""
    if response.rest is None:
        return
    async with contextlib.aclosing(response.rest) as rest:
        if stream.closed():
            return
        connection.write_headers(line, fields)
        try:
            if start.method != "HEAD" and not await send(connection, stream, response.body, rest):
                return
        except FinOpsError as error:
            log.error("the answer to %s broke off: %s", start.path, error)
            stream.close()
            return
        except Exception:
            log.exception("the answer to %s broke off", start.path)
            stream.close()
            return
    connection.finish()


def _request(start: RequestStartLine, headers: HTTPHeaders, *, secure: bool) -> Request | None:
    """None where the address cannot be taken apart, as ``http://[``: a stranger's fault, not one to log."""
    try:
        url = urlsplit(start.path)
    except ValueError:
        return None
    return Request(start.method, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers, secure,
                   start.version)


def _certificate(stream: TrackedStream) -> dict[str, object] | None:
    sock = stream.socket
    return cast("dict[str, object] | None", sock.getpeercert()) if isinstance(sock, ssl.SSLSocket) else None


class _Delegate(HTTPServerConnectionDelegate):
    """Tornado's way of asking who takes the next request of a connection."""

    def __init__(self, received: Callable[[RequestStartLine, HTTPHeaders, HTTP1Connection], None]) -> None:
        self._received = received

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        connection = cast(HTTP1Connection, request_conn)
        stream = cast(TrackedStream, connection.stream)
        if stream.serving:                       # the previous request's answer is out
            stream.request_completed()
        return _Receiver(self._received, connection)


class _Receiver(HTTPMessageDelegate):
    """Takes one request in. Its body, within Tornado's limit, is dropped: no endpoint reads one."""

    def __init__(self, received: Callable[[RequestStartLine, HTTPHeaders, HTTP1Connection], None],
                 connection: HTTP1Connection) -> None:
        self._received, self._connection = received, connection
        self._start: RequestStartLine | None = None
        self._headers = HTTPHeaders()

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        self._start, self._headers = cast(RequestStartLine, start_line), headers

    def finish(self) -> None:
        if self._start is not None:
            self._received(self._start, self._headers, self._connection)


def sentence(status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """An answer for a person: one line."""
    return Response(status, "text/plain; charset=utf-8", f"{text}\n".encode(), dict(headers))
