"""While a daemon runs, report reads through it, at its real address, and gives to the byte what the file gives."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest
import trustme

from agent.cli import main
from agent.ledger.batch import Batch
from agent.ledger.ledger import Ledger
from tests.agent.priced import book, instant_ns, pricing, tariff
from tests.e2e.daemon import TEN_A_SECOND, Daemon, free_port, until

START_NS = instant_ns("2026-03-01", "Asia/Shanghai")
PERIOD = ("--from", "2026-02-28T16:00:00Z", "--to", "2026-03-01T16:00:00Z")
SITE = TEN_A_SECOND.replace("[site]\n", '[site]\nname = "the daemon\'s"\n')


class Reporter:
    """The command beside a daemon. Its own configuration differs in what tells who has answered: site, timezone, address."""

    def __init__(self, daemon: Daemon, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self._capsys = daemon.state, capsys
        self.same, self.other = daemon.config, folder / "other.toml"
        self.other.write_text(f'[site]\nname = "mine"\ntimezone = "UTC"\n[web]\nlisten_address = "127.0.0.1:{free_port()}"\n')

    def run(self, *arguments: str, config: Path | None = None, period: tuple[str, ...] = PERIOD) -> tuple[int, str, str]:
        status = main(["report", *period, "--config.file", str(config or self.same), *arguments])
        shown = self._capsys.readouterr()
        return status, shown.out, shown.err

    def answered(self, *arguments: str) -> tuple[str, str]:
        """Who gave the figures, and what stderr says."""
        status, out, err = self.run("--by", "day", "--format", "json", *(arguments or ("--state.dir", str(self.state))),
                                    config=self.other)
        assert status == 0, err
        days = {row["day"] for row in json.loads(out)["rows"]}
        return ("daemon" if days == {"2026-03-01"} else "file" if days == {"2026-02-28", "2026-03-01"} else str(days)), err


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """On a ledger that has a day of last March. It is told by the command line where to listen."""
    made = Daemon(tmp_path / "daemon", config=SITE)
    fill(made, tmp_path)
    with made:
        yield made


def fill(daemon: Daemon, folder: Path) -> None:
    ledger = Ledger(daemon.state, START_NS)
    book(ledger, pricing(tariff(folder, "all = 1.0")), START_NS, 96, 7_777_777)
    ledger.close()


@pytest.fixture
def reporter(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Reporter:
    return Reporter(daemon, tmp_path, capsys)


FORMS = [("--format", form, "--by", by) for form in ("table", "csv", "json") for by in ("project", "gpu,component,day")]


def test_every_format_is_what_the_file_gives(daemon: Daemon, reporter: Reporter, tmp_path: Path) -> None:
    state = ("--state.dir", str(daemon.state))
    forms = [*FORMS, ("--format", "json"), ("--idle-policy", "even"), ("--format", "focus")]
    through = [reporter.run(*form, *state) for form in forms]
    for name in ("usage.csv", "usage.parquet"):
        assert reporter.run("--format", "focus", "-o", str(tmp_path / name), *state) == (0, "", "")
    assert "the daemon's" in reporter.run("--format", "focus", *state, config=reporter.other)[1]
    assert reporter.answered() == ("daemon", "")
    daemon.stop()
    assert [reporter.run(*form, *state) for form in forms] == through
    assert all((status, err) == (0, "") and len(out) > 200 for status, out, err in through)
    assert reporter.answered() == ("file", "")
    for name in ("usage.csv", "usage.parquet"):
        assert reporter.run("--format", "focus", "-o", str(tmp_path / f"file.{name}"), *state) == (0, "", "")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"file.{name}").read_bytes()
        told = [json.loads((tmp_path / f"{which}.metadata.json").read_text()) for which in (name, f"file.{name}")]
        for document in told:
            del document["Schema"]["CreationDate"], document["x_Dataset"]["File"]
        assert told[0] == told[1]
    assert len({path.name for path in tmp_path.glob("*usage*")}) == 8         # and no parts left


def test_what_the_daemon_refuses_is_a_sentence_and_status_2(reporter: Reporter) -> None:
    status, out, err = reporter.run("--by", "colour", "--state.dir", str(reporter.state))
    assert (status, out) == (2, "")
    assert "choose from project" in err


def test_after_kill_9_the_address_that_was_left_is_not_believed(daemon: Daemon, reporter: Reporter) -> None:
    daemon.kill()
    assert f"http://127.0.0.1:{daemon.port}" in (daemon.state / "lock").read_text()
    assert reporter.answered() == ("file", "")


def test_a_daemon_that_hangs_is_told_and_not_waited_for(daemon: Daemon, reporter: Reporter, tmp_path: Path) -> None:
    daemon.signal(signal.SIGSTOP)
    try:
        by, err = reporter.answered()
    finally:
        daemon.signal(signal.SIGCONT)
    assert by == "file"
    assert err == (f"gpu-finops: no daemon answers at http://127.0.0.1:{daemon.port} (timed out); the figures are from the "
                   "ledger's file\n")


@contextmanager
def held(state: Path, text: str) -> Iterator[None]:
    """The directory's lock in other hands, with a text that somebody else wrote."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, text.encode())
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("text", ["4711\n", "", "4711\n\n", "4711\nhtt"], ids=["older", "just taken", "unsaid", "cut"])
def test_a_lock_that_says_no_address_means_the_configured_one(daemon: Daemon, reporter: Reporter, tmp_path: Path,
                                                              text: str) -> None:
    state = tmp_path / "held"
    state.mkdir()
    reporter.other.write_text(reporter.other.read_text().partition("[web]")[0]
                              + f'[web]\nlisten_address = "127.0.0.1:{daemon.port}"\n')
    with held(state, text):
        assert reporter.answered("--state.dir", str(state)) == ("daemon", "")


def test_a_lock_that_may_not_be_read_means_the_configured_address(daemon: Daemon, reporter: Reporter, tmp_path: Path) -> None:
    state = tmp_path / "hidden"
    state.mkdir()
    (state / "lock").symlink_to("lock")          # opening it fails for root too
    status, out, err = reporter.run("--state.dir", str(state), config=reporter.other)
    assert (status, out) == (1, "")
    assert "no daemon answers at http://127.0.0.1:" in err and "no ledger here" in err and err.count("\n") == 1
    reporter.other.write_text(reporter.other.read_text().partition("[web]")[0]
                              + f'[web]\nlisten_address = "127.0.0.1:{daemon.port}"\n')
    assert reporter.answered("--state.dir", str(state)) == ("daemon", "")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Daemon]:
    """Behind TLS, a name and a password."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "server.key")
    issued.cert_chain_pems[0].write_to_path(folder / "server.crt")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    password = bcrypt.hashpw(b"s:ecret", bcrypt.gensalt(4)).decode()
    (folder / "web.yml").write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
                                    f"basic_auth_users: {{bob: {password}}}\n")
    made = Daemon(folder, "--web.config.file", str(folder / "web.yml"), config=SITE)
    fill(made, tmp_path)
    made.start()
    until(lambda: (made.state / "lock").read_text().count("\n") == 2, "the address beside the lock")
    yield made
    made.stop()


def test_a_guarded_daemon_is_asked_by_who_knows_how_and_else_the_file_is_read(
        guarded: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(guarded, tmp_path, capsys)
    ca, url = ("--ca.file", str(guarded.directory / "ca.crt")), f"https://bob:s%3Aecret@localhost:{guarded.port}"
    state = ("--state.dir", str(guarded.state))
    assert reporter.answered(*state) == ("file", "")                         # its certificate is nobody's here
    assert reporter.answered(*state, *ca) == ("file", "")                    # it wants a password: every day, so no word of it
    assert reporter.answered("--url", url, *ca) == ("daemon", "")
    monkeypatch.setenv("GPU_FINOPS_URL", url)
    assert reporter.answered(*ca) == ("daemon", "")
    assert "the daemon's" in reporter.run("--format", "focus", *ca, config=reporter.other)[1]
    assert reporter.answered(*state, *ca) == ("file", "")                    # a directory that is named is the one meant
    monkeypatch.setenv("GPU_FINOPS_URL", f"https://localhost:{guarded.port}")
    status, out, err = reporter.run(*ca, config=reporter.other)
    assert (status, out) == (1, "")
    assert "wants a name and a password; put them into $GPU_FINOPS_URL" in err and "or unset $GPU_FINOPS_URL" in err
    monkeypatch.delenv("GPU_FINOPS_URL")
    away = tmp_path / "away"
    away.mkdir()
    with held(away, f"4711\nhttps://127.0.0.1:{guarded.port}\n"):
        for more, said in (((), "name who signed its certificate with --ca.file"), (ca, "wants a name and a password; put")):
            status, out, err = reporter.run("--state.dir", str(away), *more, config=reporter.other)
            assert (status, out, err.count("\n")) == (1, "", 1)
            assert said in err and "nor can its ledger be read without it" in err and "no ledger here" in err


def test_a_daemon_and_a_directory_are_not_named_together(reporter: Reporter) -> None:
    status, _, err = reporter.run("--url", "http://127.0.0.1:1", "--state.dir", str(reporter.state))
    assert (status, err) == (2, "gpu-finops: --url asks a daemon and --state.dir names a ledger; give one of them\n")
    status, _, err = reporter.run("--url", f"http://127.0.0.1:{free_port()}")
    assert status == 1 and "no daemon answers at" in err


def test_an_address_is_left_again_where_the_directory_was_removed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state", START_NS)
    ledger.answers_at("http://127.0.0.1:1")
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    (tmp_path / "state").rmdir()
    ledger.commit(Batch(), START_NS)
    assert (tmp_path / "state" / "lock").read_text() == f"{os.getpid()}\nhttp://127.0.0.1:1\n"
    ledger.close()


def test_a_look_at_the_lock_does_not_turn_a_daemon_away(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Ledger(state, START_NS).close()
    looking, opened = threading.Event(), threading.Event()
    descriptor = os.open(state / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)

    def start() -> None:
        looking.set()
        Ledger(state, START_NS).close()
        opened.set()

    thread = threading.Thread(target=start)
    thread.start()
    looking.wait()
    threading.Event().wait(0.03)
    assert not opened.is_set()
    os.close(descriptor)
    thread.join()
    assert opened.is_set()


