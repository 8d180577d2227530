"""The composition root: builds every part from the configuration, runs the loop, ends in order. Nothing imports it but the
``run`` command."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from agent.api.focus import FocusApi
from agent.api.usage import UsageApi
from agent.attribution.attribution import Attribution
from agent.budgets import BudgetBook
from agent.client.running_daemon import RELEASE, RESUME
from agent.clock import Clock, SystemClock
from agent.config.config import Config, load
from agent.energy.sensor_factor import SensorFactors
from agent.errors import ConfigError, LedgerError, SourceEnded
from agent.files.inputs import read_input
from agent.idle import IdleJudge
from agent.jobs import Jobs
from agent.ledger.ledger import Ledger
from agent.model import Snapshot, Workload
from agent.notify import ServiceNotifier
from agent.pipeline import Pipeline, Stages
from agent.pricing.pricing import Pricing
from agent.probe import Probe
from agent.tags.resolver import WorkloadResolver
from agent.units import NS_PER_HOUR, NS_PER_S
from agent.upkeep import LedgerUpkeep
from agent.wake import WakePipe
from exporters import EXPORTERS
from exporters.base import Exporter, Hooks

log = logging.getLogger(__name__)

BUDGET_SECONDS = 15
ALIVE_NS = 10 * NS_PER_S             # feeds the watchdog in a long interval too
FILES_SECONDS = 60
RETIRE_SECONDS = 60 * 60
LISTED_NS = 30 * 24 * NS_PER_HOUR    # so long after its last use a workload has series, and a place under tags.max_workloads


class App:
    """The daemon. ``run`` returns the exit status; everything it holds is released then."""

    def __init__(self, config_file: Path | None, overrides: Mapping[str, Any],
                 source_of: Callable[[Config], tuple[str, Mapping[str, Any]]]) -> None:
        """``source_of`` names the source and its options for a configuration. Raises the first fault as a FinOpsError:
        configuration, state directory, port."""
        self._clock: Clock = SystemClock()
        self._overrides = overrides
        self.config: Config = load(config_file, overrides, now_ns=self._clock.utc_ns())
        source, options = source_of(self.config)               # what is wrong with it is said before a ledger is touched
        self._config_file = config_file or self.config.file    # gone at a reload, it is a fault; the next place is not taken
        self._wake = WakePipe()
        self._stopping = False
        self._reload_asked = False
        self._hold_asked: int | None = None
        self._latest: Snapshot | None = None
        self._notifier = ServiceNotifier(os.environ)
        self._heed_signals()
        self._ledger = Ledger(self.config.state_dir, self._clock.utc_ns(),
                              pause=lambda seconds: self._wake.wait(int(seconds * NS_PER_S)))
        self._corrections = self._ledger.corrections
        attribution, stages = self._build(self.config, None)
        self._attribution = attribution
        self._pipeline = Pipeline(stages, self._ledger, self._clock, self.config.flush_interval_ns)
        self._probe = Probe(source, options, self._clock)
        self._jobs = Jobs(self._wake.wake)
        self._upkeep = LedgerUpkeep(self._ledger, self._jobs, self._clock, lambda: (self.config.timezone, self.config.ledger),
                                    self.ask_reload)
        hooks = Hooks(reload=self.ask_reload, ready=self.ready,
                      usage=UsageApi(self.config.state_dir, self.config.tags.keys, lambda: self.config.timezone,
                                     lambda: self.config.idle.policy),
                      focus=FocusApi(lambda: self.config, self._clock))
        self._exporters: list[Exporter] = [make(self.config.web, hooks) for make in EXPORTERS.values()]
        self._publish(self._pipeline.snapshot(stale=True))

    def _build(self, config: Config, previous: Stages | None) -> tuple[Attribution, Stages]:
        """The stages that a configuration asks for. A reload keeps what was learned: facts, carries, known workloads."""
        resolver = WorkloadResolver(config.tags, known=self._recent_workloads())
        if previous is not None:
            resolver.overflowed = previous.resolver.overflowed
        attribution = Attribution(resolver.resolve, config.tags.keys, self._ledger.calibrations())
        idle = IdleJudge(config.idle)
        if previous is not None:
            attribution.remember(previous.attribution)
            idle.remember(previous.idle)
        carries = previous.pricing.carries if previous is not None else self._ledger.carries()
        pricing = Pricing(config.tariff, config.site.tariff or "", config.site.pue, config.hardware,
                          config.carbon, carries, config.used_mj(self._site_energy_mj), config.host)
        budgets = BudgetBook(config.budgets, config.tags.keys, pricing.currency, config.timezone)
        now_ns = self._clock.utc_ns()
        budgets.restore(self._ledger.spend(*budgets.history_ns(now_ns)), now_ns)
        return attribution, Stages(
            site=config.site.name, interval_ns=config.interval_ns,
            tag_keys=config.tags.keys, resolver=resolver, attribution=attribution, pricing=pricing,
            idle=idle, budgets=budgets, calibration=SensorFactors(config.calibration))

    def _recent_workloads(self) -> list[Workload]:
        return self._ledger.workloads_since(self._clock.utc_ns() - LISTED_NS)

    def _retire_workloads(self) -> None:
        """The cap on workloads is on those of the last weeks: names that nobody uses any more make room."""
        with contextlib.suppress(LedgerError):       # a disk that refuses now is asked again in an hour
            self._pipeline.stages.resolver.retain(self._recent_workloads())

    def _site_energy_mj(self, since_ns: int) -> int:
        """What the tiers stand at when their period begins. A ledger that cannot be read then has nothing of it yet."""
        try:
            return self._ledger.site_energy_mj(since_ns)
        except LedgerError as error:
            log.warning("%s; the tariff's period begins at no energy", error)
            return 0

    def run(self) -> int:
        """Sample until told to stop, or until a finite source ends. Committed work is safe however this ends."""
        try:
            if not self._stopping:
                self._start()
                self._loop()
        finally:
            self._close()
        return 0

    def _heed_signals(self) -> None:
        """Before the ledger is opened: a signal then has its say at the end of that, and not within a statement of SQLite."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        for number in (RELEASE, RESUME):
            signal.signal(number, self._on_hold)
        signal.set_wakeup_fd(self._wake.writer, warn_on_full_buffer=False)

    def _start(self) -> None:
        self._probe.start()
        for exporter in self._exporters:
            exporter.start()
        self._ledger.answers_at(next((exporter.url for exporter in self._exporters if exporter.url), ""))
        self._jobs.every(BUDGET_SECONDS, self._pipeline.judge_budgets, "budgets")
        self._jobs.every(FILES_SECONDS, self._reload_if_changed, "files")
        self._upkeep.schedule()
        self._pipeline.judge_budgets()
        self._jobs.every(RETIRE_SECONDS, self._retire_workloads, "workloads")
        self._jobs.start()

    def _loop(self) -> None:
        due_ns = self._clock.monotonic_ns()
        first = True
        while not self._stopping:
            try:
                reading = self._probe.read()
            except SourceEnded as ended:
                log.info("%s", ended)
                return
            self._pipeline.probe_restarts = self._probe.restarts
            if reading is None:
                self._pipeline.missed(0 if self._probe.state == "released" else 1)
                self._pipeline.journal.flush_if_due(self._clock.monotonic_ns(), self._clock.utc_ns())
                self._publish(self._pipeline.snapshot(stale=True))
            else:
                self._publish(self._pipeline.tick(reading))
            if first:                    # a driver that hangs does not keep the service from starting: it serves
                self._notifier.ready()
                for exporter in self._exporters:
                    log.info("%s", exporter.told)
                first = False
            interval_ns = self.config.interval_ns
            due_ns = self._pause(due_ns + interval_ns, interval_ns)

    def _pause(self, due_ns: int, interval_ns: int) -> int:
        """Wait for the next tick, doing what is asked meanwhile; the time at which that tick was due. Ticks whose time
        has passed altogether are counted, not made up for."""
        late = (self._clock.monotonic_ns() - due_ns) // interval_ns
        if late > 0:
            self._pipeline.missed(late)
            due_ns += late * interval_ns
        while True:
            if self._jobs.watch_clock(self._clock.monotonic_ns(), self._clock.utc_ns()):
                log.warning("the wall clock stepped; intervals are measured on another clock, prices follow the new time")
            self._jobs.run_due()
            if self._reload_asked:
                self._reload_asked = False
                self.reload()
            if self._hold_asked is not None:
                self._hold(self._hold_asked)
                self._hold_asked = None
            self._notifier.alive()
            left_ns = due_ns - self._clock.monotonic_ns()
            if self._stopping or left_ns <= 0:
                return due_ns
            self._wake.wait(min(left_ns, ALIVE_NS))

    def _hold(self, number: int) -> None:
        """Let go of the driver, or take it up again. What the counter vouches for is booked after the resume."""
        if number == RELEASE:
            gone = self._probe.release()
            log.info("the driver is released" if gone else "a probe is stuck in the kernel and still holds the driver")
        else:
            self._probe.resume()
            log.info("the driver is taken up again")

    def reload(self) -> None:
        """Read the configuration again. A bad file changes nothing but the metric that says so."""
        self._notifier.reloading(self._clock.monotonic_ns())
        try:
            config = self._load_again()
        except ConfigError as error:
            log.error("configuration not reloaded, the old one stays:\n%s", error)
            self._pipeline.config_reload_success = False
        else:
            if config.tags.keys != self.config.tags.keys or config.state_dir != self.config.state_dir:
                log.warning("tags.keys and state_dir take effect at the next start only")
                config = config.keeping(self.config)
            if (config.web, config.flush_interval_ns) != (self.config.web, self.config.flush_interval_ns):
                log.warning("[web] and flush_interval take effect at the next start only; web.yml itself is read again at once")
            self._pipeline.journal.flush(self._clock.utc_ns())
            try:
                _, self._pipeline.stages = self._build(config, self._pipeline.stages)
            except LedgerError as error:
                log.error("configuration not reloaded, the old one stays: %s", error)
                self._pipeline.config_reload_success = False
                self._notifier.ready()
                return
            self.config = config
            self._pipeline.config_reload_success = True
            self._pipeline.judge_budgets()
            log.info("configuration reloaded")
        self._notifier.ready()

    def _load_again(self) -> Config:
        config = load(self._config_file, self._overrides, now_ns=self._clock.utc_ns())
        if config.file is not None and self.config.tariff is not None and _is_blank(config.file):
            raise ConfigError([f"{config.file}:1: file: is empty, and the configuration that runs has a tariff; "
                               "write it again, or restart to go on without prices"])
        return config

    def _reload_if_changed(self) -> None:
        """Tariff and carbon files are replaced by others' jobs (a day-ahead download): take them up without a signal."""
        if self.config.data_files_changed():
            log.info("a price or carbon file has changed")
            self.reload()

        elif self._ledger.corrections != self._corrections:
            log.info("past costs were rated again")
            self._corrections = self._ledger.corrections
            self.reload()

    def ask_reload(self) -> None:
        """Have the loop reload. From any thread."""
        self._reload_asked = True
        self._wake.wake()

    def ready(self) -> bool:
        """Whether costs are being served: the last reading is fresh. From any thread."""
        return self._latest is not None and not self._latest.stale

    def _publish(self, snapshot: Snapshot) -> None:
        self._latest = snapshot
        for exporter in self._exporters:
            exporter.publish(snapshot)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_asked = True

    def _on_hold(self, number: int, frame: FrameType | None) -> None:
        self._hold_asked = number

    def _close(self) -> None:
        self._notifier.stopping()
        self._upkeep.stop()
        self._jobs.close()
        self._probe.close()
        if not self._pipeline.journal.flush(self._clock.utc_ns()):
            log.error("%d ticks could not be committed before the end", self._pipeline.journal.queued_ticks)
        for exporter in self._exporters:
            exporter.close()
        self._ledger.close()
        self._notifier.close()
        signal.set_wakeup_fd(-1)
        self._wake.close()


def _is_blank(file: Path) -> bool:
    """Whether a file that has just been read, and was good, has nothing in it."""
    try:
        return not read_input(file).strip()
    except OSError:                              # gone meanwhile: what was read stands
        return False
