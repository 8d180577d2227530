"""Fixtures of the exporters' tests, and the flag that writes golden files anew."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from agent.settings import Web
from exporters.prometheus import PrometheusExporter
from tests.exporters import serving, snapshots

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def golden():
    """Compares bytes with a file of tests/golden; REGENERATE_GOLDEN=1 writes the file instead: read the diff then."""

    def compare(name: str, actual: bytes) -> None:
        path = GOLDEN / name
        if os.environ.get("REGENERATE_GOLDEN") == "1":
            path.write_bytes(actual)
        assert actual.decode() == path.read_text(encoding="utf-8"), f"{name}: run with REGENERATE_GOLDEN=1, read the diff"

    return compare


@pytest.fixture
def serve():
    """Starts exporters on free ports of 127.0.0.1, with the fixed snapshot published; closes them at the end."""
    started = []

    def start(hooks=None, limits=None, snapshot=snapshots.fixed(), **web):  # noqa: B008
        exporter = PrometheusExporter(Web(**{"port": 0, **web}), hooks or serving.hooks(), limits)
        started.append(exporter)
        exporter.start()
        if snapshot is not None:
            exporter.publish(snapshot)
        return exporter

    yield start
    for exporter in started:
        exporter.close()


@pytest.fixture
def server_process(repository):
    """Starts tests/exporters/server_process.py and gives its port; ends it at the end."""
    running = []

    def start(devices: int, workloads: int, web_yml: Path | None = None) -> int:
        arguments = [str(devices), str(workloads), *([str(web_yml)] if web_yml else [])]
        process = subprocess.Popen([sys.executable, "-m", "tests.exporters.server_process", *arguments], cwd=repository,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return int(process.stdout.readline())

    yield start
    for process in running:
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.fixture(scope="session")
def authority():
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture
def tls_files(authority, tmp_path):
    """Writes server certificate, key and CA to files; gives a function that renews the certificate in place."""

    def write() -> bytes:
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / "server.key")
        (tmp_path / "server.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    write()
    return write


@pytest.fixture
def trusting(authority):
    """Makes client contexts that trust the tests' CA, with a client certificate for the given identities."""

    def make(*identities: str, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if identities:
            authority.issue_cert(*identities).configure_cert(context)
        for name, version in versions.items():
            setattr(context, name, version)
        return context

    return make
