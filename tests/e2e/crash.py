"""kill -9 at random moments while a scraper watches: what was shown is never taken back, and no energy is lost or doubled.

The simulated devices' energy counter goes on through restarts. The ledger keeps, in one transaction, where each counter stood
and what was booked of it: their difference is a constant from the first commit on, to the millijoule, whatever was killed.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import sqlite3
import threading
from pathlib import Path

import msgspec

from agent.energy.metering import MeterState
from agent.ledger.file import FILE_NAME
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from tests.e2e.daemon import Daemon, Series, until

CONFIG = """
interval = "100ms"
flush_interval = "100ms"
[site]
tariff = "flat"
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 1.0 }
rule = [{ rate = "all" }]
"""


class Watcher:
    """A scraper that never rests. ``highest`` is each counter's highest value; ``fallen`` what was ever seen lower."""

    def __init__(self) -> None:
        self.highest: Series = {}
        self.fallen: list[str] = []
        self.scrapes = 0

    def watch(self, daemon: Daemon, stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.see(daemon.counters())
            stop.wait(0.01)

    def see(self, counters: Series) -> None:
        self.scrapes += 1
        for key, value in counters.items():
            if value < self.highest.get(key, 0.0):
                self.fallen.append(f"{key}: {value} after {self.highest[key]}")
            else:
                self.highest[key] = value


class Crashes:
    """Kills one daemon after another on the same state directory."""

    def __init__(self, directory: Path, devices: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._daemon = Daemon(directory, "--simulated.devices", str(devices), config=CONFIG)
        self._offsets_mj: dict[str, int] = {}
        self.watcher = Watcher()
        self.kills = 0
        self.wrong: list[str] = []

    def crash(self, longest_s: float, whole: bool) -> None:
        """One life: up to ``longest_s`` after its first cost was served, or killed while it starts. ``whole`` recomputes
        every total afterwards."""
        daemon, stop = self._daemon, threading.Event()
        daemon.start()
        scraper = threading.Thread(target=self.watcher.watch, args=(daemon, stop))
        scraper.start()
        try:
            if self.kills == 0 or self._random.random() < 0.9:
                until(daemon.first_cost, "the first cost to be served")
            stop.wait(self._random.uniform(0, longest_s))
        finally:
            daemon.kill()
            stop.set()
            scraper.join()
        self.kills += 1
        self.wrong += self._faults(daemon.state, whole)

    def finish(self) -> None:
        """A last start: everything that was ever shown is there, and nothing was set aside."""
        with self._daemon as daemon:
            self.watcher.see(daemon.counters())
        self.wrong += [path.name for path in self._daemon.state.glob("*.corrupt-*")]
        self.wrong += self._faults(self._daemon.state, whole=True)

    def _faults(self, state: Path, whole: bool) -> list[str]:
        with contextlib.closing(open_for_reading(state)) as db:
            faults = verify(db) if whole else []
            for uuid, booked_mj, meter in db.execute("SELECT uuid, energy_mj, meter FROM device"):
                standing = msgspec.json.decode(meter, type=MeterState)
                offset_mj = (standing.energy_mj or 0) + standing.lent_mj - booked_mj
                known_mj = self._offsets_mj.setdefault(uuid, offset_mj)
                if offset_mj != known_mj:
                    faults.append(f"{uuid}: {offset_mj - known_mj} mJ lost (or doubled, if negative)")
        return faults


def ticks(state: Path) -> int:
    """How many ticks the ledger has acknowledged, over all lives."""
    with contextlib.closing(sqlite3.connect(state / FILE_NAME)) as db:
        return int(db.execute("SELECT SUM(sequence + 1) FROM session").fetchone()[0])
