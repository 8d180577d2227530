"""A copy of the project's scripts in a directory of its own, with an interpreter that writes down what it is asked.

The stand-in takes the place of the program python3, as seen by a shell script: it makes directories where ``venv`` would,
and installs nothing. What really gets installed is seen by ``make test`` itself, which comes through these scripts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ["scripts", "pyproject.toml", "requirements.lock", "requirements-build.lock", "requirements-dev.lock",
          "deploy/quickstart.toml", "Makefile"]

STAND_IN = """#!/bin/sh
echo "$0 $*" >> "{log}"
env | grep '^P[IY]' | sort > "{log}.environment"
case "$*" in
    *version_info*) [ -z "$TOO_OLD" ] ;;
    *platform*) echo "is 3.9.2" ;;
    "-m venv --clear .venv")
        [ -z "$NO_ENSUREPIP" ] || exit 1
        mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/has-pip ;;
    "-m venv --clear --without-pip .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip --version") [ -e .venv/has-pip ] ;;
    *"install"*"--editable ."*) printf '#!/bin/sh\\necho agent "$@"\\n' > .venv/bin/gpu-finops; chmod +x .venv/bin/gpu-finops ;;
    *"install"*) touch .venv/has-pip; exit ${{INSTALL_STATUS:-0}} ;;
    scripts/driver_present.py) exec "{python}" "$@" ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts. ``run`` runs one and waits; ``calls`` lists what the stand-in was asked since the last look."""

    folder: Path
    log: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        given = {"HOME": str(self.folder), "PYTHON": str(self.folder / "python"), **kept, **environment}
        return subprocess.run(["sh", *command], cwd=self.folder, env=given, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.partition(" ")[2] for line in lines]

    def installs(self) -> list[str]:
        return [call for call in self.calls() if " install " in call]

    def seen_environment(self) -> dict[str, str]:
        lines = self.log.with_name(self.log.name + ".environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "check out"
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy(ROOT / name, target)
    log = tmp_path / "calls"
    stand_in = folder / "python"
    stand_in.write_text(STAND_IN.format(log=log, python=sys.executable))
    stand_in.chmod(0o755)
    return Checkout(folder, log)
