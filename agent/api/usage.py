"""What ``/api/v1/usage`` answers: the same figures as ``gpu-finops report``, from the same reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from agent.errors import UsageError
from agent.idle_policy import POLICIES, SEPARATE, usage_with_idle
from agent.ledger.query import LedgerReader, parse_instant
from agent.report import documents, figures, totals


class UsageApi:
    """Answers one question at a time, on a thread of the server's. Raises FinOpsError with a sentence for the asker."""

    def __init__(self, state_dir: Path, tag_keys: tuple[str, ...], timezone: Callable[[], str],
                 idle_policy: Callable[[], str] = lambda: SEPARATE) -> None:
        """``timezone`` and ``idle_policy`` give those that are configured now."""
        self._state_dir = state_dir
        self._tag_keys = tag_keys
        self._timezone = timezone
        self._idle_policy = idle_policy

    def __call__(self, query: Mapping[str, str]) -> dict[str, Any]:
        """``from``, ``to``: dates in the site's timezone or instants; ``by``: keys joined by commas;
        ``idle_policy``: another than the configured one; ``exact=1``: the ledger's integers, for ``gpu-finops report``."""
        policy = query.get("idle_policy") or self._idle_policy()
        if policy not in POLICIES:
            raise UsageError(f"unknown idle_policy {policy!r}; choose from {', '.join(POLICIES)}")
        by = [key for key in query.get("by", self._tag_keys[0]).split(",") if key]
        zone = ZoneInfo(self._timezone())
        from_ns = parse_instant(query["from"], zone) if query.get("from") else None
        to_ns = parse_instant(query["to"], zone) if query.get("to") else None
        if from_ns is not None and to_ns is not None and from_ns >= to_ns:
            raise UsageError(f"from {query['from']} is not before to {query['to']}; the second is not included")
        reader = LedgerReader(self._state_dir)
        try:
            rows = usage_with_idle(reader, from_ns, to_ns, by, self._tag_keys, zone, policy)
        finally:
            reader.close()
        if query.get("exact") == "1":
            return {"by": by, "rows": msgspec.to_builtins(rows)}
        return {"by": by, "rows": documents(rows, by), "totals": [figures(total) for total in totals(rows)]}
