"""A price file that has run out where it may not: no start without prices, and a reload that changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.daemon import Daemon, until

LAPSED = """[site]
tariff = "spot"
[tariff.spot]
currency = "EUR"
timezone = "Europe/Berlin"
rates = { spot = { csv = "prices.csv", unit = "EUR/MWh", missing = "error" } }
rule = [{ rate = "spot" }]
"""
GOOD = LAPSED.replace('"error"', '"last"')


def write(directory: Path, config: str) -> Path:
    (directory / "prices.csv").write_text("start,price\n2026-01-01T00:00:00Z,80\n2026-01-01T01:00:00Z,90\n")
    file = directory / "c.toml"
    file.write_text(config)
    return file


def test_a_start_with_lapsed_prices_ends_with_one_sentence(tmp_path: Path) -> None:
    file = write(tmp_path, LAPSED)
    done = subprocess.run([sys.executable, "-m", "agent", "run", "--config.file", str(file), "--source", "simulated"],
                          capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{file}:6: tariff.spot.rates.spot: has no price for the present (")
    assert line.endswith('fetch the missing prices, or write missing = "last" or the name of another rate')


def test_a_reload_with_lapsed_prices_leaves_the_old_tariff(tmp_path: Path) -> None:
    write(tmp_path, "")                          # the prices; the daemon's configuration lies beside them
    with Daemon(tmp_path, config=GOOD) as daemon:
        daemon.config.write_text(LAPSED)
        daemon.get("/-/reload", method="POST")
        until(lambda: daemon.value("finops_agent_config_reload_success") == 0, "the metric that says so")
        assert "has no price for the present" in daemon.errors()
        assert daemon.value("finops_tariff_price_per_kwh", tariff="spot", rate="spot", currency="EUR") == 0.09
