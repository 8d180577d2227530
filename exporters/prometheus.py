"""The exporter that answers: the web server with ``/metrics``, the page and the API."""

from __future__ import annotations

from agent.model import Snapshot
from agent.settings import Web
from exporters.base import Hooks
from exporters.connections import ConnectionTable, Limits
from exporters.endpoints import FinOpsEndpoints
from exporters.exposition import Exposition
from exporters.http import HttpServer
from exporters.selfstatus import ProcessReader, SelfStatus
from exporters.webconfig import WebConfigFile


class PrometheusExporter:
    """Serves the last snapshot. The address is taken when the object is made, answered on between ``start`` and ``close``."""

    def __init__(self, web: Web, hooks: Hooks, limits: Limits | None = None) -> None:
        """Raises UsageError, ConfigError or FinOpsError: an open address without authentication, a bad web.yml, a port
        that is taken."""
        self._hooks = hooks
        self._process = ProcessReader()
        self._exposition = Exposition(lambda: SelfStatus(self._process.read(), self._server.connections.status()))
        self._server = HttpServer(web, self._endpoints_of, limits)

    @property
    def told(self) -> str:
        return f"serving costs at {self._server.url}/"

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        """Where it listens: the configured port, or the free one found for port 0."""
        return self._server.port

    def start(self) -> None:
        self._server.start()

    def publish(self, snapshot: Snapshot) -> None:
        self._exposition.publish(snapshot)

    def close(self) -> None:
        self._server.close()
        self._endpoints.close()

    def _endpoints_of(self, config: WebConfigFile, connections: ConnectionTable) -> FinOpsEndpoints:
        self._endpoints = FinOpsEndpoints(self._exposition, self._hooks, config, connections)
        return self._endpoints
