"""Every minute of random tariffs against the naive oracle: rules, DST, series, tiers, adders, tax, versions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from tests.agent.tariffs.minute_oracle import Spec
from tests.agent.tariffs.random_tariffs import compare, tariff_specs


@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.generate], database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tariff_specs())
def test_random_tariffs_agree_with_the_oracle_minute_by_minute(case: tuple[Spec, int, int]) -> None:
    # found cases are small enough to read as they are; shrinking one takes minutes
    with tempfile.TemporaryDirectory() as directory:
        compare(*case, Path(directory))
