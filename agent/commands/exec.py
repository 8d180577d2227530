"""``gpu-finops exec``: runs a command with its tags, and tells what it used and cost."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from agent.clock import SystemClock
from agent.commands.run import add_source_options, source_of
from agent.config.config import Config, load
from agent.energy.sensor_factor import SensorFactors
from agent.errors import FinOpsError, LedgerError, UsageError
from agent.exec.child import Child
from agent.exec.gpus import VARIABLE as CUDA_VARIABLE
from agent.exec.gpus import named_gpus, visible_gpus
from agent.exec.meter import CommandMeter
from agent.exec.report import LABEL, answer, document, lines
from agent.ledger.query import LedgerReader
from agent.model import RESERVED_PROJECTS, Reading
from agent.pricing.pricing import Pricing
from agent.probe import Probe
from agent.sources.procfs import Procfs
from agent.tags.environ import variable
from agent.tags.session import session_environ, session_id_environ
from agent.units import NS_PER_MS, NS_PER_S
from agent.wake import WakePipe

PATIENCE_NS: Final = 10 * NS_PER_S       # for the first look; then the command starts, measured or not
DEADLINE_NS: Final = NS_PER_S            # a signal waits no longer than this for a driver that hangs
LOOK_NS: Final = 5 * NS_PER_MS           # between two looks for the counter's next update
EDGE_NS: Final = 250 * NS_PER_MS         # no longer than this: counters are updated every 20 to 100 ms
SHORTEST_NS: Final = 50 * NS_PER_MS      # between two readings while the command is young
PACE: Final = 20                         # and later a twentieth of its age, up to a second


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "exec", help="energy and cost of one command", usage="%(prog)s --project P [options] -- CMD ...")
    parser.add_argument("--project", metavar="P", required=True)
    parser.add_argument("--team", metavar="T")
    parser.add_argument("--model", metavar="M")
    parser.add_argument("--model-version", metavar="V")
    parser.add_argument("--tag", action="append", default=[], metavar="K=V", help="any other key of tags.keys")
    parser.add_argument("--gpu", action="append", default=[], metavar="N|UUID",
                        help="measure this GPU; may be given again. Default: those of CUDA_VISIBLE_DEVICES, else all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as one JSON document")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    add_source_options(parser)
    parser.add_argument("command", metavar="CMD")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """CMD's status. Everything that may be wrong with the call is said before CMD starts."""
    config = load(options.config_file, {})
    tags = tags_of(options, config.tags.keys)
    if options.source == "replay":
        raise UsageError("--source replay: a recording cannot measure a command; leave --source out")
    output = _Output(options.json) if options.json is not None else None
    command = [options.command, *options.arguments]
    session = _Session(config, Probe(*source_of(options, config.tags.keys), SystemClock(), deadline_ns=DEADLINE_NS))
    try:
        session.prepare(options.gpu, os.environ.get(CUDA_VARIABLE))
        status = session.run(command, {**os.environ, **environ_of(tags), **session_id_environ(session.id, os.environ)})
    except BaseException:
        if output is not None:
            output.drop()
        raise
    finally:
        session.close()
    if not {"session", "environ"} & set(config.tags.sources):
        session.notes.append('a daemon with this configuration does not see these tags: add "session" to tags.sources')
    use = answer(tags=tags, command=command, exit_status=status, duration_ns=session.duration_ns, devices=session.meter.devices,
                 chosen=session.chosen, simulated=session.simulated, notes=session.notes)
    with contextlib.suppress(OSError):               # whoever read stderr has gone: CMD's status counts
        sys.stderr.write(lines(use))
        sys.stderr.flush()
    if output is not None:
        output.write(document(use))
    return status


def tags_of(options: argparse.Namespace, keys: Sequence[str]) -> dict[str, str]:
    """The tags of the command line by key. Raises UsageError for a key that is not configured or given twice, a value that
    is empty, and a reserved project."""
    given = [("--project", "project", options.project), ("--team", "team", options.team),
             ("--model", "model", options.model), ("--model-version", "model_version", options.model_version)]
    for tag in options.tag:
        key, equals, value = tag.partition("=")
        if not equals:
            raise UsageError(f"--tag {tag}: has no '='; write it as --tag KEY=VALUE")
        given.append((f"--tag {key}", key, value))
    tags: dict[str, str] = {}
    for option, key, value in given:
        if value is None:
            continue
        if key not in keys:
            raise UsageError(f"{option}: {key!r} is not one of tags.keys ({', '.join(keys)}); "
                             "add it there in the configuration, or leave it out")
        if key in tags:
            raise UsageError(f"{option}: {key!r} is given twice; give it once")
        if not value.strip():
            raise UsageError(f"{option}: is empty; give a name")
        if key == "project" and value in RESERVED_PROJECTS:
            raise UsageError(f"{option} {value}: is a reserved name; choose another project")
        tags[key] = value
    return tags


def environ_of(tags: Mapping[str, str]) -> dict[str, str]:
    """What carries the tags to the command and all that it starts."""
    return {**{variable(key): value for key, value in tags.items()}, **session_environ(tags)}


class _Session:
    """One command and the devices around it."""

    def __init__(self, config: Config, probe: Probe) -> None:
        self.id = os.urandom(8).hex()
        self.chosen: frozenset[str] | None = None        # None: no GPU is named
        self.notes: list[str] = []
        self.duration_ns = 0
        procfs = Procfs()
        self.meter = CommandMeter(self.id, _pricing(config), lambda pid: procfs.facts(pid).parent_pid,
                                  SensorFactors(config.calibration), own_pricing=_pricing(config))
        self._clock = SystemClock()
        self._probe = probe
        self._measures = False

    @property
    def simulated(self) -> bool:
        return self.meter.reading is not None and self.meter.reading.simulated

    def prepare(self, gpus: Sequence[str], visible: str | None) -> None:
        """The look before the command. Without one it will run unmeasured. Raises UsageError for a GPU that is not there."""
        try:
            self._probe.start()
            first = self._probe.read() if self._probe.wait_open(PATIENCE_NS) else None
        except FinOpsError as error:
            self.notes.append(str(error))
            return
        if first is None:
            self.notes.append("the driver did not answer in time; look at dmesg for NVRM or Xid lines")
            return
        if not first.devices:
            self.notes.append("the driver shows no GPU")
        self._measures = True
        self.chosen = named_gpus(gpus, first.devices) if gpus else visible_gpus(visible, first.devices)
        if self.chosen == frozenset() and first.devices:
            self.notes.append(f"{CUDA_VARIABLE} shows the command no GPU")
        self._edge(first)

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run it to its end; its status. Raises CannotStart."""
        started_ns = self._clock.boottime_ns()
        child = Child(command, environ)
        self.meter.started(child.pid, started_ns)
        try:
            self._follow(child, started_ns)
        finally:
            while not child.wait(NS_PER_S):              # whatever becomes of measuring
                continue
            child.close()
        self.meter.close_window()
        self.notes += [f"{uuid} did not answer: {why}" for uuid, why in self.meter.failed.items() if self._counts(uuid)]
        left = self.meter.still_there()
        if left:
            self.notes.append(f"processes of the command that are still on a GPU: {left}; "
                              "what they use from now on is not in the figure")
        return child.status or 0

    def _follow(self, child: Child, started_ns: int) -> None:
        while not child.wait(_pause_ns(self._clock.boottime_ns() - started_ns)):
            reading = self._read()
            if reading is not None:
                self.meter.advance(reading)
        ended_ns = self._clock.boottime_ns()
        self.duration_ns = ended_ns - started_ns
        self.meter.ended(ended_ns)
        last = self._read()
        if last is not None:
            self._edge(last)
        elif self._measures:
            self.notes.append("the driver did not answer at the command's end: energy is known up to its last answer only")

    def close(self) -> None:
        self._probe.close()

    def _counts(self, uuid: str) -> bool:
        return self.chosen is None or uuid in self.chosen

    def _read(self) -> Reading | None:
        """None where there is no answer now: the next one makes up for it."""
        if not self._measures:
            return None
        try:
            return self._probe.read()
        except FinOpsError as error:                     # the source is at its end; the command is not
            self.notes.append(str(error))
            self._measures = False
            return None

    def _edge(self, reading: Reading) -> None:
        """Go on reading until the counters have moved once more, so that what they show begins with the command, and holds
        its last moments."""
        self.meter.advance(reading)
        waiting = {device.uuid: device.energy_mj for device in reading.devices
                   if device.energy_mj is not None and self._counts(device.uuid)}
        until_ns = self._clock.monotonic_ns() + EDGE_NS
        pause = WakePipe()
        try:
            while waiting and self._clock.monotonic_ns() < until_ns:
                pause.wait(LOOK_NS)
                later = self._read()
                if later is None:
                    return
                self.meter.advance(later)
                shown = {device.uuid: device.energy_mj for device in later.devices}
                waiting = {uuid: energy_mj for uuid, energy_mj in waiting.items() if shown.get(uuid) == energy_mj}
        finally:
            pause.close()


def _pause_ns(age_ns: int) -> int:
    return min(NS_PER_S, max(SHORTEST_NS, age_ns // PACE))


def _pricing(config: Config) -> Pricing:
    """Prices as the daemon's. The site's energy so far, which tiers ask for, is the ledger's where this user may read it."""
    def site_energy_mj(since_ns: int) -> int:
        try:
            with contextlib.closing(LedgerReader(config.state_dir)) as reader:
                rows = reader.usage(since_ns, None, (), config.tags.keys, ZoneInfo(config.timezone))
        except LedgerError:
            return 0
        return sum(row.energy_mj for row in rows)

    return Pricing(config.tariff, config.site.tariff or "", config.site.pue, config.hardware, config.carbon, {},
                   config.used_mj(site_energy_mj))


class _Output:
    """The file for the figures: opened before the command starts, so that a place that cannot be written is told then; what
    stands there stays until there are figures."""

    def __init__(self, path: Path) -> None:
        """Raises FinOpsError."""
        self._path = path
        self._made = not os.path.lexists(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK    # nobody may read a pipe
        try:
            self._descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise FinOpsError(f"{path}: cannot be written ({error.strerror}); choose another file with --json") from error

    def write(self, text: str) -> None:
        """The command has run, and its status counts: figures that cannot be written are only told."""
        try:
            with contextlib.suppress(OSError):           # a pipe or a device has no length
                os.ftruncate(self._descriptor, 0)
            os.set_blocking(self._descriptor, True)
            with os.fdopen(self._descriptor, "w", encoding="utf-8", errors="replace") as out:
                out.write(text)
        except OSError as error:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{LABEL}{self._path}: the figures cannot be written ({error.strerror})\n")

    def drop(self) -> None:
        """The command was not run: an empty file would say nothing."""
        os.close(self._descriptor)
        if self._made:
            self._path.unlink(missing_ok=True)
