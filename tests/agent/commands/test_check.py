"""``gpu-finops check``: what it prints where, and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_good_file_is_said_to_be_good_with_everything_that_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(CONFIGS / "full.good.toml")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("good: ")
    assert [Path(name).name for name in out.removeprefix("good: ").strip().split(", ")] == [
        "full.good.toml", "included.toml", "prices.csv", "carbon.csv"]
    assert err == ""


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.bad.toml")), ids=lambda file: file.stem)
def test_a_bad_file_has_each_fault_on_stderr_and_status_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.replace(f"{CONFIGS}/", "") == file.with_suffix(".expected").read_text()


def test_without_a_file_the_default_places_count(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPU_FINOPS_CONFIG", str(CONFIGS / "empty.good.toml"))
    assert main(["check"]) == 0
    assert "empty.good.toml" in capsys.readouterr().out
    (tmp_path / "gpu-finops.toml").write_text("interval = 1\n")
    monkeypatch.delenv("GPU_FINOPS_CONFIG")
    assert main(["check"]) == 2
    assert capsys.readouterr().err.startswith("gpu-finops.toml:1: interval: is 1, a number without a unit;")


def test_the_web_configuration_is_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_users:\n  alice: plain\n")
    (tmp_path / "c.toml").write_text('[web]\nconfig_file = "web.yml"\n')
    assert main(["check", str(tmp_path / "c.toml")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}/web.yml:2: basic_auth_users.alice: ")


def test_prices_that_ended_and_must_not_have_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.csv").write_text("start,price\n2020-01-01T00:00:00Z,80\n2020-01-01T01:00:00Z,81\n")
    (tmp_path / "c.toml").write_text(
        '[tariff.t]\ncurrency = "EUR"\ntimezone = "UTC"\nrule = [{ rate = "s" }]\n'
        'rates = { s = { csv = "p.csv", unit = "EUR/MWh", missing = "error" } }\n')
    assert main(["check", str(tmp_path / "c.toml")]) == 2
    assert ":5: tariff.t.rates.s: has no price for the present (" in capsys.readouterr().err
