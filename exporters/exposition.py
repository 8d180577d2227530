"""Snapshots as Prometheus text 0.0.4 and OpenMetrics 1.0.0, with gzip.

Line by line what prometheus_client writes for the same families, ten times as fast: a series' name and labels are put
together once and kept, and both formats share their sample lines. A snapshot is rendered when it is first asked for, once.
"""

from __future__ import annotations

import gzip
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.utils import floatToGoString

from agent.model import Snapshot, Workload
from exporters.families import FAMILIES, SELF_FAMILIES, Family, Key, W, label_names, label_values
from exporters.selfstatus import SelfStatus

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_GZIP_LEVEL = 1                # level 6 takes five times as long for a quarter less


def escaped(text: str) -> str:
    """A label value, or an OpenMetrics help text, as it stands between quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def choose_format(accept: str) -> str:
    """The content type for an Accept header: OpenMetrics where the client prefers it and takes 1.0.0, else text."""
    best, best_quality = TEXT, 0.0
    for offer in accept.split(","):
        media, *parameters = (part.strip() for part in offer.split(";"))
        given = dict(p.split("=", 1) for p in parameters if "=" in p)
        try:
            quality = float(given.get("q", "1"))
        except ValueError:
            quality = 0.0
        if media == "application/openmetrics-text" and given.get("version", "1.0.0") == "1.0.0":
            kind = OPENMETRICS
        elif media in {"text/plain", "text/*", "*/*"}:
            kind = TEXT
        else:
            continue
        if quality > best_quality:
            best, best_quality = kind, quality
    return best


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    for offer in accept_encoding.split(","):
        coding, _, parameter = offer.replace(" ", "").partition(";")
        if coding in {"gzip", "*"}:
            return parameter not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


class _FamilyLines:
    """Renders one family, keeping each series' beginning (name and labels) from one snapshot to the next."""

    def __init__(self, family: Family[Any], tag_keys: tuple[str, ...]) -> None:
        self._family = family
        self._labels = label_names(family.labels, tag_keys)
        self._beginnings: dict[Key, str] = {}
        help_text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        unit = f"# UNIT {family.base} {family.suffix_unit}\n" if family.suffix_unit else ""
        self.heads = {
            TEXT: f"# HELP {family.name} {help_text}\n# TYPE {family.name} {family.type}\n",
            OPENMETRICS: f"# HELP {family.base} {escaped(family.help)}\n# TYPE {family.base} {family.type}\n{unit}",
        }

    def render(self, source: Any, listed: frozenset[Workload] | None) -> str:
        """The family's sample lines; empty when it has no sample. Of a workload that is not listed there is none."""
        beginnings, scale = self._beginnings, self._family.scale
        lines = []
        chosen = listed if W in self._family.labels else None
        for key, raw in self._family.read(source):
            if chosen is not None and key[1] not in chosen:
                continue
            beginning = beginnings.get(key)
            if beginning is None:
                beginning = beginnings[key] = self._beginning(key)
            value = raw / scale
            # repr is what floatToGoString gives below 1e6, and a third of its cost.
            lines.append(f"{beginning}{value!r}\n" if -math.inf < value < 1e6 else f"{beginning}{floatToGoString(value)}\n")
        if len(beginnings) > 2 * len(lines) + 16:
            beginnings.clear()                   # mostly series that have gone: bounded by twice what is alive
        return "".join(lines)

    def _beginning(self, key: Key) -> str:
        pairs = sorted(zip(self._labels, label_values(key), strict=True))
        labels = ",".join(f'{name}="{escaped(value)}"' for name, value in pairs)
        return f"{self._family.name}{{{labels}}} " if labels else f"{self._family.name} "


class _Rendered:
    """What has been rendered of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.blocks: list[tuple[_FamilyLines, str]] | None = None
        self.bodies: dict[tuple[str, bool], bytes] = {}


class Exposition:
    """Keeps the last snapshot and renders it on demand. ``publish`` may be called from any thread."""

    def __init__(self, self_status: Callable[[], SelfStatus] = SelfStatus) -> None:
        self._self_status = self_status
        self._lock = threading.Lock()            # held while rendering; publish does not wait for it
        self._current: _Rendered | None = None
        self._tag_keys: tuple[str, ...] | None = None
        self._families: list[_FamilyLines] = []
        self._self_families = [_FamilyLines(family, ()) for family in SELF_FAMILIES]

    def publish(self, snapshot: Snapshot) -> None:
        self._current = _Rendered(snapshot)      # one reference: readers see the old or the new one, whole

    @property
    def snapshot(self) -> Snapshot | None:
        """The last one published; None before the first."""
        current = self._current
        return current.snapshot if current is not None else None

    def render(self, content_type: str = TEXT, compressed: bool = False) -> bytes | None:
        """The last snapshot in a format (TEXT or OPENMETRICS); None before the first snapshot."""
        current = self._current
        if current is None:
            return None
        body = current.bodies.get((content_type, compressed))
        if body is None:
            with self._lock:
                body = self._rendered(current, content_type, compressed)
        return body

    def _rendered(self, current: _Rendered, content_type: str, compressed: bool) -> bytes:
        body = current.bodies.get((content_type, compressed))
        if body is not None:                     # another thread was first
            return body
        if compressed:
            body = gzip.compress(self._rendered(current, content_type, False), _GZIP_LEVEL, mtime=0)
        else:
            if current.blocks is None:
                current.blocks = list(self._blocks(current.snapshot))
            parts = [part for lines, block in current.blocks for part in (lines.heads[content_type], block)]
            if content_type == OPENMETRICS:
                parts.append("# EOF\n")
            body = "".join(parts).encode("utf-8", errors="replace")
        current.bodies[(content_type, compressed)] = body
        return body

    def _blocks(self, snapshot: Snapshot) -> Iterable[tuple[_FamilyLines, str]]:
        if snapshot.tag_keys != self._tag_keys:
            self._tag_keys = snapshot.tag_keys
            self._families = [_FamilyLines(family, snapshot.tag_keys) for family in FAMILIES]
        for source, families in ((snapshot, self._families), (self._self_status(), self._self_families)):
            for lines in families:
                block = lines.render(source, snapshot.listed)
                if block:
                    yield lines, block
