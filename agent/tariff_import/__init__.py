"""Tariffs in others' formats, from local files: one format a file, one line each in the registry below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.tariff_import.base import Importer
from agent.tariff_import.octopus import read as read_octopus
from agent.tariff_import.urdb import read as read_urdb

FORMATS: Final[Mapping[str, Importer]] = {
    "urdb": read_urdb,
    "octopus": read_octopus,
}
