"""A process of its own that holds the double through the real pynvml and evaluates what the test asks.

The double is never loaded into the test's process: its state would leak from test to test, and a hang would be ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.driver.scenario import Scenario, driver_environ

SERVED = '''
import json, os, sys
import pynvml as n
scope = {"n": n, "os": os}
def use(path):
    while True:
        try:
            n.nvmlShutdown()
        except n.NVMLError:
            break
    os.environ["NVML_DOUBLE_SCENARIO"] = path
    n.nvmlInit()
scope["use"] = use
for line in sys.stdin:
    try:
        answer = {"value": eval(json.loads(line), scope)}
    except n.NVMLError as error:
        answer = {"nvml": error.value}
    except Exception as error:
        answer = {"python": repr(error)}
    print(json.dumps(answer), flush=True)
'''


class NvmlFailed(Exception):
    """pynvml raised NVMLError in the client."""

    def __init__(self, code: int) -> None:
        super().__init__(f"NVML error {code}")
        self.code = code


class Client:
    """Evaluates expressions in a fresh Python: ``n`` is pynvml, ``use(path)`` opens the driver on another scenario."""

    def __init__(self, scenario: Path) -> None:
        environ = {**os.environ, **driver_environ(scenario)}
        self.process = subprocess.Popen([sys.executable, "-c", SERVED], env=environ, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def start(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(expression) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client ended: {self.process.stderr.read()}")
        answer = json.loads(line)
        assert "python" not in answer, answer["python"]
        if "nvml" in answer:
            raise NvmlFailed(answer["nvml"])
        return answer["value"]

    def __call__(self, expression: str) -> Any:
        self.start(expression)
        return self.answer()

    def error(self, expression: str) -> int:
        """The NVML error code that ``expression`` ends in; 0 when it does not."""
        try:
            self(expression)
        except NvmlFailed as failed:
            return failed.code
        return 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(timeout=10)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


class World:
    """One test's driver: a client, the scenario in force, and the path it is in."""

    def __init__(self, client: Client, path: Path) -> None:
        self.client = client
        self.path = path

    def use(self, scenario: Scenario) -> None:
        """Opens the driver anew on ``scenario``."""
        scenario.write(self.path)
        self.client(f"use({str(self.path)!r})")

    def ask(self, function: str, *arguments: str, device: int = 0) -> Any:
        """``nvmlDevice`` + ``function`` of the device at an index, as the expression's value."""
        return self.client(self._call(function, arguments, device))

    def error(self, function: str, *arguments: str, device: int = 0) -> int:
        return self.client.error(self._call(function, arguments, device))

    @staticmethod
    def _call(function: str, arguments: tuple[str, ...], device: int) -> str:
        inner = ", ".join((f"n.nvmlDeviceGetHandleByIndex({device})", *arguments))
        return f"n.nvmlDevice{function}({inner})"
