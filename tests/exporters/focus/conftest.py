"""One export of one ledger for the tests that read it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from agent.commands.focus_export import export_focus
from agent.config.config import Config
from agent.units import NS_PER_S
from tests.exporters.focus import books


class HeldClock:
    """Some hours after the ledger's last row: its first billing month is closed."""

    def utc_ns(self) -> int:
        return books.START_NS + 8 * 3600 * NS_PER_S

    boottime_ns = monotonic_ns = utc_ns


@pytest.fixture(scope="package")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = books.configure(tmp_path_factory.mktemp("focus"))
    books.fill(made)
    return made


@pytest.fixture(scope="package")
def exported(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("export") / "usage.csv"
    export_focus(config, None, None, file, HeldClock())
    return file


@pytest.fixture(scope="package")
def rows(exported: Path) -> list[dict[str, str]]:
    with exported.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
