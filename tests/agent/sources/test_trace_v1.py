"""A recording that version 1 of the format left behind: every later program must play it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import SourceEnded
from agent.sources.replay import ReplaySource

TRACE = Path(__file__).resolve().parents[2] / "traces" / "simulated-h100-v1.jsonl.gz"


def test_it_is_played_to_its_end_with_the_energy_it_was_made_with() -> None:
    source = ReplaySource({"file": str(TRACE)})
    source.open()
    seen = [source.read(sequence) for sequence in range(60)]
    with pytest.raises(SourceEnded, match=r"the recording ends after 60 readings$"):
        source.read(60)
    source.close()
    first, last = seen[0], seen[-1]
    assert [reading.sequence for reading in seen] == list(range(60))
    assert {reading.session for reading in seen} == {"trace"}
    assert (last.utc_ns - first.utc_ns, last.boottime_ns - first.boottime_ns) == (590 * 10**9, 590 * 10**9)
    used_mj = {
        after.uuid: after.energy_mj - before.energy_mj for before, after in zip(first.devices, last.devices, strict=True)
    }
    assert used_mj == {
        "GPU-199ec517-d280-9b60-4aea-ac5ea9069464": 295_824_500,
        "GPU-9fe1730f-cf9f-1e68-79a2-dc43be091e20": 256_896_800,
    }
    assert [facts.environ.get("FINOPS_MODEL_VERSION") for reading in seen for facts in reading.started].count(None) == 2
    assert sum(len(device.utilization_samples) for reading in seen for device in reading.devices) > 1000
