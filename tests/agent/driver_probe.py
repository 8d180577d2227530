"""The real probe process on the driver double, as tests of the probe and of the NVML source hold it."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Clock, SystemClock
from agent.model import DeviceReading, Reading
from agent.probe import Probe
from agent.units import NS_PER_S
from tests.driver.scenario import ClockFile, Device, Fault, Scenario, driver_environ

EVENTUALLY_S = 30.0


class Driver:
    """A driver double whose scenario and clock the test changes, and the probes that look at it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scenario = folder / "scenario"
        self.clock = ClockFile(folder / "clock", start_ns=100 * NS_PER_S)
        self.sysfs = folder / "sys"
        self.sysfs.mkdir()
        self._probes: list[Probe] = []
        for name, value in driver_environ(self.scenario).items():
            monkeypatch.setenv(name, value)

    def show(self, *devices: Device, faults: tuple[Fault, ...] = (), **more: Any) -> Scenario:
        scenario = Scenario(devices=devices, faults=faults, clock=self.clock, **more)
        scenario.write(self.scenario)
        return scenario

    def probe(self, clock: Clock | None = None, deadline_s: float = 20, open_deadline_s: float = 20,
              **options: Any) -> Probe:
        """A probe, started. It looks for what has changed in every read, not once in five seconds."""
        probe = Probe("nvml", {"look_s": 0, "reconnect_s": 0, "sysfs": str(self.sysfs), **options}, clock or SystemClock(),
                      deadline_ns=int(deadline_s * NS_PER_S), open_deadline_ns=int(open_deadline_s * NS_PER_S))
        self._probes.append(probe)
        probe.start()
        return probe

    def close(self) -> None:
        for probe in self._probes:
            probe.close()


def look(probe: Probe) -> Reading:
    """A reading that has to be there."""
    reading = probe.read()
    assert reading is not None
    return reading


def devices(probe: Probe) -> dict[str, DeviceReading]:
    return {device.uuid: device for device in look(probe).devices}


def eventually(condition: Callable[[], object]) -> None:
    """Until it holds; fails where it does not."""
    deadline = threading.Event()
    for _ in range(int(EVENTUALLY_S / 0.01)):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError(f"did not come true within {EVENTUALLY_S:g} s")


def ends(pid: int) -> bool:
    """Whether a process ends, given time. One that is not there has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(int(EVENTUALLY_S * 1000)))
    finally:
        os.close(pidfd)


def descriptors(pid: int) -> dict[str, str]:
    """What a process holds open: number -> target."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):          # the descriptor that lists them, when it is our own
            found[path.name] = str(path.readlink())
    return found
