"""The project's own promises: what is installed, what is pinned, what the tree may hold, and how its code may be written."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_OURS = {".git", ".venv", ".cache", "build", "dist", "__pycache__", "node_modules", "gpu-finops-state"}


def tree() -> Iterator[Path]:
    """Every file of the project; what tools leave behind is left out."""
    for directory, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith("_cache")]
        folders[:] = [name for name in folders if name != ".hypothesis"]
        yield from (Path(directory, name) for name in files if not name.endswith(".pyc"))


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lock(name: str) -> dict[str, tuple[Requirement, int]]:
    """Each pinned package of a lock file and the number of its hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text())
    pins = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        requirement = Requirement(entry.split(" \\\n")[0])
        pins[canonicalize_name(requirement.name)] = (requirement, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return pins


def pinned_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    return specifier.version


RUNTIME, BUILD, DEV = lock("requirements.lock"), lock("requirements-build.lock"), lock("requirements-dev.lock")
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
DECLARED = {
    "requirements.lock": (RUNTIME, PYPROJECT["project"]["dependencies"]),
    "requirements-build.lock": (BUILD, PYPROJECT["build-system"]["requires"]),
    "requirements-dev.lock": (DEV, PYPROJECT["project"]["dependencies"] + EXTRAS["dev"]),
    "requirements-focus.lock": (lock("requirements-focus.lock"), EXTRAS["focus"]),
}


@pytest.mark.parametrize("name", DECLARED)
def test_each_lock_satisfies_what_the_project_declares(name: str) -> None:
    pins, declared = DECLARED[name]
    for text in declared:
        wanted = Requirement(text)
        pin, _ = pins[canonicalize_name(wanted.name)]
        assert Version(pinned_version(pin)) in wanted.specifier, f"{name}: {pin} is not {wanted}"


@pytest.mark.parametrize("name", DECLARED)
def test_each_pin_has_hashes(name: str) -> None:
    pins, _ = DECLARED[name]
    assert [str(pin) for pin, hashes in pins.values() if hashes == 0] == []


def test_the_development_lock_holds_the_others_in_the_same_versions() -> None:
    for name, (pin, hashes) in {**RUNTIME, **BUILD}.items():
        assert name in DEV, f"{name} is missing from requirements-dev.lock: run make lock"
        assert (pinned_version(DEV[name][0]), DEV[name][1]) == (pinned_version(pin), hashes)


def test_the_tests_run_on_the_pinned_versions() -> None:
    for name, (pin, _) in DEV.items():
        if pin.marker is None or pin.marker.evaluate():
            assert importlib.metadata.version(name) == pinned_version(pin), f"{name}: run sh scripts/bootstrap.sh dev"


def test_the_console_script_answers() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="gpu-finops")
    assert script.value == "agent.cli:main"
    program = Path(sys.executable).with_name("gpu-finops")
    answer = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "tariff" in answer.stdout


def test_the_wheel_holds_the_two_packages_and_the_licence_only(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        (licence,) = (name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    info = metadata.split("/")[0]
    assert {name.split("/")[0] for name in names} == {"agent", "exporters", info}
    sources = {named(path) for path in modules("agent", "exporters")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert "Name: gpu-finops-agent\n" in text
    assert "License-Expression: Apache-2.0\n" in text
    assert "Requires-Python: >=3.11\n" in text


def test_no_file_names_a_package_index_or_this_workplace() -> None:
    hosts = ["pypi" ".org", "pythonhosted" ".org", "debian" ".org/", "archive.ubuntu" ".com", "npmjs" ".org", "crates" ".io"]
    foreign = re.compile("|".join([*map(re.escape, hosts), r"(?<![\w.])/work" r"/(main|shared|\.)"]))
    found = []
    for path in tree():
        if path.suffix in {".png", ".gz", ".zst", ".db"}:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if foreign.search(line):
                found.append(f"{named(path)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_module_is_longer_than_400_lines_or_named_after_nothing() -> None:
    ours = modules("agent", "exporters")
    assert [named(path) for path in ours if len(path.read_text().splitlines()) > 400] == []
    assert [named(path) for path in ours if re.search(r"util|helper|manager|misc|common", path.stem)] == []


def broad(handler: ast.ExceptHandler) -> bool:
    """Whether it swallows everything. One that raises again, or logs the whole trace at an outermost boundary, does not."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    if any(isinstance(node, ast.Attribute) and node.attr == "exception" for node in ast.walk(handler)):
        return False
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in kinds)


def test_no_handler_swallows_everything() -> None:
    found = [
        f"{named(path)}:{node.lineno}"
        for path in modules("agent", "exporters")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and broad(node)
    ]
    assert found == []


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything the file calls, decorates with or imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


# A tool that is missing is a failure. One test may pass over what an ordinary machine lacks: a Python that is newer than the
# one the project needs. Under CI it fails there too.
MAY_SKIP = {"tests/exporters/focus/test_focus_validator.py"}


def test_nothing_sleeps_skips_or_patches() -> None:
    forbidden = re.compile(
        r"^time\.sleep$|^unittest\.mock\b|^monkeypatch\.setattr$|^pytest\.(skip|xfail|importorskip)$|^pytest\.mark\.(skip|skipif|xfail)$")
    found = [
        f"{named(path)}:{line}: {name}"
        for path in modules("agent", "exporters", "tests")
        for line, name in calls(path)
        if forbidden.search(name) and not (name == "pytest.skip" and named(path) in MAY_SKIP)
    ]
    assert found == []


def test_every_module_has_its_floor() -> None:
    (floors,) = (contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"] if contract["id"] == "floors")
    placed = {name.strip(" ()") for floor in floors["layers"] for name in re.split(r"[|:]", floor)}
    packages = {f"agent.{path.parent.name}" for path in (ROOT / "agent").glob("*/__init__.py")}
    whole = packages & placed                        # a package stands on one floor, or each of its modules on its own
    apart = {f"agent.{path.parent.name}.{path.stem}" for path in (ROOT / "agent").glob("*/*.py")
             if path.stem != "__init__" and f"agent.{path.parent.name}" not in placed}
    single = {f"agent.{path.stem}" for path in (ROOT / "agent").glob("*.py")} - {"agent.__init__"}
    there = single | whole | apart | {"exporters"}
    assert there - placed == set(), "give these a line in pyproject.toml, [tool.importlinter]"
    assert placed - there == set(), "these are gone: take them out of pyproject.toml, [tool.importlinter]"
