"""Which GPUs a command may use."""

from __future__ import annotations

import pytest

from agent.errors import UsageError
from agent.exec.gpus import named_gpus, visible_gpus
from agent.model import DeviceReading

DEVICES = [
    DeviceReading(uuid="GPU-aa", index=0, name="A", boottime_ns=0),
    DeviceReading(uuid="GPU-ab", index=1, name="A", boottime_ns=0),
    DeviceReading(uuid="MIG-1", index=1, name="A", boottime_ns=0, parent_uuid="GPU-ab"),
    DeviceReading(uuid="GPU-b", index=2, name="B", boottime_ns=0),
]


@pytest.mark.parametrize(
    ("value", "uuids"),
    [
        (None, None),
        ("", set()),
        ("-1", set()),
        ("NoDevFiles", set()),
        ("0", {"GPU-aa"}),
        ("2,0", {"GPU-aa", "GPU-b"}),
        ("0, 2", {"GPU-aa", "GPU-b"}),
        ("0,-1,2", {"GPU-aa"}),                  # CUDA stops at the first that is none
        ("0,9,2", {"GPU-aa"}),
        ("GPU-b", {"GPU-b"}),
        ("GPU-ab,GPU-b", {"GPU-ab", "GPU-b"}),
        ("GPU-a", set()),                        # the beginning of two
        ("MIG-1", {"GPU-ab"}),
    ],
)
def test_cuda_visible_devices(value: str | None, uuids: set[str] | None) -> None:
    assert visible_gpus(value, DEVICES) == uuids


def test_named_on_the_command_line() -> None:
    assert named_gpus(["1", "GPU-b", "MIG-1"], DEVICES) == {"GPU-ab", "GPU-b"}
    for name in ("3", "GPU-a", "GPU-c", "", "-1"):
        with pytest.raises(UsageError, match=r"--gpu .*choose from 0 "):
            named_gpus([name], DEVICES)
