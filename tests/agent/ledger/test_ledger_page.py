"""docs/ledger.md: its tables, keys, figures and commands are the program's."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from agent.cli import main
from agent.config.config import load
from agent.ledger.batch import MAX_PENDING_ROWS
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.settings import Retention
from tests.agent.priced import book, instant_ns, pricing, tariff

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "ledger.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_each_table_that_is_named_exists(tmp_path: Path) -> None:
    Ledger(tmp_path, 0).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        there = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    firsts = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for first in firsts for name in re.findall(r"`(\w+)`", first)}
    assert named == there - {"workload", "mark", "correction_run"}


def test_the_keys_and_figures_are_the_defaults(tmp_path: Path) -> None:
    (shown,) = blocks("toml")
    file = tmp_path / "gpu-finops.toml"
    file.write_text(shown)
    assert load(file, environ={"HOME": "/"}).ledger == Retention()
    assert f"{MAX_PENDING_ROWS:,} ledger rows" in PAGE


def test_the_commands_run_as_written(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(state, 0)
    book(ledger, pricing(tariff(tmp_path, "flat = 1")), instant_ns("2026-03-02"), 96)
    ledger.close()
    config = tmp_path / "tariff.toml"
    config.write_text(f'site = {{ tariff = "t" }}\n{config.read_text()}')
    commands = [line.removeprefix("$ gpu-finops ").split() for block in blocks("console") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        given = [word.replace("/var/backups", str(tmp_path)) for word in command]
        assert main([*given, "--config.file", str(config), "--state.dir", str(state)]) == 0
    assert (tmp_path / "gpu-finops.sqlite3").exists()
