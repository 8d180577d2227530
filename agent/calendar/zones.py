"""Reads a timezone by its IANA name."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from agent.toml.table import Table, nearest


def find_zone(name: str) -> ZoneInfo | None:
    """The zone of a name; None where the IANA database has none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):     # OSError: "Europe" is a directory of the database
        return None


def read_zone(table: Table, key: str, example: str) -> ZoneInfo | None:
    """A zone that must be there; None, with a fault, where it is not."""
    name = table.need_text(key, example)
    zone = find_zone(name) if name else None
    if name and zone is None:
        table.fault(table.node.value[key], f"is {name!r}, an unknown timezone; {_hint(name)}")
    return zone


def _hint(name: str) -> str:
    hint = nearest(name, available_timezones())
    return hint if hint.startswith("did") else 'write a name of the IANA database, such as "Asia/Shanghai" or "UTC"'
