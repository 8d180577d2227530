"""Recordings: what is written is read back equal; damage is told apart from a recorder that was killed."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import ConfigError, SourceEnded, SourceError, UsageError
from agent.model import DeviceReading, PowerSample, ProcessFacts, Reading
from agent.sources.recording import Recorder, RecordingFile
from agent.sources.replay import ReplaySource
from agent.units import NS_PER_S
from tests.agent.sources.test_simulated import ROOT, readings

LOST = Reading(
    session="s", sequence=99, boot_id="b", boottime_ns=1, monotonic_ns=2, utc_ns=3, driver_version="580.65",
    devices=(
        DeviceReading(uuid="GPU-1", index=0, name="A", boottime_ns=1, failed="GPU is lost"),
        DeviceReading(uuid="MIG-2", index=1, name="B", boottime_ns=1, parent_uuid="GPU-2", utilization_ratio=0.1 + 0.2,
                      power_samples=(PowerSample(5, 6),), errors={"energy_mj": "Not Supported"}),
    ),
    started=(ProcessFacts(pid=1, start_ticks=2, command='caf\N{LATIN SMALL LETTER E WITH ACUTE}\n"', hidden="no permission"),),
)  # fmt: skip


def recorded(path: Path, count: int = 20) -> list[Reading]:
    taken = [*readings(count, 30 * NS_PER_S), LOST]
    recorder = Recorder(path)
    for reading in taken:
        recorder.write(reading)
    recorder.close()
    recorder.close()
    return taken


@contextmanager
def opened(path: Path) -> Iterator[ReplaySource]:
    source = ReplaySource({"file": str(path)})
    source.open()
    try:
        yield source
    finally:
        source.close()


def played(path: Path) -> list[Reading]:
    seen: list[Reading] = []
    with opened(path) as source:
        try:
            while True:
                seen.append(source.read(len(seen)))
        except SourceEnded:
            return seen


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_what_is_recorded_is_played_back_equal(tmp_path: Path, name: str) -> None:
    taken = recorded(tmp_path / name)
    assert played(tmp_path / name) == taken


def test_the_file_is_what_its_description_says(tmp_path: Path) -> None:
    taken = recorded(tmp_path / "trace.jsonl.gz", 3)
    lines = gzip.decompress((tmp_path / "trace.jsonl.gz").read_bytes()).decode().splitlines()   # another reader of gzip
    assert len(lines) == 1 + 4
    assert json.loads(lines[0]) == {
        "format": "gpu-finops-recording", "version": 1, "created": "2026-11-18T12:00:00Z", "driver_version": "simulated",
        "gpus": [{"uuid": d.uuid, "name": "NVIDIA H100 80GB HBM3 (simulated)"} for d in taken[0].devices],
    }  # fmt: skip
    assert [json.loads(line)["sequence"] for line in lines[1:]] == [0, 1, 2, 99]


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text("precious")
    with pytest.raises(UsageError, match=r"trace\.jsonl: exists already and is not overwritten; name a new file"):
        Recorder(file)
    assert file.read_text() == "precious"
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        Recorder(tmp_path / "nowhere" / "trace.jsonl")


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_cut_off_anywhere_the_readings_before_the_cut_are_played(tmp_path: Path, name: str) -> None:
    taken = recorded(tmp_path / name, 3)
    whole = (tmp_path / name).read_bytes()
    header = 300 if name.endswith(".gz") else whole.index(b"\n") + 1
    for cut in range(header, len(whole), 7):
        file = tmp_path / f"{cut}-{name}"
        file.write_bytes(whole[:cut])
        seen = played(file)
        assert seen == taken[: len(seen)]
        file.unlink()
    (tmp_path / f"cut-{name}").write_bytes(whole[:-12])
    assert len(played(tmp_path / f"cut-{name}")) >= len(taken) - 1


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_a_cut_is_told_at_the_end_and_a_whole_file_says_nothing_of_it(tmp_path: Path, name: str) -> None:
    recorded(tmp_path / name, 3)
    (tmp_path / f"cut-{name}").write_bytes((tmp_path / name).read_bytes()[:-30])
    for file, told in ((name, False), (f"cut-{name}", True)):
        with opened(tmp_path / file) as source:
            with pytest.raises(SourceEnded) as caught:
                for sequence in range(5):
                    source.read(sequence)
            assert ("its end is cut off" in str(caught.value)) is told
            assert "the recording ends after" in str(caught.value)
            with pytest.raises(SourceEnded):                  # and stays ended
                source.read(9)


def test_a_gzip_that_lacks_its_end_alone_has_every_reading_and_is_told(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl.gz"
    taken = recorded(file, 3)
    file.write_bytes(file.read_bytes()[:-4])
    with opened(file) as source:
        assert [source.read(sequence) for sequence in range(4)] == taken
        with pytest.raises(SourceEnded, match="its end is cut off"):
            source.read(4)


def test_a_damaged_line_is_an_error_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    taken = recorded(file, 4)
    lines = file.read_bytes().splitlines(keepends=True)
    for damage in (b"{}\n", b"\n", lines[3][:-20] + b"\n", lines[3].replace(b'"sequence":2', b'"sequence":"x"'), b"\xff\n"):
        file.write_bytes(b"".join([*lines[:3], damage, *lines[4:]]))
        with opened(file) as source:
            assert [source.read(0), source.read(1)] == taken[:2]
            with pytest.raises(SourceError, match=r"trace\.jsonl:4: this line .* is damaged .* the 2 readings before"):
                source.read(2)


def test_a_damaged_gzip_is_an_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl.gz"
    recorded(file, 4)
    data = bytearray(file.read_bytes())
    data[-8:-4] = b"\0\0\0\0"                                 # the checksum
    file.write_bytes(data)
    with pytest.raises(SourceError, match=r"trace\.jsonl\.gz:\d+: the compressed recording is damaged"):
        played(file)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"uuid,watts\n", b'{"format":"x","version":1}\n', b'{"format": "gpu-fin', b"\xff\xfe"]
)
def test_another_kind_of_file_is_not_played(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_bytes(content)
    source = ReplaySource({"file": str(file)})
    with pytest.raises(SourceError, match=r"trace\.jsonl:1: this is not a recording; name a file that"):
        source.open()
    source.close()


def test_a_newer_version_of_the_format_is_told(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    recorded(file, 1)
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":2', 1))
    with pytest.raises(SourceError, match="has version 2 of the format and this program reads 1"):
        RecordingFile(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    source = ReplaySource({"file": str(tmp_path / "none.jsonl")})
    with pytest.raises(SourceError, match=r"none\.jsonl: the recording cannot be read: No such file"):
        source.open()
    with pytest.raises(SourceError, match="before it is opened"):
        source.read(0)


def test_without_a_file_there_is_nothing_to_play() -> None:
    with pytest.raises(ConfigError, match="missing required field `file`"):
        ReplaySource({})


def test_opened_again_it_plays_from_the_start(tmp_path: Path) -> None:
    taken = recorded(tmp_path / "trace.jsonl", 2)
    source = ReplaySource({"file": str(tmp_path / "trace.jsonl")})
    source.open()
    source.read(0)
    source.open()
    assert source.read(0) == taken[0]
    source.close()
    source.close()


RECORD_FOREVER = """
import sys
from agent.sources.recording import Recorder
from tests.agent.sources.test_simulated import readings
taken = readings(50)
recorder = Recorder(sys.argv[1])
while True:
    for reading in taken:
        recorder.write(reading)
        print(recorder.readings, flush=True)
"""


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_a_killed_recorder_loses_no_reading_that_it_had_taken(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with subprocess.Popen(
        [sys.executable, "-c", RECORD_FOREVER, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as recorder:
        while int(recorder.stdout.readline()) < 120:
            pass
        recorder.kill()
        told = [int(line) for line in recorder.stdout.read().split()]
    assert recorder.returncode == -signal.SIGKILL
    assert len(played(file)) >= max([120, *told])


FULL_DISK = """
import resource, sys
from agent.errors import SourceError
from agent.sources.recording import Recorder
from tests.agent.sources.test_simulated import readings
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
recorder = Recorder(sys.argv[1])
try:
    for reading in readings(1000):
        recorder.write(reading)
except SourceError as error:
    print(error)
recorder.close()
"""


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_a_disk_that_takes_no_more_is_told_and_leaves_what_was_written(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the recording stops after" in done.stdout
    assert "File too large" in done.stdout
    told = int(done.stdout.split("stops after ")[1].split()[0])
    assert len(played(file)) == told > 0


