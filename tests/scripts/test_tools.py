"""The other scripts: they parse, and a test tool that cannot be had stops the run with the packages' names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scripts.conftest import ROOT, Checkout

SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_parses(script: Path) -> None:
    shell = "bash" if script.name == "run" else "sh"
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ci_runs_the_program_that_people_run() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "make --no-print-directory test" in (ROOT / ".ci/run").read_text()


def test_missing_tools_stop_the_tests_and_are_named(checkout: Checkout, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "tr", "sort", "id"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = checkout.run("scripts/test-tools.sh", PATH=str(programs))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("test-tools: missing for the tests: prometheus promtool prometheus-alertmanager; install ")


def test_tools_that_are_there_are_found_and_nothing_is_fetched(checkout: Checkout, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "tr", "sort", "id"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name in ("prometheus", "promtool", "prometheus-alertmanager", "make", "cc", "openssl", "systemd-analyze", "chromium"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    done = checkout.run("scripts/test-tools.sh", PATH=str(programs))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(programs) in done.stdout
    assert not (checkout.folder / ".cache").exists()
