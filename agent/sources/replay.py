"""A recording, played back through the pipeline as if its devices were here.

Options: ``file``, a recording that `gpu-finops record` wrote. Readings come one a call, with the session, sequence and
times they were recorded with: a ledger that has seen them takes nothing twice. How fast is up to who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from agent.clock import Clock
from agent.errors import ConfigError, SourceEnded, SourceError
from agent.model import Reading
from agent.sources.recording import RecordingFile


class _Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: str


class ReplaySource:
    """A Source over a recording. ``clock`` is taken as every source takes it, and not read: time is the recording's."""

    def __init__(self, options: Mapping[str, Any], *, clock: Clock | None = None) -> None:
        try:
            self._options = msgspec.convert(dict(options), _Options)
        except msgspec.ValidationError as error:
            raise ConfigError([f"options of the replay source: {error}; give it the `file` to play"]) from None
        self._recording: RecordingFile | None = None

    def open(self) -> None:
        self.close()
        self._recording = RecordingFile(self._options.file)

    def read(self, sequence: int) -> Reading:
        """The next recorded reading, whatever ``sequence`` says. SourceEnded after the last, SourceError at a damaged line."""
        recording = self._recording
        if recording is None:
            raise SourceError("the recording is read before it is opened; open it first")
        reading = recording.next()
        if reading is None:
            cut = "; its end is cut off, as when the recorder was killed" if recording.truncated else ""
            raise SourceEnded(f"{recording.path}: the recording ends after {recording.readings} readings{cut}")
        return reading

    def close(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None
