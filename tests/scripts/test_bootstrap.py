"""``scripts/bootstrap.sh``: the environment is made from the locks alone, once, and every refusal is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.conftest import Checkout

BOOTSTRAP = "scripts/bootstrap.sh"


def test_runtime_installs_the_locked_packages_with_hashes_then_the_agent(checkout: Checkout) -> None:
    done = checkout.run(BOOTSTRAP)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    packages, agent = checkout.installs()
    assert "--require-hashes" in packages
    assert packages.endswith("--requirement requirements.lock --requirement requirements-build.lock")
    assert agent.endswith("--no-deps --no-build-isolation --no-index --editable .")


def test_a_second_run_asks_pip_for_nothing(checkout: Checkout) -> None:
    checkout.run(BOOTSTRAP, "dev")
    checkout.calls()
    for profile in ("dev", "runtime"):        # dev holds all that runtime does
        again = checkout.run(BOOTSTRAP, profile)
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
        assert checkout.installs() == []


def test_runtime_is_not_enough_for_dev(checkout: Checkout) -> None:
    checkout.run(BOOTSTRAP, "runtime")
    checkout.calls()
    checkout.run(BOOTSTRAP, "dev")
    assert checkout.installs()[0].endswith("--requirement requirements-dev.lock")


@pytest.mark.parametrize("changed", ["requirements.lock", "requirements-build.lock", "pyproject.toml"])
def test_a_changed_file_is_installed_again(checkout: Checkout, changed: str) -> None:
    checkout.run(BOOTSTRAP)
    checkout.calls()
    with (checkout.folder / changed).open("a") as file:
        file.write("# changed\n")
    assert checkout.run(BOOTSTRAP).returncode == 0
    assert len(checkout.installs()) == 2


def test_a_moved_checkout_is_installed_again(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run(BOOTSTRAP)
    checkout.calls()
    moved = Checkout(checkout.folder.rename(tmp_path / "moved"), checkout.log)
    assert moved.run(BOOTSTRAP).returncode == 0
    assert len(moved.installs()) == 2


def test_an_install_that_failed_is_tried_again(checkout: Checkout) -> None:
    failed = checkout.run(BOOTSTRAP, INSTALL_STATUS="1")
    assert failed.returncode == 1
    assert "bootstrap: the locked packages could not be installed" in failed.stderr
    checkout.calls()
    assert checkout.run(BOOTSTRAP).returncode == 0
    assert len(checkout.installs()) == 2


def test_where_the_machine_gets_packages_stays_and_where_they_go_does_not(checkout: Checkout) -> None:
    checkout.run(BOOTSTRAP, PIP_INDEX_URL="https://mirror.invalid/", PIP_CERT="/ca.pem", PIP_TARGET="/elsewhere",
                 PIP_USER="1", PIP_PREFIX="/elsewhere", PIP_NO_DEPS="1", PYTHONPATH="/elsewhere", PIP_CONSTRAINT="/none")
    seen = checkout.seen_environment()
    assert seen["PIP_INDEX_URL"] == "https://mirror.invalid/"
    assert seen["PIP_CERT"] == "/ca.pem"
    assert seen["PIP_USER"] == "0"
    assert not {"PIP_TARGET", "PIP_PREFIX", "PIP_NO_DEPS", "PIP_CONSTRAINT", "PYTHONPATH"} & seen.keys()


def test_python_without_ensurepip_gets_pip_from_a_wheel(checkout: Checkout, tmp_path: Path) -> None:
    """apt-get is a stand-in that brings a package holding what Debian's python3-pip-whl holds: one wheel."""
    wheel = tmp_path / "deb/usr/share/python-wheels/pip-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text('#!/bin/sh\ncase "$*" in *" download python3-pip-whl") : > python3-pip-whl.deb ;; *) exit 1 ;; esac\n')
    unpack = programs / "dpkg-deb"
    unpack.write_text(f'#!/bin/sh\nexec tar -c -C "{tmp_path}/deb" ./usr\n')
    ls = programs / "ls"        # the wheel of the machine itself, where it has one, stays out of this
    ls.write_text('#!/bin/sh\ncase $1 in /usr/share/python-wheels/*) exit 2 ;; *) exec /bin/ls "$@" ;; esac\n')
    for program in (apt, unpack, ls):
        program.chmod(0o755)
    done = checkout.run(BOOTSTRAP, NO_ENSUREPIP="1", PATH=f"{programs}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    installs = checkout.installs()
    assert len(installs) == 3
    assert installs[0].startswith(".cache/pip/usr/share/python-wheels/pip-1.0-py3-none-any.whl/pip install")


def test_an_old_python_is_refused_in_one_sentence(checkout: Checkout) -> None:
    done = checkout.run(BOOTSTRAP, TOO_OLD="1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or later is needed" in done.stderr
    assert "is 3.9.2" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (checkout.folder / ".venv").exists()


def test_a_python_that_is_not_there_is_named(checkout: Checkout) -> None:
    done = checkout.run(BOOTSTRAP, PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "/nowhere/python3 is not there" in done.stderr


def test_an_unknown_profile_is_refused(checkout: Checkout) -> None:
    done = checkout.run(BOOTSTRAP, "prod")
    assert (done.returncode, done.stderr) == (1, "bootstrap: unknown profile 'prod': use runtime or dev\n")
