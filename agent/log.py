"""Log lines on stderr, as logfmt or JSON, one a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


def _fields(record: logging.LogRecord) -> dict[str, str]:
    stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"ts": stamp, "level": record.levelname.lower(), "msg": record.getMessage()}
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


class LogfmtFormatter(logging.Formatter):
    """key=value pairs; values with blanks or quotes are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={self._quoted(value)}" for key, value in _fields(record).items())

    @staticmethod
    def _quoted(value: str) -> str:
        plain = value and not any(c in value for c in ' "=\\') and value.isprintable()
        return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record), ensure_ascii=False)


def set_up(level: str, style: str) -> None:
    """Send the root logger's lines to stderr. ``level``: debug, info, warn, error; ``style``: logfmt or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else LogfmtFormatter())
    names = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
    logging.basicConfig(level=names[level], handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
