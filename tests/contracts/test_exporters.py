"""What every exporter must do, whatever it writes to whom. A new exporter is tested here by being in the registry."""

from __future__ import annotations

import threading

import pytest

from agent.settings import Web
from exporters import EXPORTERS
from exporters.base import Hooks
from tests.exporters import snapshots

HOOKS = Hooks(reload=lambda: None, ready=lambda: True, usage=lambda query: {}, focus=lambda query: (piece for piece in ()))


@pytest.fixture(params=EXPORTERS)
def exporter(request):
    made = EXPORTERS[request.param](Web(port=0), HOOKS)
    yield made
    made.close()


def test_publish_is_welcome_before_start_while_running_and_after_close(exporter):
    exporter.publish(snapshots.empty())
    exporter.start()
    for snapshot in (snapshots.fixed(), snapshots.fleet(2, 3), snapshots.empty(stale=True)):
        exporter.publish(snapshot)
    exporter.close()
    exporter.publish(snapshots.fixed())


def test_close_may_come_twice_and_without_start(exporter):
    exporter.close()
    exporter.close()


def test_close_leaves_no_thread_behind(exporter):
    before = set(threading.enumerate())
    exporter.start()
    exporter.publish(snapshots.fixed())
    exporter.close()
    assert set(threading.enumerate()) <= before
