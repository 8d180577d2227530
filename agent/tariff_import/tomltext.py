"""Writes an imported tariff as a configuration file that a person can read and change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from agent.files.printable import printable
from agent.tariff_import.base import CSV, Imported
from agent.toml.document import dotted, quoted


def tariff_text(tariff: Imported, csv_name: str) -> str:
    """The file's text. ``csv_name``: the price series' file, relative to this one."""
    lines = [f"# {printable(' '.join(note.split()))}" for note in tariff.notes]
    lines.append(f"[{dotted('tariff', tariff.name)}]")
    for key, value in tariff.table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key} = [", *(f"  {_value(item, csv_name)}," for item in value), "]"]
        else:
            lines.append(f"{key} = {_value(value, csv_name)}")
    return "\n".join(lines) + "\n"


def _value(value: Any, csv_name: str) -> str:
    if isinstance(value, Mapping):
        items = [f"{dotted('', key)} = {_value(item, csv_name)}" for key, item in value.items()]
        return f"{{ {', '.join(items)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item, csv_name) for item in value)}]"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, str):
        return quoted(csv_name if value == CSV else value)
    return json.dumps(value)


def plain(number: Decimal) -> str:
    """All digits, no exponent."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
