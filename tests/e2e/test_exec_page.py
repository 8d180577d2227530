"""docs/exec.md: its example prints what the page shows, and its table has every certainty."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from agent.exec import report as exec_report
from tests.driver.scenario import Constant, Device
from tests.e2e.test_exec import GPU, Bench, bench

__all__ = ["bench"]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "exec.md").read_text()


def masked(text: str) -> str:
    return re.sub(r"\d[\d.,]*\d|\d", "N", text)


def test_the_example_prints_what_the_page_shows(bench: Bench) -> None:
    bench.show(Device(GPU, power=Constant(400)))
    (example,) = re.findall(r"```console\n\$ gpu-finops (.*?)```", PAGE, re.DOTALL)
    command, shown = example.split("\n", 1)
    done = subprocess.run([sys.executable, "-m", "agent", *shlex.split(command)], capture_output=True, text=True, check=True,
                          env=bench.environ | {"GPU_FINOPS_CONFIG": str(bench.config)})
    assert masked(done.stderr) == masked(shown)


def test_the_table_has_every_certainty() -> None:
    table = PAGE.split("| certainty | means |\n| --- | --- |\n")[1].split("\n\n")[0]
    said = re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)
    assert said == re.findall(r"``([a-z ]+)`` \(", exec_report.CommandUse.__doc__ or "")
