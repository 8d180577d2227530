"""What is read and written: pipes, devices and sizes on the way in; whole or not at all on the way out."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.files.inputs import is_file, open_input, read_input
from agent.files.outputs import replaceable, write_output, write_whole
from agent.files.printable import printable


def strange(tmp_path: Path, kind: str) -> Path:
    """A name that holds something else than a file."""
    place = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to(f"/dev/{kind}")
    return place


@pytest.mark.parametrize(("kind", "said"), [
    ("pipe", "it is a named pipe, not a file"), ("directory", "Is a directory"), ("zero", "it is a device, not a file"),
    ("urandom", "it is a device, not a file")])
def test_what_has_no_end_is_not_read(tmp_path: Path, kind: str, said: str) -> None:
    place = strange(tmp_path, kind)
    with pytest.raises(OSError, match=said) as raised:
        read_input(place)
    assert raised.value.filename == str(place)
    assert not is_file(place)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as out:
        out.truncate(2**20 + 1)
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        open_input(file, 2**20)
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        read_input(file, 2**20)
    assert len(read_input(file, 2 * 2**20)) == 2**20 + 1
    with open_input(file, most_bytes=None) as opened:
        assert opened.read(1) == b"\0"


def test_what_a_shell_hands_over_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"interval = '1s'")
        os.close(writer)
        assert read_input(Path(f"/dev/fd/{reader}")) == b"interval = '1s'"
    finally:
        os.close(reader)
    assert read_input(Path("/dev/null")) == b""


def test_a_name_that_cannot_be_looked_for_is_no_file() -> None:
    assert not is_file(Path("x" * 5_000))
    assert not is_file(Path("a\0b"))


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "prices.csv", tmp_path / "tariff.toml"
    first.write_text("old")
    first.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(first, 1234, 4321)
    owner = first.stat().st_uid, first.stat().st_gid
    second.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_whole({first: "new", second: "new"})
    assert first.read_text() == "old"
    second.rmdir()
    write_whole({first: "new", second: "new"})
    assert (first.read_text(), second.read_text()) == ("new", "new")
    assert stat.S_IMODE(first.stat().st_mode) == 0o640
    assert (first.stat().st_uid, first.stat().st_gid) == owner
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prices.csv", "tariff.toml"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_whole({link: "new"})
    assert link.is_symlink()
    assert real.read_text() == "new"


@pytest.mark.parametrize("kind", ["pipe", "null", "full"])
def test_nothing_is_renamed_over_a_device_or_a_pipe(tmp_path: Path, kind: str) -> None:
    place = strange(tmp_path, kind)
    with pytest.raises(OSError, match="it is a device or a pipe, not a file"):
        replaceable(place)
    with pytest.raises(OSError, match="it is a device or a pipe, not a file"):
        write_whole({place: "new"})
    assert not place.is_file()


@pytest.mark.parametrize("name", [".", "..", "/", "no/such/place"])
def test_a_place_that_cannot_hold_a_file_is_said(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"Is a directory|No such file or directory"):
        write_whole({Path(name): "new"})


def test_an_output_that_is_no_file_gets_it_as_it_comes(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    write_output(Path(f"/dev/fd/{writer}"), "a,b\n")
    assert os.read(reader, 10) == b"a,b\n"
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="No space left on device"):
        write_output(Path("/dev/full"), "a,b\n")
    with pytest.raises(OSError, match="No such device or address"):          # nobody reads it: said, not waited for
        write_output(strange(tmp_path, "pipe"), "a,b\n")


def test_a_text_from_elsewhere_stays_in_its_line() -> None:
    assert printable("a\x1b[31m\nb\x9b\u202e\u2028ü漢\udcff") == "a\ufffd[31m\ufffdb\ufffd\ufffd\ufffdü漢\udcff"
