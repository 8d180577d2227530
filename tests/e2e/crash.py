"""kill -9 at random moments while a scraper watches: what was shown is never taken back, and nothing is lost or doubled.

The simulated devices' energy counter goes on through restarts. The ledger keeps, in one transaction, where each counter stood
and what was booked of it: their difference is a constant from the first commit on, to the millijoule, whatever was killed.
Money is the rows' energy at one of two prices, of which one is negative, to the last fraction of a nano-unit; hardware cost is
device time at its price, and device time is as long as the states.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import random
import sqlite3
import threading
from fractions import Fraction
from pathlib import Path

import msgspec

from agent.energy.metering import MeterState
from agent.ledger.file import FILE_NAME
from agent.ledger.query import open_for_reading
from agent.ledger.verify import verify
from tests.e2e.daemon import Daemon, Series, until

PRICES = ("1000.3", "-400.7")                    # a MWh, in turns of 5 s
PRICES_ATTO = {"1000300000000000000", "-400700000000000000"}      # a kWh, as a row of the ledger has it
TURN_S = 5
TURNS = 6 * 3_600 // TURN_S
CONFIG = """
interval = "100ms"
flush_interval = "100ms"
[site]
tariff = "spot"
[tariff.spot]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { spot = { csv = "spot.csv", unit = "CNY/MWh", missing = "last" } }
rule = [{ rate = "spot" }]
[[hardware]]
gpu = "*"
price = 35040
years = 4
"""
ENERGY_DENOMINATOR = 3_600_000_000 * 10**9       # mJ x atto-units/kWh in a nano-unit
TIME_DENOMINATOR = 3_600 * 10**9 * 10**6         # ns x femto-units/h in one
HARDWARE_FEMTO = 10**15                          # 1 an hour


class Watcher:
    """A scraper that never rests. ``highest`` is each counter's highest value; ``fallen`` what was ever seen lower, or was
    missing from a later scrape.

    The product drops one kind of counter, and that is no fault: the series of a workload that has had no row in the ledger
    for 30 days (``agent.app.LISTED_NS``). No crash test is that long. Counters of the process (``finops_agent_...``) and of
    the host since its boot (``finops_host_...``) are not the ledger's, and not watched.
    """

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
        if len(counters) < len(self.highest):
            self.fallen += [f"{key}: missing, after {self.highest[key]}" for key in self.highest.keys() - counters.keys()]


class Crashes:
    """Kills one daemon after another on the same state directory."""

    def __init__(self, directory: Path, devices: int, seed: int) -> None:
        self._random = random.Random(seed)
        directory.mkdir(exist_ok=True)
        now = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
        (directory / "spot.csv").write_text("start,price\n" + "".join(
            f"{(now + dt.timedelta(seconds=TURN_S * n)).isoformat(timespec='seconds')},{PRICES[n % 2]}\n"
            for n in range(TURNS)))
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
            return faults + _money_faults(db)


def _money_faults(db: sqlite3.Connection) -> list[str]:
    """Money by the prices of this file's configuration, and time. The file is at rest: one state for all questions."""
    booked = {(uuid, workload, component): (nano, carry) for uuid, workload, component, nano, carry in db.execute(
        "SELECT uuid, workload, component, cost_nano - credit_nano, carry FROM cost_total")}
    exact: dict[tuple[str, int, str], int] = {}
    faults, used_ns = [], {}
    for uuid, workload, price, energy_mj in db.execute(
            "SELECT uuid, workload, price, SUM(energy_mj) FROM usage WHERE component = 'energy' "
            "GROUP BY uuid, workload, price"):
        key = (uuid, workload, "energy")
        exact[key] = exact.get(key, 0) + energy_mj * int(price)
        if price not in PRICES_ATTO:
            faults.append(f"{key}: {energy_mj} mJ at {price}")
    for uuid, workload, gpu_ns in db.execute("SELECT uuid, workload, gpu_ns FROM workload_total"):
        exact[uuid, workload, "hardware"] = gpu_ns * HARDWARE_FEMTO
        used_ns[uuid] = used_ns.get(uuid, 0) + gpu_ns
    for key, amount in exact.items():
        nano, carry = booked.get(key, (0, 0))
        denominator = ENERGY_DENOMINATOR if key[2] == "energy" else TIME_DENOMINATOR
        if nano * denominator + carry != amount:
            faults.append(f"{key}: {float(Fraction(amount - carry, denominator) - nano)} nano-units lost")
    for uuid, state_ns in db.execute("SELECT uuid, SUM(duration_ns) FROM device_state GROUP BY uuid"):
        if state_ns != used_ns.get(uuid, 0):
            faults.append(f"{uuid}: {state_ns - used_ns.get(uuid, 0)} ns of device time lost")
    return faults


def ticks(state: Path) -> int:
    """How many ticks the ledger has acknowledged, over all lives."""
    with contextlib.closing(sqlite3.connect(state / FILE_NAME)) as db:
        return int(db.execute("SELECT SUM(sequence + 1) FROM session").fetchone()[0])
