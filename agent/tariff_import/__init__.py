"""Tariffs in others' formats, from local files: one format a file, one line each in the registry below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.tariff_import import octopus, urdb
from agent.tariff_import.base import Importer

FORMATS: Final[Mapping[str, Importer]] = {
    "urdb": urdb.read,
    "octopus": octopus.read,
}
