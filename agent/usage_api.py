"""What ``/api/v1/usage`` answers: the same figures as ``gpu-finops report``, from the same reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent.ledger_query import LedgerReader, parse_instant
from agent.report import documents, figures, totals


class UsageApi:
    """Answers one question at a time, on a thread of the server's. Raises FinOpsError with a sentence for the asker."""

    def __init__(self, state_dir: Path, tag_keys: tuple[str, ...], timezone: str) -> None:
        self._state_dir = state_dir
        self._tag_keys = tag_keys
        self._zone = ZoneInfo(timezone)

    def __call__(self, query: Mapping[str, str]) -> dict[str, Any]:
        """``from``, ``to``: dates in the site's timezone or instants; ``by``: keys joined by commas."""
        by = [key for key in query.get("by", self._tag_keys[0]).split(",") if key]
        from_ns = parse_instant(query["from"], self._zone) if query.get("from") else None
        to_ns = parse_instant(query["to"], self._zone) if query.get("to") else None
        reader = LedgerReader(self._state_dir)
        try:
            rows = reader.usage(from_ns, to_ns, by, self._tag_keys, self._zone)
        finally:
            reader.close()
        return {"by": by, "rows": documents(rows, by), "totals": [figures(total) for total in totals(rows)]}
