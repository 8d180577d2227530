"""Bad input of every command, in this process: one sentence, the right status, and nothing lost. What needs a process of its
own (closed streams, pipes, signals) is in tests/e2e/test_bad_streams.py."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from agent.api.usage import UsageApi
from agent.cli import main
from agent.commands.rerate import table as rerated_table
from agent.errors import UsageError
from agent.ledger.query import UsageRow
from agent.ledger.rerate import Difference
from agent.report import as_table

CONFIG = """
state_dir = "state"
[site]
tariff = "flat"
[tariff.flat]
currency = "CNY"
timezone = "Asia/Shanghai"
rates = { all = 1.0 }
rule = [{ rate = "all" }]
"""
DIGITS = "f" * 20_000
PRICED = "[tariff.x]\ncurrency = 'EUR'\ntimezone = 'UTC'\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(CONFIG)
    (tmp_path / "directory").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")


def told(capsys: pytest.CaptureFixture[str], line: str, *more: str) -> tuple[int, str]:
    """A command's status, and its one sentence. There is no other output."""
    status = main([*shlex.split(line), *more])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.isprintable() or err[:-1].isprintable()
    return status, err[:-1]


@pytest.mark.parametrize(("line", "status", "said"), [
    ("check pipe", 2, "pipe: cannot be read (it is a named pipe, not a file)"),
    ("check zero", 2, "zero: cannot be read (it is a device, not a file)"),
    (f"check {'x' * 5_000}", 2, "cannot be read (File name too long)"),
    ("plan pipe", 2, "pipe: cannot be read (it is a named pipe"),
    ("tariff bill flat --config.file good.toml --from 2026-01-01 --to 2026-01-02 --load pipe", 2, "it is a named pipe"),
    ("tariff bill flat --config.file good.toml --from 2026-01-01 --to 2026-01-02 --load zero", 2, "it is a device"),
    ("tariff bill flat --config.file good.toml --from 1700-01-01 --to 2200-01-01 --kw 1", 2, "bill a shorter time"),
    ("tariff import --format urdb --timezone UTC pipe", 2, "it is a named pipe"),
    ("tariff import --format octopus zero", 2, "it is a device"),
    ("devices --source simulated --simulated.devices 3000000", 2, "GPUs are too many"),
    ("devices --source simulated --simulated.scenario pipe", 2, "it is a named pipe"),
    ("devices --source replay --replay.file pipe", 1, "it is a named pipe"),
    ("devices --source replay --replay.file zero", 1, "it is a device"),
    ("report --state.dir s", 1, "s/ledger.sqlite3: is a directory or a pipe, no ledger"),
    ("ledger verify --state.dir s", 1, "s/ledger.sqlite3: is a directory or a pipe, no ledger"),
    ("rerate --config.file good.toml --state.dir s --from 2026-01-01 --to 2026-02-01", 1, "is a directory or a pipe"),
    ("report --config.file good.toml --from ''", 2, "'' is not an instant"),
    ("release --state.dir s", 1, "no daemon runs here"),
    ("record new --source simulated --duration 5", 2, "--duration"),
    ("exec --project p --source simulated -- ''", 127, "the command is empty"),
    (f"exec --project p --source simulated --gpu {'9' * 5_000} -- true", 2, "names none of the GPUs here"),
    ("exec --project p --source simulated --json pipe -- true", 1, "pipe: cannot be written (No such device or address)"),
    ("exec --project p --source simulated --json good.toml -- nosuch", 127, "nosuch: cannot be started"),
    ("exec --project p --source simulated --json new -- nosuch", 127, "nosuch: cannot be started"),
    ("top --once --url http://a..b:1", 2, "is no address"),
    (f"top --once --url http://{'a' * 70}:1", 2, "is no address"),
    ("run --source simulated --web.listen-address a..b:1", 2, "write HOST:PORT"),
    ("run --source simulated --web.config.file ~nosuchuser/web.yml", 2, "there is no such file"),
])
def test_one_sentence(capsys: pytest.CaptureFixture[str], line: str, status: int, said: str) -> None:
    Path("s").mkdir()
    os.mkfifo("s/ledger.sqlite3")
    Path("s/lock").write_text("17\n")
    found, sentence = told(capsys, line)
    assert said in sentence
    assert found == status
    assert Path("good.toml").read_text() == CONFIG
    assert not Path("new").exists()


@pytest.mark.parametrize(("text", "said"), [
    (f"interval = 0x{DIGITS}", "a.toml:1: interval: is a whole number of more than 64 bits"),
    (PRICED + f"rates = {{ a = 1 }}\nrule = [{{ rate = 'a', months = [1, 0x{DIGITS}] }}, {{ rate = 'a' }}]",
     "a.toml:5: tariff.x.rule[0].months[1]: is a whole number of more than 64 bits"),
    (f"\ninterval = {'9' * 5_000}", "a.toml:2: syntax: holds a number that is too long to read"),
    ("\n[site]\npue = 1e999999999999999999999", "a.toml:3: syntax: is 1e999999999999999999999, which no amount is"),
    (PRICED + f"rates = {{ a = 0.{'1' * 6_000} }}\nrule = [{{ rate = 'a' }}]", "a.toml:4: syntax: is 0.11111"),
    (PRICED + "rates = { a = 1e-19 }\nrule = [{ rate = 'a' }]", "a.toml:4: tariff.x.rates.a: is 1e-19, finer than 1e-18"),
    ("state_dir = '~nosuchuser/x'", "a.toml:1: state_dir: is '~nosuchuser/x', and there is no home directory of that user"),
    ("[web]\nconfig_file = '~nosuchuser/x'", "a.toml:2: web.config_file: is '~nosuchuser/x', and there is no such file"),
    ("[web]\nlisten_address = 'a..b:1'", "a.toml:2: web.listen_address: is 'a..b:1'; write HOST:PORT"),
    (f"[web]\nlisten_address = '{'a' * 70}:1'", "write HOST:PORT"),
    ("[[hardware]]\ngpu = '*'\ncurrency = 'EUR'\nprice = 1e12\nyears = 1e-18", "hardware[0].years: makes 1.14e+26 an hour"),
    ("[[hardware]]\ngpu = '*'\ncurrency = 'EUR'\nrent_per_gpu_hour = 1e12", "rent_per_gpu_hour: makes 1e+12 an hour"),
    (f"include = ['{'x' * 5_000}']", "and there is no such file"),
    ('[tariff."a\\u001b[31m\\n"]\ncurrency = 1', 'tariff."a\\u001b[31m\\n".currency: is a whole number'),
])
def test_odd_values_are_named_with_their_line(capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    Path("a.toml").write_text(text)
    assert main(["check", "a.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert all(line.isprintable() for line in err.splitlines())


def test_a_chain_of_includes_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(120):
        Path(f"{i}.toml").write_text(f"include = ['{i + 1}.toml']")
    Path("120.toml").write_text("")
    status, sentence = told(capsys, "check 0.toml")
    assert status == 2
    assert "is one of more than 100 files" in sentence


def test_a_tariff_of_a_rule_a_minute_is_read_in_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    spans = [f"{i // 60:02d}:{i % 60:02d}-{(i + 1) // 60:02d}:{(i + 1) % 60:02d}" for i in range(1_400)]
    rules = ",\n".join(f"{{ rate = '{'ab'[i % 2]}', hours = ['{span}'] }}" for i, span in enumerate(spans))
    Path("a.toml").write_text(f"{PRICED}rates = {{ a = 1, b = 2 }}\nrule = [{rules}, {{ rate = 'a' }}]")
    assert main(["check", "a.toml"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("text", "said"), [
    ("[" * 2_000 + "]" * 2_000, "w.yml:1: file: is nested too deeply"),
    ("{a: " * 600 + "1" + "}" * 600, "w.yml:1: file: is nested too deeply"),
    (f"basic_auth_users:\n  u: $2b$²²${'x' * 53}", "w.yml:2: basic_auth_users.u: is not a bcrypt hash"),
    (f"rate_limit:\n  burst: {'9' * 5_000}", "w.yml:2: rate_limit.burst: must be a whole number"),
    ("a: \x07b", "w.yml:1: file: is not YAML (unacceptable character"),
    ("? [a, b]\n: 1", "w.yml:1: file: has a key that is a list or a mapping"),
    ("tls_server_config:\n  cert_file: pipe\n  key_file: pipe", "it is a named pipe, not a file"),
])
def test_odd_web_configurations(capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    Path("w.yml").write_text(text)
    Path("a.toml").write_text("[web]\nconfig_file = 'w.yml'")
    status, sentence = told(capsys, "check a.toml")
    assert said in sentence
    assert status == 2


def urdb(**fields: Any) -> str:
    return json.dumps({"items": [{"energyratestructure": [[{"rate": 0.1}]], **fields}]})


@pytest.mark.parametrize(("text", "said"), [
    (urdb(flatdemandstructure=5), "flatdemandstructure: is not a list of periods"),
    (urdb(demandwindow=[15]), "demandwindow: is [15], not a number"),
    (urdb(country=["US"]), "country: is ['US']"),
    (urdb(energyratestructure=[[{"rate": 1, "max": 10}, {"rate": 1, "max": 5}, {"rate": 2}]]), "order the blocks by rising"),
    (urdb(energyratestructure=[[{"rate": 1, "max": -5}, {"rate": 2}]]), "is -5; write more than 0"),
    (urdb(flatdemandstructure=[[{"rate": -5}]]), "per_kw_month: is -5; write 0 or more"),
    (urdb().replace("0.1", "1e999999999"), "is 1e+999999999, which no amount is"),
    (urdb().replace("0.1", "1e99999999999999999999"), "is too large"),
    (urdb().replace("0.1", "9" * 4_000), "which no amount is"),
    (urdb(energyratestructure=[[{"rate": 1}], [{"rate": 2}]], energyweekdayschedule=[["Q"] * 24] * 12).replace(
        '"Q"', "1e999999999"), "energyweekdayschedule: names period 1E+999999999"),
])
def test_rates_that_no_utility_has(capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    Path("i.json").write_text(text)
    status, sentence = told(capsys, "tariff import --format urdb --timezone UTC i.json")
    assert said in sentence
    assert status == 2


@pytest.mark.parametrize("name", ['a\nb"c', "\ud800", "\x7f", "a\x1b[31m"])
def test_an_imported_name_is_written_so_that_it_can_be_read(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("i.json").write_text(urdb(name=name, label=name, demandwindow=15.0, flatdemandstructure=[[{"rate": 5}]]))
    assert main(["tariff", "import", "--format", "urdb", "--timezone", "UTC", "--name", name, "-o", "o.toml", "i.json"]) == 0
    assert main(["check", "o.toml"]) == 0
    assert capsys.readouterr().err == ""


OCTOPUS = json.dumps({"results": [{"value_exc_vat": 10, "value_inc_vat": 10.5, "valid_from": "2026-01-01T00:00Z",
                                   "valid_to": "2026-01-01T00:30Z"}]})


@pytest.mark.parametrize(("name", "output", "said"), [
    ("i.json", ".", "write a name that ends in .toml"), ("i.json", "/", "write a name that ends in .toml"),
    ("i.json", "", "write a name that ends in .toml"), ("i.json", "/dev/null", "write a name that ends in .toml"),
    ("i.json", "no/x.toml", "no/x.csv cannot be written"), ("i.json", "directory.toml", "directory.toml cannot be written"),
    ("i.csv", "i.toml", "i.csv is what is imported"),
    ("i.json", "pipe.toml", "it is a device or a pipe"),
])
def test_an_import_writes_over_nothing_else(capsys: pytest.CaptureFixture[str], name: str, output: str, said: str) -> None:
    Path(name).write_text(OCTOPUS)
    Path("directory.toml").mkdir()
    os.mkfifo("pipe.toml")
    before = sorted(Path().iterdir())
    _, sentence = told(capsys, f"tariff import --format octopus {name} --force", "-o", output)
    assert said in sentence
    assert sorted(Path().iterdir()) == before
    assert Path(name).read_text() == OCTOPUS


def test_a_bad_csv_tells_its_first_faults_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    Path("l.csv").write_text("start,kw\n" + "bad,row\n" * 100_000)
    assert main(shlex.split("tariff bill flat --config.file good.toml --from 2026-01-01 --to 2026-01-02 --load l.csv")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "l.csv:12: row: and what follows was not looked at; mend the rows above first"


@pytest.mark.parametrize(("claim", "status"), [(", cost = 1", 1), (", cost = { published = 1 }", 0), ("", 0)])
def test_a_plan_reckons_with_what_it_takes(capsys: pytest.CaptureFixture[str], claim: str, status: int) -> None:
    Path("p.toml").write_text(f"currency = 'CNY'\n[[unit_cost]]\nhourly_cost = 1e12\nat = [{{ utilisation = 1e-18{claim} }}]")
    assert main(["plan", "p.toml"]) == status
    out, err = capsys.readouterr()
    assert "1" + "0" * 30 in out + err
    assert "too large" not in err


def test_tags_do_not_steer_the_terminal() -> None:
    tag = "a\x1b]0;pwned\x07\x9b31m\nFAKE"
    rows = [UsageRow((tag,), "EUR", 1, 1, 1, 1)]
    difference = Difference(workload=(tag,), currency="EUR", booked_nano=1, rerated_nano=2)
    for table in (as_table(rows, ["project"]), rerated_table([difference], ["project"])):
        assert "FAKE" in table
        assert all(line.isprintable() and not line.startswith("FAKE") for line in table.splitlines())


def test_a_span_that_ends_before_it_begins_is_no_empty_answer(tmp_path: Path) -> None:
    api = UsageApi(tmp_path, ("project",), lambda: "UTC")
    with pytest.raises(UsageError, match="from 2026-02-01 is not before to 2026-01-01"):
        api({"from": "2026-02-01", "to": "2026-01-01"})


def test_names_from_a_scenario_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.toml").write_text('currency = "CNY"\n[[deployment]]\nname = "a\\u001b[31m\\nFAKE"\nhardware = 1\nyears = 1\n'
                              "electricity_per_year = 1")
    Path("s.toml").write_text('[gpu]\nname = "a\\u001b[31m\\nFAKE"')
    assert main(["plan", "p.toml"]) == 0
    assert main(["devices", "--source", "simulated", "--simulated.scenario", "s.toml"]) == 0
    out = capsys.readouterr().out
    assert out.count("FAKE") == 3
    assert all(line.isprintable() and not line.startswith("FAKE") for line in out.splitlines())
