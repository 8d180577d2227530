"""Bad input: one clear sentence on stderr, the right exit status, nothing lost that was committed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.ledger.file import FILE_NAME
from tests.driver.scenario import Constant, Device, Fault, Scenario, boottime_ns, driver_environ
from tests.e2e.daemon import Daemon, free_port, until

GPU = "GPU-cccccccc-0000-0000-0000-000000000000"
REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER_NOT_LOADED, NO_PERMISSION, LIBRARY_MISMATCH = 9, 4, 18        # NVML_ERROR_* of nvml.h
PRICED = """
interval = "200ms"
flush_interval = "200ms"
[site]
tariff = "flat"
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 1.0 }
rule = [{ rate = "all" }]
"""


def finops(*arguments: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> tuple[int, str]:
    """Run the command to its end: its exit status and what it wrote on stderr."""
    command = [sys.executable, "-P", "-m", "agent", *arguments]
    done = subprocess.run(command, check=False, env=dict(os.environ) | dict(environ or {}), cwd=cwd, capture_output=True,
                          text=True, timeout=30)
    return done.returncode, done.stderr


def start(tmp_path: Path, *arguments: str, environ: Mapping[str, str] | None = None, config: str = PRICED) -> tuple[int, str]:
    """Run a daemon that is to end by itself."""
    (tmp_path / "gpu-finops.toml").write_text(config)
    return finops("run", "--config.file", str(tmp_path / "gpu-finops.toml"), "--state.dir", str(tmp_path / "state"),
                  "--web.listen-address", f"127.0.0.1:{free_port()}", *arguments, environ=environ)


def driver(tmp_path: Path, *faults: Fault) -> dict[str, str]:
    scenario = Scenario(devices=[Device(GPU, power=Constant(200))], faults=faults, epoch_ns=boottime_ns() - 10**10)
    scenario.write(tmp_path / "scenario")
    return driver_environ(tmp_path / "scenario")


def the_sentence(errors: str) -> str:
    """The last line: what the person reads. No traceback anywhere."""
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


def test_no_driver_names_the_way_on(tmp_path: Path) -> None:
    # A file that is no library stands before the machine's own, if it has one: loading fails as where there is none.
    (tmp_path / "libnvidia-ml.so.1").write_text("none")
    status, errors = start(tmp_path, "--source", "auto", environ={"LD_LIBRARY_PATH": str(tmp_path)})
    assert status == 1
    assert "--source simulated" in the_sentence(errors)
    assert "serving" not in errors


@pytest.mark.parametrize(("error", "words"), [
    (DRIVER_NOT_LOADED, "--source simulated"), (NO_PERMISSION, "permission"), (LIBRARY_MISMATCH, "version")])
def test_a_driver_that_does_not_start(tmp_path: Path, error: int, words: str) -> None:
    status, errors = start(tmp_path, environ=driver(tmp_path, Fault("nvmlInit", error=error)))
    assert status == 1
    assert words in the_sentence(errors)


def test_a_field_that_is_not_supported_has_no_series_and_spoils_nothing(tmp_path: Path) -> None:
    refused = ("GetTemperature", "GetTemperatureV", "GetTotalEnergyConsumption", "GetSamples")
    environ = driver(tmp_path, *[Fault(f"nvmlDevice{function}", error=3) for function in refused])
    with Daemon(tmp_path / "agent", source="nvml", config=PRICED, environ=environ) as daemon:
        names = {name for name, _ in daemon.series()}
        assert "finops_gpu_temperature_celsius" not in names
        assert daemon.value("finops_gpu_power_watts", uuid=GPU) == 200.0
        assert daemon.value("finops_gpu_up", uuid=GPU) == 1.0
        methods = [dict(labels)["energy_method"] for name, labels in daemon.series() if name == "finops_gpu_info"]
        assert methods[0].startswith("trapezoid")


def test_a_missing_configuration_file_is_named(tmp_path: Path) -> None:
    status, errors = finops("run", "--config.file", str(tmp_path / "absent.toml"))
    assert status == 2
    assert "absent.toml" in the_sentence(errors)


def test_a_default_configuration_file_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    """A file found in its usual place, moved away by whoever replaces it at that moment: the prices stay."""
    (tmp_path / "gpu-finops.toml").write_text(PRICED)
    daemon = Daemon(tmp_path / "run", config=PRICED)
    command = [sys.executable, "-P", "-m", "agent", "run", "--source", "simulated", "--state.dir", str(daemon.state),
               "--web.listen-address", f"127.0.0.1:{daemon.port}"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, cwd=tmp_path, stderr=log) as daemon.process:
        try:
            until(daemon.first_cost, "the first cost")
            (tmp_path / "gpu-finops.toml").unlink()
            daemon.signal(signal.SIGHUP)
            until(lambda: "configuration " in (tmp_path / "log").read_text(), "the reload")
            assert "gpu-finops.toml: there is no such file" in (tmp_path / "log").read_text()
            until(lambda: daemon.value("finops_agent_config_reload_success") == 0.0, "the failed reload to show")
            assert daemon.value("finops_tariff_price_per_kwh") == 1.0
        finally:
            assert daemon.stop() == 0


def test_an_empty_configuration_is_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert finops("check", str(tmp_path / "empty.toml"))[0] == 0


@pytest.mark.parametrize(("text", "fault"), [
    ('intervall = "1s"\n', "gpu-finops.toml:1: intervall: "),
    ('\n[site]\npue = "high"\n', "gpu-finops.toml:3: site.pue: "),
    (PRICED.replace("Asia/Shanghai", "Asia/Shanghi"), "gpu-finops.toml:8: tariff.flat.timezone: "),
    ("interval = 1\n", "gpu-finops.toml:1: interval: "),
    ("[site\n", "gpu-finops.toml:1"),
])
def test_a_bad_configuration_is_refused_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    status, errors = start(tmp_path, "--source", "simulated", config=text)
    assert status == 2
    assert fault in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "state").exists()


def test_a_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, not a directory")
    status, errors = start(tmp_path, "--source", "simulated")
    assert status == 1
    assert "state_dir" in the_sentence(errors)


def test_a_damaged_ledger_is_set_aside_and_said(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "agent", config=PRICED)
    daemon.state.mkdir()
    damage = b"\x00damaged\xff" * 2_000
    (daemon.state / FILE_NAME).write_bytes(damage)
    with daemon:
        assert daemon.value("finops_agent_ledger_ok") == 1.0
        assert daemon.value("finops_agent_ledgers_set_aside") == 1.0
    aside = list(daemon.state.glob(FILE_NAME + ".corrupt-*"))
    assert [path.read_bytes() for path in aside] == [damage]
    assert "set aside" in daemon.errors()


def on_a_disk_of_its_own(state: Path, size: str, fill: str = "true") -> list[str]:
    """A command prefix: runs the rest with a small file system on ``state``, which only it and its children see."""
    state.mkdir(parents=True)
    namespaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && cd "$0" && {fill}; cd / && exec "$@"'
    return ["unshare", *namespaces, "sh", "-c", script, str(state)]


def test_a_full_disk_keeps_serving_and_commits_when_there_is_room(tmp_path: Path) -> None:
    prefix = on_a_disk_of_its_own(tmp_path / "agent" / "state", "1m")
    with Daemon(tmp_path / "agent", config=PRICED, prefix=prefix, environ={"PYTHONPATH": str(REPOSITORY)}) as daemon:
        assert daemon.process is not None
        filler = Path(f"/proc/{daemon.process.pid}/root") / (daemon.state / "filler").relative_to("/")
        with filler.open("wb", buffering=0) as out, pytest.raises(OSError, match="No space left"):
            while True:
                out.write(b"x" * 4096)
        until(lambda: daemon.value("finops_agent_ledger_ok") == 0.0, "the full disk to show")
        stuck = daemon.value("finops_gpu_energy_joules_total")
        assert daemon.value("finops_gpu_power_watts") > 0
        until(lambda: daemon.value("finops_agent_queued_ticks") >= 5, "ticks to wait in memory")
        daemon.signal(signal.SIGHUP)                            # a reload asks the ledger, which cannot be opened now
        until(lambda: "not reloaded" in daemon.errors() or "configuration reloaded" in daemon.errors(), "the reload to be over")
        assert daemon.value("finops_gpu_energy_joules_total") == stuck
        filler.unlink()
        until(lambda: daemon.value("finops_agent_ledger_ok") == 1.0, "the ledger to go on")
        assert daemon.value("finops_agent_dropped_ticks_total") == 0
        until(lambda: daemon.value("finops_gpu_energy_joules_total") > stuck, "queued energy to land")
        assert daemon.stop() == 0


def test_a_state_directory_that_is_full_at_the_start(tmp_path: Path) -> None:
    state = tmp_path / "agent" / "state"
    prefix = on_a_disk_of_its_own(state, "64k", fill="head -c 100000 /dev/zero > filler 2> /dev/null")
    daemon = Daemon(tmp_path / "agent", config=PRICED, prefix=prefix, environ={"PYTHONPATH": str(REPOSITORY)})
    daemon.start()
    assert daemon.finish() == 1
    sentence = the_sentence(daemon.errors())
    assert str(state) in sentence
    assert "space" in sentence or "room" in sentence


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, errors = start(tmp_path, "--source", "simulated", "--web.listen-address", f"127.0.0.1:{port}")
    assert status == 1
    assert str(port) in the_sentence(errors)


def test_an_open_address_without_authentication_is_refused(tmp_path: Path) -> None:
    status, errors = start(tmp_path, "--source", "simulated", "--web.listen-address", f"0.0.0.0:{free_port()}")
    assert status == 2
    assert "--web.allow-unauthenticated" in the_sentence(errors)


def test_a_second_daemon_on_the_same_ledger_is_refused(tmp_path: Path) -> None:
    with Daemon(tmp_path / "agent", config=PRICED) as daemon:
        status, errors = start(tmp_path, "--source", "simulated", "--state.dir", str(daemon.state))
        assert status == 1
        assert daemon.process is not None
        assert str(daemon.process.pid) in the_sentence(errors)


def test_sigterm_in_mid_tick_commits_what_was_read_and_ends_well(tmp_path: Path) -> None:
    # The driver takes 300 ms for a power reading, so that the signal falls into a tick.
    environ = driver(tmp_path, Fault("nvmlDeviceGetPowerUsage", delay_s=0.3))
    daemon = Daemon(tmp_path / "agent", source="nvml", config=PRICED, environ=environ)
    with daemon:
        before = daemon.value("finops_gpu_energy_joules_total")
        daemon.signal(signal.SIGTERM)
        assert daemon.finish() == 0
    assert "Traceback" not in daemon.errors()
    with daemon:
        assert daemon.value("finops_gpu_energy_joules_total") >= before


def test_a_signal_while_the_ledger_is_opened_ends_the_daemon_well(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "agent", config=PRICED)
    with daemon:
        daemon.kill()
    lock = daemon.state / "lock"
    lock.write_text("")
    daemon.start()
    until(lock.read_text, "the ledger's directory to be taken")
    daemon.signal(signal.SIGINT)
    assert daemon.finish() == 0
    assert list(daemon.state.glob("*.corrupt-*")) == []


@pytest.mark.parametrize("arguments", [
    ["frobnicate"], ["run", "--source", "magic"], ["report", "--by", "shoe-size"], ["run", "--source", "replay"], [],
    ["report", "--by", "project,project"], ["report", "--from", "2026-02-01", "--to", "2026-01-01"]])
def test_wrong_usage_is_two_and_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    if arguments[:1] == ["report"]:
        with Daemon(tmp_path / "agent", config=PRICED) as daemon:
            arguments = [*arguments, "--state.dir", str(daemon.state)]
    state = tmp_path / "untouched"
    environ = {"PYTHONPATH": str(REPOSITORY), "STATE_DIRECTORY": str(state)}
    status, errors = finops(*arguments, cwd=tmp_path, environ=environ)
    assert status == 2
    assert len(errors.strip().splitlines()) == 1
    assert not state.exists()


@pytest.mark.parametrize("arguments", [
    ["tariff", "import", "--format", "urdb", "--timezone", "UTC", "shapes.json"],
    ["tariff", "holidays", "bytes.toml"],
    ["top", "--once", "--url", "http://[::1"],
    ["plan", "huge.toml"],
])
def test_odd_files_and_places_get_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "shapes.json").write_text('{"items": [{"energyratestructure": 5, "energyweekdayschedule": {}}]}')
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe dates = [\x80]")
    (tmp_path / "huge.toml").write_text("[[unit_cost]]\nhourly_cost = 1e300\nat = [{ utilisation = 1e-300, cost = 1 }]\n")
    status, errors = finops(*arguments, cwd=tmp_path, environ={"PYTHONPATH": str(REPOSITORY)})
    assert status in {1, 2}
    assert "Traceback" not in errors
    assert errors.strip()
