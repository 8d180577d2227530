"""docs/tariffs.md: its files and commands give what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agent.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "tariffs.md").read_text()


def test_every_example_gives_what_the_page_shows(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for kind, title, block in re.findall(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        if title:
            Path(title).write_text(block)
            continue
        assert kind == "console"
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            program, *arguments = shlex.split(command)
            assert program == "gpu-finops"
            main(arguments)
            out, err = capsys.readouterr()
            assert out + err == shown, command
            ran += 1
    assert ran == 11
