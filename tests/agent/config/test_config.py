"""The configuration: what is read, where it is looked for, and every fault with its line."""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from agent.config.config import Config, load
from agent.errors import ConfigError
from agent.settings import Budget, CalibrationRule, Hardware, Idle, Site, TagGrant, TagRule, Tags, Web
from agent.tariffs.levies import Adder, DemandCharge, FixedCharge, Levies, Tax
from agent.units import ATTO, NS_PER_S
from exporters.families import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "tests" / "configs"
MINUTE_NS = 60 * NS_PER_S
NO_ENVIRONMENT = {"HOME": "/home/nobody"}


def faults(file: Path, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ=NO_ENVIRONMENT, **options)     # type: ignore[arg-type]
    assert caught.value.exit_status == 2
    return [fault.replace(f"{file.parent}/", "") for fault in caught.value.faults]


def write(directory: Path, text: str, name: str = "config.toml") -> Path:
    file = directory / name
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.bad.toml")), ids=lambda file: file.stem)
def test_every_fault_of_a_bad_file_is_told_with_its_line(file: Path) -> None:
    expected = file.with_suffix(".expected").read_text().splitlines()
    given = faults(file)
    assert expected
    assert [line.replace(f"{CONFIGS}/", "") for line in given] == expected


@pytest.mark.parametrize("file", [*sorted(CONFIGS.glob("*.good.toml")), ROOT / "deploy" / "gpu-finops.toml",
                                  ROOT / "deploy" / "quickstart.toml"], ids=lambda file: file.stem)
def test_a_good_file_is_good(file: Path) -> None:
    assert load(file, environ=NO_ENVIRONMENT).file == file


def test_the_example_with_every_comment_opened_is_good(tmp_path: Path) -> None:
    lines = (ROOT / "deploy" / "gpu-finops.toml").read_text().splitlines()
    text = "\n".join(line[1:] if line[:1] == "#" and line[1:2].isalpha() | (line[1:2] == "[") else line for line in lines)
    write(tmp_path, "", "tariffs.toml")
    write(tmp_path, "", "web.yml")
    write(tmp_path, "start,price\n2026-01-01T00:00:00Z,80\n2026-01-01T01:00:00Z,81\n", "day_ahead.csv")
    write(tmp_path, "start,price\n2026-01-01T00:00:00Z,8\n2026-01-01T01:00:00Z,7\n", "spot.csv")
    config = load(write(tmp_path, text), environ=NO_ENVIRONMENT)
    assert sorted(config.tariffs) == ["cn-industrial", "de-spot", "steps"]
    assert len(config.hardware) == 5
    assert config.host is not None


def test_an_empty_file_is_the_defaults() -> None:
    config = load(CONFIGS / "empty.good.toml", environ=NO_ENVIRONMENT)
    assert (config.interval_ns, config.flush_interval_ns) == (NS_PER_S, 5 * NS_PER_S)
    assert (config.site, config.tags, config.idle, config.web) == (Site(), Tags(), Idle(), Web())
    assert (config.tariffs, config.hardware, config.budgets, config.tariff, config.carbon) == ({}, (), (), None, None)
    assert config.timezone == "UTC"


def test_every_key_reaches_its_record() -> None:
    config = load(CONFIGS / "full.good.toml", environ=NO_ENVIRONMENT)
    assert config.interval_ns == 500_000_000
    assert config.flush_interval_ns == 90 * NS_PER_S
    assert config.state_dir == CONFIGS / "state"
    assert config.site == Site(name="hall 3", timezone="Pacific/Chatham", tariff="spot tariff", pue=Decimal("1.35"),
                               carbon_csv=CONFIGS / "carbon.csv", baseline_kwh=Decimal("12.5"))
    assert config.hardware == (
        Hardware(gpu="NVIDIA H100*", price=Decimal(250000), salvage=Decimal(25000), years=Decimal(4),
                 maintenance_per_year=Decimal(6000), currency="EUR"),
        Hardware(gpu="*", rent_per_gpu_hour=Decimal("14.5"), currency="EUR"))
    assert config.calibration == (CalibrationRule(gpu="GPU-8f2a*", factor=Decimal("1.034")),)
    assert config.tags == Tags(
        keys=("project", "team"), sources=("environ", "rules"), max_workloads=7,
        rules=(TagRule(tags={"project": "kronos", "team": "quant"}, user="trainer", command="*vllm*"),),
        grants=(TagGrant(projects=("kronos", "kronos-*"), group="quants"),))
    assert config.idle == Idle(utilization_ratio=0.1, warn_after_ns=10 * MINUTE_NS, critical_after_ns=90 * MINUTE_NS,
                               policy="even")
    assert config.budgets == (
        Budget(name="kronos monthly", match={"project": "kronos"}, period="month", limit=Decimal(30000),
               thresholds=(0.5, 1.0), currency="EUR"),
        Budget(name="everything", match={"instance": "*"}, period="year", limit=Decimal(1000000), currency="EUR"))
    assert config.web == Web(host="::1", port=9100)
    assert set(config.files) == {CONFIGS / "full.good.toml", CONFIGS / "included.toml"}
    assert set(config.data_files) == {CONFIGS / "prices.csv", CONFIGS / "carbon.csv"}
    tariff = config.tariff
    assert tariff is not None
    first, second = tariff.versions
    assert first.starts_ns == int(dt.datetime(2025, 12, 31, 10, 15, tzinfo=dt.UTC).timestamp()) * NS_PER_S    # +13:45
    assert first.levies == Levies(
        adders=(Adder("grid", 11 * ATTO // 100),), tax=Tax(Fraction(19, 100), included=False),
        demand=(DemandCharge("peak", Decimal(9), 30 * MINUTE_NS, frozenset({"spot"})),),
        fixed=(FixedCharge("meter", Decimal("8.5"), "month"),))
    assert second.levies.adders == ()                        # written anew, and the rest taken over
    assert second.levies.tax == first.levies.tax


def test_carbon_is_a_step_function_of_its_file_or_a_constant(tmp_path: Path) -> None:
    carbon = load(CONFIGS / "full.good.toml", environ=NO_ENVIRONMENT).carbon
    assert carbon is not None
    june_ns = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp()) * NS_PER_S
    assert [carbon(at) for at in (0, june_ns - 1, june_ns, 2 * june_ns)] == [Decimal("420.5")] * 2 + [Decimal(380)] * 2
    constant = load(write(tmp_path, "[site]\ncarbon = 570"), environ=NO_ENVIRONMENT).carbon
    assert constant is not None
    assert constant(june_ns) == 570


def test_tiers_count_pue_and_what_others_used() -> None:
    used_mj = load(CONFIGS / "full.good.toml", environ=NO_ENVIRONMENT).used_mj(lambda since_ns: 2_000 + since_ns)
    assert used_mj(0) == 2_700 + 45_000_000_000              # 1.35 x 2000 mJ + 12.5 kWh
    assert used_mj(2_000) - used_mj(0) == 2_700


def test_the_default_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = write(tmp_path, '[site]\nname = "named"', "named.toml")
    local = write(tmp_path, '[site]\nname = "local"', "gpu-finops.toml")
    assert load(named, environ={"GPU_FINOPS_CONFIG": str(local)}).site.name == "named"
    assert load(None, environ=NO_ENVIRONMENT | {"GPU_FINOPS_CONFIG": str(named)}).site.name == "named"
    assert load(None, environ=NO_ENVIRONMENT).site.name == "local"


def test_a_named_file_that_is_missing_is_an_error_not_the_defaults(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    assert faults(absent) == ["absent.toml: there is no such file; give the path of a configuration with --config.file"]
    with pytest.raises(ConfigError, match=r"correct \$GPU_FINOPS_CONFIG"):
        load(None, environ={"GPU_FINOPS_CONFIG": str(absent)})
    (fault,) = faults(tmp_path / ".")
    assert fault == f"{tmp_path.name}: cannot be read (Is a directory); give the path of a readable TOML file"


def test_the_state_directory(tmp_path: Path) -> None:
    plain, configured = CONFIGS / "empty.good.toml", write(tmp_path, 'state_dir = "/srv/ledger"')
    systemd = {"STATE_DIRECTORY": "/var/lib/private/gpu-finops:/other", "HOME": "/home/u"}
    assert load(configured, environ=NO_ENVIRONMENT).state_dir == Path("/srv/ledger")
    assert load(configured, environ=systemd).state_dir == Path("/var/lib/private/gpu-finops")
    assert load(configured, {"state_dir": Path("here")}, environ=systemd).state_dir == Path("here")
    given = load(plain, environ={"HOME": "/home/u", "XDG_STATE_HOME": "/home/u/state"}).state_dir
    system = os.geteuid() == 0 or os.access("/var/lib/gpu-finops", os.W_OK)
    assert given == (Path("/var/lib/gpu-finops") if system else Path("/home/u/state/gpu-finops"))


def test_the_command_line_wins_and_its_faults_say_so() -> None:
    config = load(CONFIGS / "full.good.toml", {"web.listen_address": ":0", "web.allow_unauthenticated": True, "interval": "2s"},
                  environ=NO_ENVIRONMENT)
    assert config.web == Web(host="", port=0, allow_unauthenticated=True)
    assert config.interval_ns == 2 * NS_PER_S
    assert faults(CONFIGS / "empty.good.toml", overrides={"web.listen_address": "localhost"}) == [
        'command line: web.listen_address: is \'localhost\'; write HOST:PORT, such as "127.0.0.1:10061", "[::1]:10061", or '
        '":10061" for every address of this machine']


@pytest.mark.parametrize(("address", "host", "port"), [
    ("localhost:1", "localhost", 1), ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535), ("0.0.0.0:80", "0.0.0.0", 80)])
def test_web_addresses(address: str, host: str, port: int) -> None:
    web = load(CONFIGS / "empty.good.toml", {"web.listen_address": address}, environ=NO_ENVIRONMENT).web
    assert (web.host, web.port) == (host, port)


@pytest.mark.parametrize("address", ["::1:80", "host:65536", "host:", "http://host:80", "host:8 0", "[host]:80"])
def test_what_is_no_web_address(address: str) -> None:
    (fault,) = faults(CONFIGS / "empty.good.toml", overrides={"web.listen_address": address})
    assert fault.startswith(f"command line: web.listen_address: is {address!r}; write HOST:PORT")


def test_included_lists_follow_and_included_tables_join(tmp_path: Path) -> None:
    write(tmp_path, '[[tags.rule]]\nuser = "b"\nset = { project = "b" }\n[tags]\nmax_workloads = 3', "more.toml")
    file = write(tmp_path, 'include = ["more.toml"]\n[tags]\nkeys = ["project"]\n'
                           '[[tags.rule]]\nuser = "a"\nset = { project = "a" }')
    tags = load(file, environ=NO_ENVIRONMENT).tags
    assert ([rule.user for rule in tags.rules], tags.keys, tags.max_workloads) == (["a", "b"], ("project",), 3)


def test_files_that_include_each_other_are_told(tmp_path: Path) -> None:
    file = write(tmp_path, 'include = ["b.toml"]', "a.toml")
    write(tmp_path, 'include = ["a.toml"]', "b.toml")
    assert faults(file) == ["b.toml:1: include[0]: is 'a.toml', which is read already; include each file once"]


def test_changed_price_files_are_seen(tmp_path: Path) -> None:
    prices = write(tmp_path, "start,grams\n2026-01-01T00:00:00Z,1\n", "carbon.csv")
    config = load(write(tmp_path, '[site]\ncarbon = { csv = "carbon.csv" }'), environ=NO_ENVIRONMENT)
    assert not config.data_files_changed()
    prices.write_text("start,grams\n2026-01-01T00:00:00Z,12\n")
    assert config.data_files_changed()


def spot(directory: Path, missing: str) -> Path:
    write(directory, "start,price\n2026-01-01T00:00:00Z,80\n2026-01-01T01:00:00Z,81\n", "day_ahead.csv")
    return write(directory, f'[tariff.t]\ncurrency = "EUR"\ntimezone = "UTC"\nrule = [{{ rate = "spot" }}]\n'
                            f'rates = {{ spot = {{ csv = "day_ahead.csv", unit = "EUR/MWh", missing = "{missing}" }} }}')


def test_prices_that_must_reach_the_present_and_do_not_are_a_fault_when_the_present_is_given(tmp_path: Path) -> None:
    inside_ns, after_ns = (int(dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC).timestamp()) * NS_PER_S for hour in (1, 2))
    file = spot(tmp_path, "error")
    load(file, environ=NO_ENVIRONMENT)
    load(file, environ=NO_ENVIRONMENT, now_ns=inside_ns)
    (fault,) = faults(file, now_ns=after_ns)
    assert fault.startswith("config.toml:5: tariff.t.rates.spot: has no price for the present (2026-01-01T02:00:00+00:00);")
    load(spot(tmp_path, "last"), environ=NO_ENVIRONMENT, now_ns=after_ns)


def test_a_reload_keeps_what_only_a_start_can_change(tmp_path: Path) -> None:
    running = load(write(tmp_path, 'state_dir = "a"\n[tags]\nkeys = ["project"]'), environ=NO_ENVIRONMENT)
    wanted = load(write(tmp_path, 'interval = "3s"\nstate_dir = "b"\n[tags]\nkeys = ["project", "team"]'),
                  environ=NO_ENVIRONMENT)
    kept: Config = wanted.keeping(running)
    assert (kept.interval_ns, kept.state_dir, kept.tags) == (3 * NS_PER_S, tmp_path / "a", running.tags)


def test_no_tag_key_can_be_a_label_of_our_metrics(tmp_path: Path) -> None:
    for label in sorted({label for family in FAMILIES for label in family.labels} - {"W"}):
        (fault,) = faults(write(tmp_path, f'[tags]\nkeys = ["project", "{label}"]'))
        assert fault.startswith(f"config.toml:2: tags.keys[1]: is {label!r}, which is a label or a column already;")


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    file = write(tmp_path, '[tariff.t]\ncurrency = "EUR"\ntimezone = "UTC"\nrates = { a = 0.123456789012345678 }\n'
                           'rule = [{ rate = "a" }]')
    assert load(file, environ=NO_ENVIRONMENT).tariffs["t"].price_at(0).atto_per_kwh == 123_456_789_012_345_678


def test_the_sites_tariff_is_the_one_it_names() -> None:
    config = load(ROOT / "tests" / "vectors" / "tariffs.toml", {"site.tariff": "de-spot"}, environ=NO_ENVIRONMENT)
    assert config.tariff is config.tariffs["de-spot"]
    assert config.timezone == "Europe/Berlin"


@pytest.mark.parametrize("text", [f"a = {'[' * 400}{']' * 400}", f"a = {'[' * 90_000}", f"a = {'9' * 5_000}",
                                  "a = 1e99999999999999999999", "a = 2026-02-30", "\ufeffinterval = 1"])
def test_texts_that_break_readers_are_faults_with_a_line(tmp_path: Path, text: str) -> None:
    for fault in faults(write(tmp_path, text)):
        assert fault.startswith("config.toml:1: ")
