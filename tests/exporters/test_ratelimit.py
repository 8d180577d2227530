"""The token bucket and Go's durations; the limit over a real connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.ratelimit import RateLimit, TokenBucket, go_duration_seconds
from exporters.webconfig import load_webconfig
from tests.exporters.serving import ask


@pytest.mark.parametrize(("text", "seconds"), [
    ("1s", 1.0), ("250ms", 0.25), ("1m30s", 90.0), ("1.5h", 5400.0), ("0", 0.0), ("0s", 0.0), ("10", None), ("", None),
    ("1 s", None), ("-1s", None), ("1d", None),
])
def test_durations_as_go_writes_them(text, seconds):
    assert go_duration_seconds(text) == seconds


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 5))
def test_never_more_than_burst_and_one_an_interval(pauses, burst):
    bucket, now, taken = TokenBucket(RateLimit(2.0, burst), 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.takes(now)
        assert taken <= burst + now / 2.0 + 1e-9


def test_who_waits_an_interval_gets_one():
    bucket = TokenBucket(RateLimit(2.0, 2), 100.0)
    assert [bucket.takes(t) for t in (100.0, 100.0, 100.0, 101.0, 102.0, 103.0, 104.0)] == [
        True, True, False, False, True, False, True]


def test_requests_past_the_limit_are_refused_until_the_file_allows_them(serve, tmp_path):
    path = tmp_path / "web.yml"
    path.write_text("rate_limit: {interval: 10m, burst: 2}\n")
    port = serve(config_file=path).port
    assert [ask(port).status for _ in range(3)] == [200, 200, 429]
    path.write_text("# no limit any more\n")
    assert ask(port).status == 200


def test_an_interval_of_zero_is_no_limit(tmp_path):
    (tmp_path / "web.yml").write_text("rate_limit: {interval: 0}\n")
    assert load_webconfig(tmp_path / "web.yml").rate_limit is None
