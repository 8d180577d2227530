"""``gpu-finops exec`` against the test driver: true energy and money of one command, its status, its signals, its tags."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.exec.report import LABEL
from tests.driver.scenario import Constant, Device, Fault, Instance, Process, Scenario, Square, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, killed, until
from tests.e2e.test_daemon import CONFIG

GPU = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
GPU_B = "GPU-bbbbbbbb-0000-0000-0000-000000000000"
PLACE = 4_100_000                    # stands in a scenario for the PID that the command will have
UPDATE_S = 0.1                       # of the double's counter
# Shows itself to the driver as PLACE of another scenario, and tells from when to when it ran.
SHOWS_ITSELF = """
import os, sys, threading, time
scenario, seconds = sys.argv[1], float(sys.argv[2])
if scenario:
    with open(scenario + ".next") as file:
        text = file.read().replace("process PLACE\\n", f"process {os.getpid()}\\n")
    with open(scenario + ".draft", "w") as file:
        file.write(text)
    os.rename(scenario + ".draft", scenario)
begun = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
threading.Event().wait(seconds)
print(begun, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
""".replace("PLACE", str(PLACE))


class Bench:
    """A driver double, and the program run on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.scenario = directory / "scenario"
        self.config = directory / "gpu-finops.toml"
        self.config.write_text(CONFIG)
        self.epoch_ns = boottime_ns() - 100 * 10**9

    def show(self, *devices: Device, then: Sequence[Device] = ()) -> Scenario:
        """``then``: what the command turns it into, with itself in the place of PLACE."""
        shown = Scenario(devices=devices, epoch_ns=self.epoch_ns)
        Scenario(devices=then or devices, epoch_ns=self.epoch_ns).write(self.directory / "scenario.next")
        shown.write(self.scenario)
        return shown

    @property
    def environ(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("FINOPS_", "CUDA_"))}
        return environ | driver_environ(self.scenario)

    def arguments(self, *options: str, command: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "agent", "exec", "--project", "kronos", "--config.file", str(self.config),
                "--json", str(self.directory / "used.json"), *options, "--", *command]

    def run(self, *options: str, command: Sequence[str], environ: Mapping[str, str] | None = None,
            ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.arguments(*options, command=command), env=self.environ | dict(environ or {}),
                              capture_output=True, text=True, timeout=60, check=False)

    @property
    def used(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.directory / "used.json").read_text(), parse_float=Decimal)
        return document

    def busy(self, seconds: float, shown: bool = True) -> list[str]:
        return [sys.executable, "-c", SHOWS_ITSELF, str(self.scenario) if shown else "", str(seconds)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    with killed(["sleep", "infinity"], {name: os.environ[name] for name in ("PATH",)}) as process:
        yield process


def bounds(scenario: Scenario, done: subprocess.CompletedProcess[str], used: Mapping[str, Any], peak_w: float,
           ) -> tuple[float, float]:
    """Joules between which the truth and one update of the counter lie, and as much again for a busy machine. The command
    tells from when to when it surely ran; it took the rest of its duration to start and to end. Nothing of it is left out."""
    begun_ns, ended_ns = map(int, done.stdout.split())
    sure_j = scenario.true_energy_mj(GPU, begun_ns, ended_ns) / 1000
    unsure_s = float(used["duration_seconds"]) - (ended_ns - begun_ns) / 1e9
    return sure_j - 0.001, sure_j + peak_w * (unsure_s + 2 * UPDATE_S)


@pytest.mark.parametrize("seconds", [0.15, 0.4, 1.6])
def test_the_energy_is_the_true_one_within_an_update_of_the_counter(bench: Bench, seconds: float) -> None:
    power = Constant(100) + Square(0, 500, period_s=0.37, duty=0.3)
    scenario = bench.show(Device(GPU, power=power), then=[Device(GPU, power=power, processes=[Process(PLACE, Constant(90))])])
    done = bench.run("--team", "quant", command=bench.busy(seconds))
    assert done.returncode == 0, done.stderr
    used = bench.used
    assert (used["certainty"], used["tags"]) == ("measured", {"project": "kronos", "team": "quant"})
    low_j, high_j = bounds(scenario, done, used, 600)
    assert low_j <= used["energy_joules"] <= high_j
    costs = {cost["component"]: cost["cost"] for cost in used["costs"]}
    assert float(costs["energy"]) == pytest.approx(float(used["energy_joules"]) / 3.6e6 * 0.96 * 1.5, abs=2e-9)
    assert float(costs["hardware"]) == pytest.approx(float(used["duration_seconds"]) / 3600 * 225_000 / 35_040, abs=2e-9)
    assert f"energy {used['energy_joules']:,} J" in done.stderr
    assert "by counter" in done.stderr


@pytest.mark.parametrize("method", ["samples", "trapezoid_instant", "trapezoid"])
def test_without_a_counter_power_is_measured_and_the_method_named(bench: Bench, method: str) -> None:
    changes: dict[str, Any] = {"counter": None, "power": Constant(300)}
    changes |= {"samples": {}, "trapezoid_instant": {"samples": None}, "trapezoid": {
        "samples": None, "instant_power": False}}[method]
    bench.show(Device(GPU, **changes), then=[Device(GPU, processes=[Process(PLACE, Constant(90))], **changes)])
    done = bench.run(command=bench.busy(1.5))
    used = bench.used
    assert used["devices"][0]["energy_methods"] == [method]
    assert float(used["energy_joules"]) == pytest.approx(300 * float(used["duration_seconds"]), rel=0.2)
    assert ("the figure is rough" in done.stderr) == method.startswith("trapezoid")


def test_others_on_the_gpu_are_told_and_the_energy_split(bench: Bench, neighbour: subprocess.Popen[bytes]) -> None:
    other = Process(neighbour.pid, Constant(60))
    bench.show(Device(GPU, power=Constant(400), processes=[other]),
               then=[Device(GPU, power=Constant(400), processes=[other, Process(PLACE, Constant(20))])])
    done = bench.run(command=bench.busy(5))
    used = bench.used
    (device,) = used["devices"]
    assert (used["certainty"], device["other_processes"], device["split_methods"]) == ("split", 1, ["sampled"])
    assert 0.15 <= used["energy_joules"] / device["device_energy_joules"] <= 0.25
    assert "other processes on it: 1" in done.stderr


def test_a_command_that_nobody_saw_is_given_an_upper_bound_unless_a_gpu_was_held_for_it(bench: Bench) -> None:
    bench.show(Device(GPU, power=Constant(400)), Device(GPU_B, power=Constant(100)))
    done = bench.run(command=["sleep", "0.2"])
    assert bench.used["certainty"] == "upper bound"
    assert "energy at most" in done.stderr
    assert len(bench.used["devices"]) == 2
    for options, environ in ((["--gpu", "1"], {}), ([], {"CUDA_VISIBLE_DEVICES": "1"}), (["--gpu", GPU_B[:8]], {})):
        done = bench.run(*options, command=["sleep", "0.2"], environ=environ)
        used = bench.used
        assert (used["certainty"], [device["uuid"] for device in used["devices"]]) == ("measured", [GPU_B])
        assert float(used["energy_joules"]) == pytest.approx(100 * float(used["duration_seconds"]), abs=100 * UPDATE_S + 1)
    bench.run(command=["sleep", "0.2"], environ={"CUDA_VISIBLE_DEVICES": ""})
    assert bench.used["certainty"] == "none"
    assert bench.used["energy_joules"] is None


def test_only_the_gpus_that_the_command_was_seen_on_count(bench: Bench) -> None:
    bench.show(Device(GPU, power=Constant(400)), Device(GPU_B, power=Constant(100)),
               then=[Device(GPU, power=Constant(400)), Device(GPU_B, power=Constant(100), processes=[Process(PLACE)])])
    bench.run(command=bench.busy(0.5))
    assert [device["uuid"] for device in bench.used["devices"]] == [GPU_B]


def test_in_a_mig_instance_the_command_has_its_part_of_the_parent(bench: Bench) -> None:
    half = Instance("MIG-a", gpu_instance=1, gpu_slices=3, compute_slices=3)
    other = Instance("MIG-b", gpu_instance=2, gpu_slices=3, compute_slices=3)
    divided = {"power": Constant(400), "mig": True, "instances": [half, other]}
    mine = Process(PLACE, Constant(90), gpu_instance=1, compute_instance=0)
    bench.show(Device(GPU, **divided), then=[Device(GPU, processes=[mine], **divided)])
    bench.run(command=bench.busy(3), environ={"CUDA_VISIBLE_DEVICES": "MIG-a"})
    (device,) = bench.used["devices"]
    assert (bench.used["certainty"], device["split_methods"]) == ("split", ["mig"])
    # How much of it is the device's own idle power is learned from the moment before the command, if there is one.
    assert 0 < bench.used["energy_joules"] <= device["device_energy_joules"]


@pytest.mark.parametrize("fault", [Fault("nvmlDeviceGetPowerUsage", hang=True), Fault("*", error=999)])
def test_a_driver_that_hangs_or_fails_in_mid_run_changes_nothing_for_the_command(bench: Bench, fault: Fault) -> None:
    bench.show(Device(GPU, power=Constant(400)))
    Scenario(devices=[Device(GPU, power=Constant(400))], faults=[fault], epoch_ns=bench.epoch_ns).write(
        bench.directory / "scenario.next")
    done = bench.run("--gpu", "0", command=[*bench.busy(2.5), "and", "more"])
    assert done.returncode == 0
    assert len(done.stdout.split()) == 2
    assert "Traceback" not in done.stderr
    assert f"exit status 0\n{LABEL}" in done.stderr
    assert "did not answer" in done.stderr


def test_children_belong_to_the_command_and_those_left_behind_are_told(bench: Bench) -> None:
    bench.show(Device(GPU, power=Constant(400)),
               then=[Device(GPU, power=Constant(400), processes=[Process(PLACE, Constant(90))])])
    script = 'setsid "$@" >/dev/null 2>&1 & exec sleep 1'
    command = ["sh", "-c", script, "sh", *bench.busy(20)]
    done = bench.run(command=command)
    try:
        assert bench.used["certainty"] == "measured"
        assert "processes of the command that are still on a GPU: 1" in done.stderr
    finally:
        for line in bench.scenario.read_text().splitlines():
            if line.startswith("process "):
                os.kill(int(line.split()[1]), signal.SIGKILL)


def test_a_daemon_beside_it_books_the_command_under_its_tags(bench: Bench) -> None:
    bench.show(Device(GPU, power=Constant(400)),
               then=[Device(GPU, power=Constant(400), processes=[Process(PLACE, Constant(90))])])
    daemon = Daemon(bench.directory / "agent", source="nvml", config=CONFIG, environ=driver_environ(bench.scenario))
    arguments = bench.arguments("--team", "quant", "--model", "m", "--model-version", "1.0", command=bench.busy(60))
    with daemon, killed(arguments, bench.environ | {"FINOPS_TEAM": "other"}) as process:
        tags = {"project": "kronos", "team": "quant", "model": "m", "model_version": "1.0"}
        until(lambda: any(name == "finops_workload_energy_joules_total" and tags.items() <= dict(labels).items() and value > 0
                          for (name, labels), value in daemon.series().items()), "the command's energy")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_status_is_the_commands_with_and_without_a_driver(bench: Bench, script: str, status: int) -> None:
    bench.show(Device(GPU))
    assert bench.run("--gpu", "0", command=["sh", "-c", script]).returncode == status
    unmeasured = bench.run(command=["sh", "-c", script], environ={"NVML_DOUBLE_SCENARIO": ""})
    assert unmeasured.returncode == status
    assert "no GPU energy was measured" in unmeasured.stderr
    assert "driver" in unmeasured.stderr
    assert (bench.used["certainty"], bench.used["energy_joules"], bench.used["devices"]) == ("none", None, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_go_on_to_the_command(bench: Bench, number: signal.Signals) -> None:
    bench.show(Device(GPU))
    script = f"trap 'echo got; exit 9' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    # Where the tests are run under nohup, a signal is ignored from the start, and no shell can trap it.
    command = ["env", f"--default-signal={number.name}", *bench.arguments("--gpu", "0", command=["bash", "-c", script])]
    process = subprocess.Popen(command, env=bench.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("got\n", 9)
    assert "exit status 9" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tag", "colour=red"], "--tag colour: 'colour' is not one of tags.keys (project, team, model, model_version); "),
        (["--tag", "colour"], "--tag colour: has no '='; write it as --tag KEY=VALUE"),
        (["--team", "a", "--tag", "team=b"], "--tag team: 'team' is given twice; give it once"),
        (["--model", " "], "--model: is empty; give a name"),
        (["--project", "__idle__"], "--project __idle__: is a reserved name; choose another project"),
        (["--gpu", "7"], f"--gpu 7: names none of the GPUs here; choose from 0 ({GPU})"),
        (["--source", "replay"], "--source replay: a recording cannot measure a command; leave --source out"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_the_command_is_not_started(bench: Bench, options: list[str], said: str) -> None:
    bench.show(Device(GPU))
    done = bench.run(*options, command=["touch", str(bench.directory / "started")])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"gpu-finops: {said}")
    assert done.stderr.count("\n") == 1
    assert not (bench.directory / "started").exists()


def test_a_program_that_is_not_there_or_is_none(bench: Bench) -> None:
    bench.show(Device(GPU))
    missing = bench.run(command=["no-such-program-anywhere"])
    assert missing.returncode == 127
    assert missing.stderr == ("gpu-finops: no-such-program-anywhere: cannot be started (No such file or directory); "
                              "give a program on the PATH, or its path\n")
    assert bench.run(command=[str(bench.config)]).returncode == 126


def test_a_document_that_cannot_be_written_is_said_before_the_start(bench: Bench) -> None:
    bench.show(Device(GPU))
    done = bench.run("--json", "/nonexistent/used.json", command=["touch", str(bench.directory / "started")])
    assert done.returncode == 1
    assert "/nonexistent/used.json: cannot be written (No such file or directory); choose another file" in done.stderr
    assert not (bench.directory / "started").exists()
