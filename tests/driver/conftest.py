"""One client process for all tests of the double; each test opens the driver anew on its own scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.driver.client import Client, World
from tests.driver.scenario import ClockFile, Scenario


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(Scenario().write(tmp_path_factory.mktemp("driver") / "scenario")) as client:
        yield client


@pytest.fixture
def world(client: Client, tmp_path: Path) -> World:
    return World(client, tmp_path / "scenario")


@pytest.fixture
def clock(tmp_path: Path) -> ClockFile:
    """Stands at 100 s."""
    return ClockFile(tmp_path / "clock", 100_000_000_000)
