"""Commands beside a running daemon: report through its API, verify, backup, re-rating into its counters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from agent.ledger.file import FILE_NAME
from agent.ledger.ledger import Ledger
from agent.units import NANO
from tests.agent.priced import KRONOS, book, instant_ns, pricing, tariff
from tests.agent.records import UUID
from tests.e2e.daemon import TEN_A_SECOND, Daemon, until

START_NS = instant_ns("2026-03-01", "Asia/Shanghai")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """On a ledger that has a day of last March: 96 kWh at 1 for each of two workloads."""
    made = Daemon(tmp_path / "daemon", config=TEN_A_SECOND)
    ledger = Ledger(made.state, START_NS)
    book(ledger, pricing(tariff(tmp_path, "all = 1.0"), ()), START_NS, 96)
    ledger.close()
    with made:
        yield made


def march(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main(["report", "--from", "2026-03-01", "--to", "2026-03-02", "--format", "json", *arguments]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)["rows"]
    return rows


def test_who_cannot_read_the_ledger_reports_through_the_daemon(daemon: Daemon, tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(f'{TEN_A_SECOND}\n[web]\nlisten_address = "127.0.0.1:{daemon.port}"\n')
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "lock").symlink_to("lock")         # one that may not be looked at: opening it fails for root too
    through = ("--config.file", str(elsewhere), "--state.dir", str(hidden))
    for by in ("project", "project,day", "gpu,component", "correction"):
        direct = march(capsys, "--by", by, "--config.file", str(daemon.config), "--state.dir", str(daemon.state))
        assert march(capsys, "--by", by, *through) == direct
        assert direct
    assert main(["report", "--by", "colour", *through]) == 2
    assert "choose from project" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["on the command line", "in the file"])
def test_another_daemons_ledger_does_not_answer_for_one_that_is_named(
        daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str) -> None:
    missing = tmp_path / "not here"
    config = tmp_path / "gpu-finops.toml"
    config.write_text((f'state_dir = "{missing}"\n' if said == "in the file" else "")
                      + f'[web]\nlisten_address = "127.0.0.1:{daemon.port}"\n')
    named = ("--state.dir", str(missing)) if said == "on the command line" else ()
    for form in ("csv", "focus"):
        assert main(["report", "--format", form, "--config.file", str(config), *named]) == 1
        told = capsys.readouterr()
        assert (told.out, "no ledger here" in told.err) == ("", True)
    assert not missing.exists()


def test_verify_and_backup_beside_the_daemon(daemon: Daemon, tmp_path: Path) -> None:
    assert main(["ledger", "verify", "--state.dir", str(daemon.state)]) == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    assert main(["ledger", "backup", str(copy / FILE_NAME), "--state.dir", str(daemon.state)]) == 0
    assert main(["ledger", "verify", "--state.dir", str(copy)]) == 0


def test_a_re_rating_is_in_the_daemons_counters(daemon: Daemon, tmp_path: Path) -> None:
    before = daemon.counters()
    dearer = tmp_path / "dearer.toml"
    dearer.write_text(TEN_A_SECOND.replace("all = 1.0", "all = 1.5"))
    assert main(["rerate", "--from", "2026-03-01", "--to", "2026-03-02", "--config.file", str(dearer),
                 "--state.dir", str(daemon.state)]) == 0

    def cost() -> float:
        return daemon.value("finops_workload_cost_total", uuid=UUID, project=KRONOS[0], component="energy")

    until(lambda: cost() == 96 * 1.5, "the corrections in the daemon's counters")
    after = daemon.counters()
    assert [key for key in before if after[key] < before[key]] == []
    assert daemon.stop() == 0
    ledger = Ledger(daemon.state, START_NS)
    assert ledger.totals.cost_nano[UUID, KRONOS, "energy", "CNY"] == 144 * NANO
    ledger.close()
    assert main(["ledger", "verify", "--state.dir", str(daemon.state)]) == 0
