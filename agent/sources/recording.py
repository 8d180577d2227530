"""Readings in a file, so that what one machine saw can be played back on another.

A recording is JSON lines, gzipped where its name ends in ``.gz``. The first line is the header; every other line is
one Reading as msgspec encodes it, in the order in which they were read. Processes are told in full in the first
reading that lists them (``Reading.started``), so a recording needs nothing beside it. Each line is handed to the kernel
before the next reading is taken: killing the recorder loses at most the line being written.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from agent.errors import SourceError, UsageError
from agent.files.inputs import open_input
from agent.model import Reading
from agent.units import NS_PER_S

FORMAT: Final = "gpu-finops-recording"
VERSION: Final = 1
_GZIP: Final = zlib.MAX_WBITS | 16   # zlib's way to ask for a gzip wrapper
_CHUNK_BYTES: Final = 64 * 1024
_MOST_LINE_BYTES: Final = 64 * 2**20     # a reading of a thousand devices has a hundredth of that


class RecordedGpu(Struct, frozen=True):
    """A GPU of the first reading, for a person who looks at the header."""

    uuid: str
    name: str


class Header(Struct, frozen=True):
    """The first line of a recording."""

    format: str
    version: int
    created: str                     # UTC of the first reading, ISO 8601
    driver_version: str
    gpus: tuple[RecordedGpu, ...]


class Recorder:
    """Writes a recording. Raises UsageError where the file exists already or cannot be made."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("xb")
        except FileExistsError:
            raise UsageError(f"{path}: exists already and is not overwritten; name a new file") from None
        except OSError as error:
            raise UsageError(f"{path}: the recording cannot be written: {error.strerror}; name another file") from None
        self._gzip = zlib.compressobj(wbits=_GZIP) if self.path.suffix == ".gz" else None
        self._encoder = msgspec.json.Encoder()
        self.readings = 0
        self._failed = False

    def write(self, reading: Reading) -> None:
        """Appends one reading. Raises SourceError where the disk does not take it."""
        if self.readings == 0:
            self._line(_header(reading))
        self._line(reading)
        self.readings += 1

    def close(self) -> None:
        """Ends the file. Safe to call twice. A recording without a reading is an empty file."""
        if self._file.closed:
            return
        end = self._gzip.flush() if self._gzip is not None and self.readings and not self._failed else b""
        try:
            with self._file:
                self._file.write(end)
        except OSError as error:
            self._fail(error)

    def _line(self, record: Struct) -> None:
        data = self._encoder.encode(record) + b"\n"
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Tells the first failure; what the closing file says after it is no news."""
        if self._failed:
            return
        self._failed = True
        raise SourceError(
            f"{self.path}: the recording stops after {self.readings} readings: {error.strerror}; what is there can be played"
        ) from None


class RecordingFile:
    """Reads a recording: the header at once, the readings as they are asked for. Raises SourceError.

    A last line that is cut off (the recorder was killed) ends the recording and sets ``truncated``. A line that is
    damaged anywhere else is an error with its number.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.truncated = False
        self.readings = 0
        self._line_number = 0
        try:
            self._file: BinaryIO = open_input(self.path, most_bytes=None)
        except OSError as error:
            raise SourceError(
                f"{path}: the recording cannot be read: {error.strerror}; name a file that `gpu-finops record` wrote"
            ) from None
        self._lines = self._read_lines()
        self._decoder = msgspec.json.Decoder(Reading)
        try:
            self.header = self._read_header()
        except SourceError:
            self.close()
            raise

    def next(self) -> Reading | None:
        """The next reading; None at the end."""
        for line, whole in self._lines:
            self._line_number += 1
            try:
                reading = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if not whole:
                    self.truncated = True
                    return None
                raise SourceError(
                    f"{self.path}:{self._line_number}: this line of the recording is damaged ({error}); "
                    f"the {self.readings} readings before it are good: cut the file there to play them"
                ) from None
            self.readings += 1
            return reading
        return None

    def close(self) -> None:
        """Safe to call twice."""
        self._file.close()

    def _read_header(self) -> Header:
        line, _ = next(self._lines, (b"", False))
        self._line_number += 1
        try:
            header = msgspec.json.decode(line, type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            header = None
        if header is None or header.format != FORMAT:
            raise SourceError(f"{self.path}:1: this is not a recording; name a file that `gpu-finops record` wrote")
        if header.version != VERSION:
            raise SourceError(
                f"{self.path}:1: the recording has version {header.version} of the format and this program reads {VERSION}; "
                "play it with the version of gpu-finops that wrote it"
            )
        return header

    def _read_lines(self) -> Iterator[tuple[bytes, bool]]:
        """Each line without its end, and whether it had one."""
        kept = b""
        for chunk in self._read_chunks():
            *lines, kept = (kept + chunk).split(b"\n")
            for line in lines:
                yield line, True
            if len(kept) > _MOST_LINE_BYTES:
                raise SourceError(f"{self.path}:{self._line_number + 1}: this line has no end, so that it is no reading; name "
                                  "a file that `gpu-finops record` wrote")
        if kept:
            yield kept, False

    def _read_chunks(self) -> Iterator[bytes]:
        unzip = zlib.decompressobj(wbits=_GZIP) if self.path.suffix == ".gz" else None
        while data := self._file.read(_CHUNK_BYTES):
            if unzip is None:
                yield data
                continue
            try:
                while data:
                    yield unzip.decompress(data)
                    data = unzip.unused_data         # what follows: another recording of the same kind, put behind this one
                    if data:
                        unzip = zlib.decompressobj(wbits=_GZIP)
            except zlib.error as error:
                raise SourceError(
                    f"{self.path}:{self._line_number + 1}: the compressed recording is damaged from here on ({error}); "
                    f"{self.readings} readings before it are good"
                ) from None
        if unzip is not None and not unzip.eof:
            self.truncated = True


def _header(first: Reading) -> Header:
    created = dt.datetime.fromtimestamp(first.utc_ns // NS_PER_S, dt.UTC)
    return Header(
        format=FORMAT, version=VERSION, created=created.isoformat().replace("+00:00", "Z"),
        driver_version=first.driver_version, gpus=tuple(RecordedGpu(device.uuid, device.name) for device in first.devices),
    )  # fmt: skip
