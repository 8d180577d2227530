"""Holidays become dates before the daemon reads them; unwritten ones are a fault that says how."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent.cli import main
from agent.config.config import load
from agent.errors import ConfigError
from tests.agent.tariffs.price_walk import local_ns

TARIFF = """# kept as it is
[tariff.cn]
currency = "CNY"
timezone = "Asia/Shanghai"
holidays = "CN"          # a wish
rates = { low = 0.3, high = 1.2 }
rule = [
  { rate = "low", dates = [2026-12-24, "holidays"] },
  { rate = "high" },
]
"""


def dates_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dt.date]:
    assert main(["tariff", "holidays", *arguments]) == 0
    found = tomllib.loads(capsys.readouterr().out)["dates"]
    assert all(isinstance(day, dt.date) for day in found)
    return list(found)


def test_the_days_that_a_state_keeps_by_law(capsys: pytest.CaptureFixture[str]) -> None:
    days = dates_of(capsys, "CN", "--years", "2026")
    # the State Council's fixed ones: New Year, 1 May, 1 to 3 October; the Spring Festival of 2026 is on 17 February
    assert {dt.date(2026, 1, 1), dt.date(2026, 5, 1), dt.date(2026, 10, 1), dt.date(2026, 10, 2), dt.date(2026, 10, 3),
            dt.date(2026, 2, 17)} <= set(days)
    assert days == sorted(set(days))
    assert {day.year for day in dates_of(capsys, "US-CA", "--years", "2027-2028")} == {2027, 2028}


def test_a_configuration_is_written_out_and_then_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wish.toml").write_text(TARIFF)
    wish, good = str(tmp_path / "wish.toml"), str(tmp_path / "c.toml")
    assert main(["tariff", "holidays", wish, "--years", "2026-2027", "-o", good]) == 0
    assert main(["check", good]) == 0
    text = (tmp_path / "c.toml").read_text()
    assert text.startswith('# kept as it is\n[tariff.cn]\ncurrency = "CNY"\n')
    assert "\n# holidays of CN, written out as dates\n" in text
    tariff = load(tmp_path / "c.toml", environ={}).tariffs["cn"]
    rates = [tariff.price_at(local_ns(f"{day} 12:00", "Asia/Shanghai")).rate
             for day in ("2026-10-01", "2026-12-24", "2027-05-01", "2026-11-24")]
    assert rates == ["low", "low", "low", "high"]


def test_the_daemon_reads_no_wishes(tmp_path: Path) -> None:
    file = tmp_path / "wish.toml"
    file.write_text(TARIFF)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    assert caught.value.faults == [
        f"{file}:5: tariff.cn.holidays: is a wish, not dates, and nothing looks holidays up while it runs; have it written out "
        f"with gpu-finops tariff holidays {file}",
        f"{file}:8: tariff.cn.rule[0].dates[1]: is not a date yet; have it written out with gpu-finops tariff holidays {file}",
    ]


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["ZZ"], 2, "ZZ is not known to the holidays package"), (["China"], 2, "China is not a country"),
    (["US-ZZ"], 2, "US-ZZ is not known"), (["CN", "--years", "26"], 2, "--years 26 is not a span"),
    (["CN", "--years", "2028-2026"], 2, "--years 2028-2026"), (["none.toml"], 2, "there is no file none.toml"),
])
def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str) -> None:
    assert main(["tariff", "holidays", *arguments]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"gpu-finops: {said}")


def test_a_configuration_without_a_wish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text(TARIFF.replace('holidays = "CN"', ""))
    assert main(["tariff", "holidays", str(tmp_path / "c.toml")]) == 2
    assert "it asks for none" in capsys.readouterr().err


def test_without_the_package_one_sentence_says_what_to_install() -> None:
    program = ("import sys; sys.modules['holidays'] = None; from agent.cli import main; "
               "sys.exit(main(['tariff', 'holidays', 'CN']))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).resolve().parents[3])
    assert (done.returncode, done.stdout) == (1, "")
    assert "install gpu-finops-agent[import]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_loads_the_package_before_it_is_asked_for() -> None:
    program = "import sys, agent.app, agent.commands.tariff; sys.exit('holidays' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).resolve().parents[3]).returncode == 0
