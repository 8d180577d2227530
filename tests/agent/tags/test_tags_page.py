"""docs/tags.md: its example does what the page says, and its table has every source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config.config import load
from agent.model import UNATTRIBUTED, UNVERIFIED, ProcessFacts
from agent.tags import TAG_SOURCES
from agent.tags.resolver import WorkloadResolver
from agent.tags.slurm import FIELDS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "tags.md").read_text()
GPU = "GPU-6c5795e1-4b3b-7e33-1546-a0f2c927ea0b"


@pytest.fixture
def resolver(tmp_path: Path) -> WorkloadResolver:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "gpu-finops.toml"
    file.write_text(block)
    return WorkloadResolver(load(file, {}).tags)


@pytest.mark.parametrize(
    ("facts", "gpu", "workload"),
    [
        ({"user": "serving", "command": "vllm serve --model kronos-2"}, GPU, ("kronos", "quant", "kronos-base", "")),
        ({"user": "mallory", "command": "vllm serve --model kronos-2"}, "GPU-2", (UNATTRIBUTED, "", "", "")),
        ({"user": "mallory", "environ": {"FINOPS_PROJECT": "kronos"}}, "GPU-2", (UNVERIFIED, "", "", "")),
        ({"user": "serving", "environ": {"FINOPS_PROJECT": "kronos-9"}}, "GPU-2", ("kronos-9", "", "", "")),
        ({"user": "ollama", "unit": "ollama.service"}, "GPU-2", ("assistants", "", "", "")),
        ({"hidden": "another PID namespace"}, GPU, ("lab", "", "", "")),
        ({"hidden": "another PID namespace"}, "GPU-2", (UNATTRIBUTED, "", "", "")),
    ],
)
def test_the_pages_example_does_what_it_says(
    resolver: WorkloadResolver, facts: dict[str, str], gpu: str, workload: tuple[str, ...]
) -> None:
    assert resolver.workload(ProcessFacts(pid=1, start_ticks=1, **facts), gpu, "NVIDIA H100") == workload


def test_the_table_has_every_source_and_every_field_of_slurm() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == list(TAG_SOURCES)
    assert set(re.findall(r"`(\w+)`", dict(rows)["slurm"])) == set(FIELDS)
