"""Fixtures of the exporters' tests, and the flag that writes golden files anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def golden():
    """Compares bytes with a file of tests/golden; REGENERATE_GOLDEN=1 writes the file instead: read the diff then."""

    def compare(name: str, actual: bytes) -> None:
        path = GOLDEN / name
        if os.environ.get("REGENERATE_GOLDEN") == "1":
            path.write_bytes(actual)
        assert actual.decode() == path.read_text(encoding="utf-8"), f"{name}: run with REGENERATE_GOLDEN=1, read the diff"

    return compare
