"""Thirty bad configurations, one after the other: the old tariff stays, costs go on, and the metric says so."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.daemon import TEN_A_SECOND, Daemon, until

MORE = ("interval = 12\n", TEN_A_SECOND.replace("1.0", "'1.0'"), TEN_A_SECOND.replace("CNY", "CNX"), TEN_A_SECOND[:-5],
        TEN_A_SECOND.replace('"flat"', '"flatt"'), TEN_A_SECOND.replace("Asia/Shanghai", "Asia/Shangai"),
        TEN_A_SECOND.replace("all = 1.0", "al = 1.0"))


def test_thirty_bad_reloads_change_nothing(tmp_path: Path, repository: Path) -> None:
    bad = [file.read_bytes() for file in sorted((repository / "tests" / "configs").glob("*.bad.toml"))]
    bad = [*bad, *(text.encode() for text in MORE)][:30]
    assert len(bad) == 30
    with Daemon(tmp_path, config=TEN_A_SECOND) as daemon:
        for n, text in enumerate(bad, 1):
            daemon.config.write_bytes(text)
            daemon.get("/-/reload", method="POST")
            until(lambda told=n: daemon.errors().count("configuration not reloaded") == told, f"reload {n} to be refused")
            until(lambda: daemon.value("finops_agent_config_reload_success") == 0, "the metric that says so")
            assert daemon.value("finops_tariff_price_per_kwh", tariff="flat", rate="all", currency="CNY") == 1.0
        before = daemon.value("finops_workload_cost_total")
        until(lambda: daemon.value("finops_workload_cost_total") > before, "costs to go on")
        daemon.config.write_text(TEN_A_SECOND.replace("all = 1.0", "all = 2.0"))
        daemon.get("/-/reload", method="POST")
        until(lambda: daemon.value("finops_agent_config_reload_success") == 1, "the good reload")
        assert daemon.value("finops_tariff_price_per_kwh") == 2.0
        assert "Traceback" not in daemon.errors()
