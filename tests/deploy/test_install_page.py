"""docs/install.md, executed: every block marked ``run``, in order, with / moved into a temporary directory."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text()
TREE = ("agent", "exporters", "scripts", "deploy", "dashboards", "pyproject.toml", "README.md", "LICENSE",
        "requirements.lock", "requirements-build.lock")
PLACES = re.compile(r"(?<![\w.])/(opt|etc|var/lib/grafana)/")
UNIT = "etc/systemd/system/gpu-finops.service"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def moved(text: str, root: Path) -> str:
    """The text with the places that the page writes to under ``root``."""
    return PLACES.sub(lambda match: f"{root}/{match[1]}/", text)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources at their place, then every block as it stands on the page."""
    root = tmp_path_factory.mktemp("root")
    sources = root / "opt" / "gpu-finops"
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, sources / name)
    unit = sources / "deploy" / "systemd" / "gpu-finops.service"
    unit.write_text(moved(unit.read_text(), root))
    for block in blocks("sh run"):
        done = subprocess.run(
            ["sh", "-eu", "-c", moved(block, root)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return root


def test_the_page_has_blocks_to_run() -> None:
    assert len(blocks("sh run")) == 5
    assert len(blocks("ini drop-in")) == 3


def test_what_is_not_run_needs_a_booted_system() -> None:
    """Every other command is one for the service manager, or for the service that it runs."""
    for block in blocks("sh"):
        assert "systemctl" in block or "gpu-finops release" in block


@pytest.mark.timeout(300)
def test_the_installed_program_is_whole(installed: Path) -> None:
    program = installed / "opt/gpu-finops/.venv/bin/gpu-finops"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, cwd=installed)
    assert (done.returncode, done.stdout.split()[0]) == (0, "gpu-finops")
    exec_start = re.search(r"^ExecStart=(\S+)", (installed / UNIT).read_text(), re.MULTILINE)
    assert exec_start
    assert Path(exec_start[1]) == program


def test_rules_dashboard_and_provisioning_are_in_place(installed: Path) -> None:
    assert len(list((installed / "etc/prometheus/rules").glob("gpu-finops-*.yml"))) == 2
    provider = yaml.safe_load((installed / "etc/grafana/provisioning/dashboards/gpu-finops.yml").read_text())
    folder = moved(provider["providers"][0]["options"]["path"] + "/", installed)
    assert json.loads((Path(folder) / "cost-overview.json").read_text())["title"] == "GPU cost overview"


def test_installing_again_keeps_the_configuration(installed: Path) -> None:
    config = installed / "etc/gpu-finops/gpu-finops.toml"
    mine = config.read_text() + "# mine\n"
    config.write_text(mine)
    (block,) = [block for block in blocks("sh run") if "gpu-finops.toml" in block]
    subprocess.run(["sh", "-eu", "-c", moved(block, installed)], check=True, capture_output=True)
    assert config.read_text() == mine


@pytest.mark.parametrize("number", range(3))
def test_each_drop_in_is_accepted(installed: Path, tmp_path: Path, number: int) -> None:
    unit = tmp_path / "gpu-finops.service"
    shutil.copy(installed / UNIT, unit)
    folder = tmp_path / "gpu-finops.service.d"
    folder.mkdir()
    (folder / "override.conf").write_text(blocks("ini drop-in")[number])
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
