"""Asks a running daemon what a command may not read itself: its ledger belongs to a user of its own."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from agent.errors import FinOpsError, LedgerError, UsageError
from agent.ledger.query import UsageRow
from agent.settings import Web

_TIMEOUT_S = 30.0


def ask_usage(web: Web, query: Mapping[str, str], unreadable: LedgerError) -> list[UsageRow]:
    """The rows that the daemon at the configured address answers; exact. ``unreadable`` says why the ledger was not read:
    it is told where no daemon answers either. Raises FinOpsError."""
    host = web.host or "127.0.0.1"
    place = f"[{host}]:{web.port}" if ":" in host else f"{host}:{web.port}"
    if web.config_file is not None:
        raise LedgerError(f"{unreadable} (nor is the daemon asked: {web.config_file} protects it)") from unreadable
    wanted = urlencode({key: value for key, value in query.items() if value} | {"exact": "1"})
    connection = http.client.HTTPConnection(host, web.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"/api/v1/usage?{wanted}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LedgerError(f"{unreadable} (and no daemon answers at {place}: {error})") from unreadable
    finally:
        connection.close()
    try:
        if response.status == http.client.BAD_REQUEST:
            raise UsageError(str(msgspec.json.decode(body)["error"]))
        if response.status != http.client.OK:
            raise FinOpsError(f"the daemon at {place} answers {response.status} {response.reason}; {unreadable}")
        return msgspec.convert(msgspec.json.decode(body)["rows"], list[UsageRow])
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        raise FinOpsError(f"what answers at {place} is no gpu-finops of this version; {unreadable}") from error
