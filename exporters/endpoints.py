"""What the web server answers: metrics, the page, health, reload, and the API."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from agent.errors import FinOpsError
from agent.model import Snapshot
from exporters.api import encode, snapshot_document
from exporters.base import Hooks
from exporters.basicauth import PasswordCheck
from exporters.connections import ConnectionTable
from exporters.exposition import Exposition, choose_format, takes_gzip
from exporters.http import Request, Response, sentence
from exporters.page import CONTENT_SECURITY_POLICY, page
from exporters.ratelimit import TokenBucket
from exporters.streaming import Exports
from exporters.webconfig import WebConfigFile
from exporters.worker import QueueFullError, Worker

log = logging.getLogger(__name__)

_NO_CACHE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_USAGE_KEYS = ("from", "to", "by", "idle_policy", "exact")
_FOCUS_KEYS = ("from", "to")
_BUSY = [("Retry-After", "2")]


class FinOpsEndpoints:
    """All endpoints behind one door: authentication first, then path, then method. Used from the event loop only."""

    def __init__(self, exposition: Exposition, hooks: Hooks, config: WebConfigFile, connections: ConnectionTable) -> None:
        self._exposition, self._hooks = exposition, hooks
        self._config, self._connections = config, connections
        self._passwords = PasswordCheck(connections.limits.max_password_checks)
        self._queries = Worker("queries", connections.limits.max_queries)
        self._exports = Exports()
        self._bucket: TokenBucket | None = None
        self._made: dict[str, tuple[Snapshot, bytes]] = {}   # path -> what was last made, and of what
        self._routes: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "/metrics": ("GET", self._metrics), "/": ("GET", self._page),
            "/-/healthy": ("GET", self._healthy), "/-/ready": ("GET", self._ready), "/-/reload": ("POST", self._reload),
            "/api/v1/usage": ("GET", self._usage), "/api/v1/focus": ("GET", self._focus),
            "/api/v1/snapshot": ("GET", self._snapshot),
        }

    async def __call__(self, request: Request) -> Response:
        """The answer to a request."""
        if not self._within_rate():
            return sentence(429, "more requests than rate_limit in web.yml allows", [("Retry-After", "1")])
        try:
            refused = await self._unauthenticated(request)
        except QueueFullError:
            self._connections.refused += 1
            return sentence(503, "too many passwords are being checked; try again", [("Retry-After", "1")])
        if refused is not None:
            return refused
        route = self._routes.get(request.path)
        if route is None:
            return sentence(404, f"there is nothing here; there is: {', '.join(self._routes)}")
        method, answer = route
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            allowed = "GET, HEAD" if method == "GET" else method
            return sentence(405, f"this takes {allowed} only", [("Allow", allowed)])
        return await answer(request)

    def close(self) -> None:
        """Let go of the threads."""
        self._passwords.close()
        self._queries.close()
        self._exports.close()

    def _within_rate(self) -> bool:
        limit = self._config.current().rate_limit
        if limit is None:
            self._bucket = None
            return True
        now = time.monotonic()
        if self._bucket is None or self._bucket.limit != limit:
            self._bucket = TokenBucket(limit, now)
        return self._bucket.takes(now)

    async def _unauthenticated(self, request: Request) -> Response | None:
        users = self._config.current().users
        if not users or await self._passwords.allows(users, request.headers.get("Authorization", "")):
            return None
        return sentence(401, "this needs a user and a password", [("WWW-Authenticate", 'Basic realm="gpu-finops"')])

    async def _metrics(self, request: Request) -> Response:
        content_type = choose_format(request.headers.get("Accept", ""))
        compressed = takes_gzip(request.headers.get("Accept-Encoding", ""))
        body = self._exposition.render(content_type, compressed)
        if body is None:
            return _not_yet()
        encoding = {"Content-Encoding": "gzip"} if compressed else {}
        return Response(200, content_type, body, {"Vary": "Accept, Accept-Encoding", **encoding})

    async def _page(self, request: Request) -> Response:
        made = self._once("/", lambda snapshot: page(snapshot).encode(errors="replace"))
        if made is None:
            return _not_yet()
        headers = {**_NO_CACHE, "Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
        return Response(200, "text/html; charset=utf-8", made, headers)

    async def _snapshot(self, request: Request) -> Response:
        made = self._once("/api/v1/snapshot", lambda snapshot: encode(snapshot_document(snapshot)))
        return _not_yet() if made is None else Response(200, "application/json", made, _NO_CACHE)

    async def _healthy(self, request: Request) -> Response:
        return sentence(200, "healthy")

    async def _ready(self, request: Request) -> Response:
        if self._exposition.snapshot is not None and self._hooks.ready():
            return sentence(200, "ready")
        return sentence(503, "not ready: no fresh reading of the devices")

    async def _reload(self, request: Request) -> Response:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            return sentence(403, "another site's page may not ask for this")
        self._hooks.reload()
        return sentence(200, "reload asked for; finops_agent_config_reload_success tells how it went")

    async def _usage(self, request: Request) -> Response:
        if refused := _unknown(request, _USAGE_KEYS):
            return refused
        try:
            document = await self._queries.run(lambda: self._hooks.usage(request.query))
        except QueueFullError:
            self._connections.refused += 1
            return _api_error(503, "too many queries are waiting; try again", _BUSY)
        except FinOpsError as error:
            return _api_error(400 if error.exit_status == 2 else 503, str(error))
        return Response(200, "application/json", encode(document), _NO_CACHE)

    async def _focus(self, request: Request) -> Response:
        if refused := _unknown(request, _FOCUS_KEYS):
            return refused
        if request.version != "HTTP/1.1":
            return _api_error(505, "this is sent in chunks, so that one that breaks off can be told from a whole one; ask with "
                                   "HTTP/1.1 (a proxy in between too)")
        pieces = self._exports.pieces(lambda: self._hooks.focus(request.query))
        try:
            first = await anext(pieces, b"")
        except QueueFullError:
            self._connections.refused += 1
            return _api_error(503, "another export is running; try again", _BUSY)
        except FinOpsError as error:
            return _api_error(400 if error.exit_status == 2 else 503, str(error))
        headers = {**_NO_CACHE, "Content-Disposition": 'attachment; filename="gpu-finops-focus.csv"'}
        return Response(200, "text/csv; charset=utf-8; header=present", first, headers, pieces)

    def _once(self, path: str, make: Callable[[Snapshot], bytes]) -> bytes | None:
        """What ``make`` gives for the last snapshot, made once; None before the first."""
        snapshot = self._exposition.snapshot
        if snapshot is None:
            return None
        made = self._made.get(path)
        if made is None or made[0] is not snapshot:
            made = self._made[path] = (snapshot, make(snapshot))
        return made[1]


def _not_yet() -> Response:
    return sentence(503, "no reading of the devices yet; try again in a second", [("Retry-After", "1")])


def _unknown(request: Request, known: Sequence[str]) -> Response | None:
    unknown = next((key for key in request.query if key not in known), None)
    return None if unknown is None else _api_error(400, f"unknown parameter {unknown!r}; allowed: {', '.join(known)}")


def _api_error(status: int, text: str, headers: list[tuple[str, str]] | None = None) -> Response:
    return Response(status, "application/json", encode({"error": text}), {**_NO_CACHE, **dict(headers or ())})
