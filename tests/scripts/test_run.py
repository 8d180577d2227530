"""``scripts/run.sh``: real GPUs where a driver is loaded, simulated ones and a loud word where none is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.scripts.conftest import ROOT, Checkout

SUCCESS, DRIVER_NOT_LOADED, LIBRARY_MISMATCH = 0, 9, 18


def driver(folder: Path, answer: int) -> dict[str, str]:
    """The environment in which libnvidia-ml.so.1 is a library whose nvmlInit gives this answer."""
    source = folder / "nvml.c"
    source.write_text(f"int nvmlInit_v2(void) {{ return {answer}; }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


def test_without_a_driver_it_simulates_says_so_and_keeps_its_ledger_apart(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.run("scripts/run.sh", "--log.level", "warn", **driver(tmp_path, DRIVER_NOT_LOADED))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "agent run --state.dir gpu-finops-state/simulated --source simulated --log.level warn\n"
    assert "SIMULATED" in done.stderr


@pytest.mark.parametrize("answer", [SUCCESS, LIBRARY_MISMATCH])
def test_a_driver_well_or_not_is_never_replaced_by_a_simulation(checkout: Checkout, tmp_path: Path, answer: int) -> None:
    done = checkout.run("scripts/run.sh", **driver(tmp_path, answer))
    assert done.stdout == "agent run --source auto\n"
    assert "SIMULATED" not in done.stderr


def test_a_given_source_and_state_directory_are_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    absent = driver(tmp_path, DRIVER_NOT_LOADED)
    assert checkout.run("scripts/run.sh", "--source=nvml", **absent).stdout == "agent run --source=nvml\n"
    done = checkout.run("scripts/run.sh", "--state.dir", "mine", **absent)
    assert done.stdout == "agent run --source simulated --state.dir mine\n"


def test_example_prices_are_written_once_and_never_over_a_configuration(checkout: Checkout) -> None:
    configuration = checkout.folder / "gpu-finops.toml"
    given = checkout.run("scripts/run.sh", "--source", "simulated", "--config.file", "other.toml")
    assert given.returncode == 0
    assert not configuration.exists()
    checkout.run("scripts/run.sh", "--source", "simulated", GPU_FINOPS_CONFIG="other.toml")
    assert not configuration.exists()
    first = checkout.run("scripts/run.sh", "--source", "simulated")
    assert "EXAMPLE prices" in first.stderr
    assert configuration.read_text() == (ROOT / "deploy/quickstart.toml").read_text()
    configuration.write_text("mine\n")
    checkout.run("scripts/run.sh", "--source", "simulated")
    assert configuration.read_text() == "mine\n"


def test_make_hands_arguments_on(checkout: Checkout) -> None:
    done = checkout.run("-c", 'make --no-print-directory run ARGS="--source simulated --state.dir x"')
    assert done.stdout == "agent run --source simulated --state.dir x\n", done.stderr
