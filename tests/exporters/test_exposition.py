"""The exposition against prometheus_client's own output, promtool, and a golden file."""

from __future__ import annotations

import gzip
import subprocess
import threading

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.model import BudgetStatus, Snapshot, WorkloadStatus
from exporters.exposition import OPENMETRICS, TEXT, Exposition, choose_format, takes_gzip
from exporters.families import FAMILIES, SELF_FAMILIES, STATES
from exporters.selfstatus import ProcessReader, ProcessStatus, SelfStatus, WebStatus
from tests.exporters import snapshots

SELF = SelfStatus(
    process=ProcessStatus(cpu_seconds=1.25, resident_bytes=31_457_280, virtual_bytes=2**31, open_descriptors=14,
                          start_utc_seconds=1_795_305_000.12, max_descriptors=None),
    web=WebStatus(connections=3, evicted=1, timed_out=2, refused=0),
)


class Oracle:
    """The same table as Metric objects, for prometheus_client to write. It walks nested keys by itself."""

    def __init__(self, snapshot: Snapshot, status: SelfStatus) -> None:
        self.sources = ((snapshot, FAMILIES), (status, SELF_FAMILIES))
        self.tag_keys = snapshot.tag_keys

    def collect(self):
        for source, families in self.sources:
            for family in families:
                name = family.name.removesuffix("_total") if family.type == "counter" else family.name
                unit = family.unit if family.unit and name.endswith("_" + family.unit) else ""
                metric = Metric(name, family.help, family.type, unit)
                for key, raw in family.read(source):
                    metric.add_sample(family.name, self.labels(family.labels, key), raw / family.scale)
                if metric.samples:
                    yield metric

    def labels(self, names, key):
        parts = [key] if isinstance(key, str) else list(key)
        labels = {}
        for name, part in zip(names, parts, strict=True):
            labels.update(zip(self.tag_keys, part, strict=True) if name == "W" else [(name, part)])
        return labels


def exporter(snapshot: Snapshot, status: SelfStatus = SELF) -> Exposition:
    made = Exposition(lambda: status)
    made.publish(snapshot)
    return made


def assert_as_the_library(snapshot: Snapshot, status: SelfStatus = SELF) -> None:
    ours, oracle = exporter(snapshot, status), Oracle(snapshot, status)
    assert ours.render(TEXT).decode().split("\n") == generate_latest(oracle).decode().split("\n")
    assert ours.render(OPENMETRICS).decode().split("\n") == generate_openmetrics(oracle).decode().split("\n")


@pytest.mark.parametrize("snapshot", [
    snapshots.fixed(), snapshots.empty(), snapshots.fleet(3, 4, tick=7), replace(snapshots.fixed(), stale=True),
], ids=["fixed", "empty", "fleet", "stale"])
def test_each_line_is_prometheus_clients(snapshot):
    assert_as_the_library(snapshot)


words = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(['a"b', "a\\b", "a\nb", "\\n", '"', "格", ""])
amounts = st.integers(-10**18, 10**18)


@given(
    workloads=st.dictionaries(st.tuples(words, words), amounts, max_size=5), driver=words, burn=st.dictionaries(
        st.sampled_from(["1h", "6h", "3d"]), st.floats() | st.sampled_from([1e6, 999_999.9999999999, 1e16, 5e-324])),
    money=amounts,
)
def test_each_line_is_prometheus_clients_for_any_values(workloads, driver, burn, money):
    first = snapshots.uuid(0)
    totals = replace(
        snapshots.NO_TOTALS,
        energy_mj={(first, w): n for w, n in workloads.items()},
        cost_nano={(first, w, "energy", driver): n for w, n in workloads.items()},
    )
    budget = BudgetStatus(name=driver, period="2026", currency="EUR", limit_nano=money, spent_nano=-money,
                          forecast_nano=0, burn_ratio=burn)
    assert_as_the_library(snapshots.empty(
        tag_keys=("project", "Zone"), devices=(snapshots.device(0, name=driver),), driver_version=driver, totals=totals,
        budgets=(budget,), workloads=tuple(
            WorkloadStatus(uuid=first, workload=w, power_mw=n, memory_used_bytes=None, cost_nano_per_hour=n, method="sole")
            for w, n in workloads.items()),
    ))


def test_a_second_snapshot_is_not_the_first_ones_text():
    ours = exporter(snapshots.fleet(2, 3, tick=0))
    ours.render(TEXT)
    for tick in (1, 2):
        snapshot = snapshots.fleet(2, 3, tick=tick)
        ours.publish(snapshot)
        assert ours.render(TEXT) == generate_latest(Oracle(snapshot, SELF))


def test_other_tag_keys_after_a_reload_give_other_labels():
    ours = exporter(snapshots.fixed())
    ours.render(TEXT)
    snapshot = replace(snapshots.fixed(), tag_keys=("project", "group", "model", "model_version"))
    ours.publish(snapshot)
    assert b'group="quant"' in ours.render(TEXT)
    assert b'team="quant"' not in ours.render(TEXT)


def test_series_that_have_gone_are_forgotten():
    ours = exporter(snapshots.fleet(1, 500))
    ours.render(TEXT)
    ours.publish(snapshots.fleet(1, 1, tick=1))
    ours.render(TEXT)
    kept = sum(len(lines._beginnings) for lines in ours._families)
    assert kept <= 4 * snapshots_series(ours)


def snapshots_series(ours: Exposition) -> int:
    return sum(not line.startswith("#") for line in ours.render(TEXT).decode().splitlines())


@pytest.mark.parametrize("content_type", [TEXT, OPENMETRICS])
def test_golden(golden, content_type):
    suffix = "txt" if content_type == TEXT else "openmetrics.txt"
    golden(f"metrics.{suffix}", exporter(snapshots.fixed()).render(content_type))


@pytest.mark.parametrize("snapshot", [snapshots.fixed(), snapshots.fleet(2, 3)], ids=["fixed", "fleet"])
def test_promtool_finds_nothing(snapshot):
    checked = subprocess.run(["promtool", "check", "metrics"], input=exporter(snapshot).render(TEXT),
                             capture_output=True, check=False, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_librarys_parser_reads_every_number_back():
    snapshot = snapshots.fixed()
    parsed = {(s.name, *sorted(s.labels.items())): s.value
              for family in text_string_to_metric_families(exporter(snapshot).render(OPENMETRICS).decode())
              for s in family.samples}
    gpu = ("uuid", snapshots.uuid(0))
    kronos = (("model", "kronos-base"), ("model_version", "1.0"), ("project", "kronos"), ("team", "quant"))
    # 5 GJ of energy in mJ, 1 666 666 667 nano-yuan, 1.2 yuan in atto-units, 412 500 mW: by hand.
    assert parsed[("finops_workload_energy_joules_total", *kronos, gpu)] == 5_000_000.0
    assert parsed[("finops_workload_cost_total", *sorted([*kronos, gpu, ("component", "energy"), ("currency", "CNY")]))] \
        == 1.666666667
    assert parsed[("finops_tariff_price_per_kwh", ("currency", "CNY"), ("rate", "peak"), ("tariff", "cn-industrial"))] == 1.2
    assert parsed[("finops_gpu_power_watts", gpu)] == 412.5
    assert parsed[("finops_workload_gpu_seconds_total", *kronos, gpu)] == 25_000.0
    assert parsed[("finops_workload_emissions_grams_total", *kronos, gpu)] == 791_666.667
    assert parsed[("finops_agent_last_sample_timestamp_seconds",)] == 1_795_305_600.0


def lines_about(uuid: str, text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if uuid in line]


def test_a_device_that_does_not_answer_keeps_counters_and_loses_gauges():
    lines = lines_about(snapshots.uuid(1), exporter(snapshots.fixed()).render(TEXT))
    names = {line.split("{")[0] for line in lines}
    assert names == {
        "finops_gpu_info", "finops_gpu_up", "finops_gpu_state", "finops_gpu_energy_joules_total",
        "finops_gpu_gap_seconds_total", "finops_gpu_unpriced_joules_total", "finops_gpu_state_seconds_total",
        "finops_workload_energy_joules_total", "finops_workload_gpu_seconds_total", "finops_workload_cost_total",
    }
    assert f'finops_gpu_up{{uuid="{snapshots.uuid(1)}"}} 0.0' in lines


def test_stale_takes_every_device_down_and_no_counter_away():
    fresh = exporter(snapshots.fixed()).render(TEXT).decode().splitlines()
    stale = exporter(replace(snapshots.fixed(), stale=True)).render(TEXT).decode().splitlines()
    counters = [line for line in fresh if line.split("{")[0].split(" ")[0].endswith("_total")]
    assert [line for line in stale if line in counters] == counters
    assert f'finops_gpu_up{{uuid="{snapshots.uuid(0)}"}} 0.0' in stale
    assert f'finops_gpu_state{{state="unknown",uuid="{snapshots.uuid(0)}"}} 1.0' in stale
    assert "finops_agent_probe_up 0.0" in stale
    gone = ("finops_gpu_power_watts{", "finops_workload_power_watts{", "finops_workload_cost_per_hour{", "finops_host_cpu")
    assert not [line for line in stale if line.startswith(gone)]


def test_exactly_one_state_is_set():
    lines = [line for line in exporter(snapshots.fixed()).render(TEXT).decode().splitlines()
             if line.startswith("finops_gpu_state{")]
    assert len(lines) == 2 * len(STATES)
    assert sum(line.endswith(" 1.0") for line in lines) == 2


def test_nothing_to_show_before_the_first_snapshot():
    ours = Exposition()
    assert ours.render(TEXT) is None
    assert ours.snapshot is None


def test_a_snapshot_is_rendered_once_however_many_ask():
    asked = []

    def status() -> SelfStatus:
        asked.append(threading.get_ident())
        return SELF

    ours = Exposition(status)
    ours.publish(snapshots.fleet(4, 20))
    start, bodies = threading.Barrier(8), []

    def scrape(content_type: str, compressed: bool) -> None:
        start.wait()
        bodies.append((content_type, compressed, ours.render(content_type, compressed)))

    threads = [threading.Thread(target=scrape, args=(t, c)) for t in (TEXT, OPENMETRICS) for c in (False, True)] * 1
    threads += [threading.Thread(target=scrape, args=(t, c)) for t in (TEXT, OPENMETRICS) for c in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    plain = {t: b for t, c, b in bodies if not c}
    assert all(gzip.decompress(b) == plain[t] for t, c, b in bodies if c)
    assert all(b == plain[t] for t, c, b in bodies if not c)


@pytest.mark.parametrize(("accept", "expected"), [
    ("", TEXT),
    ("*/*", TEXT),
    ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
    ("text/plain;version=0.0.4", TEXT),
    # What Prometheus 2.42 and 3.0 send.
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
    ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;"
     "version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
     "*/*;q=0.2", OPENMETRICS),
    ("application/openmetrics-text", OPENMETRICS),
    ("application/openmetrics-text; version=0.0.1", TEXT),
    ("application/openmetrics-text; version=2.0.0", TEXT),
    ("application/openmetrics-text;q=0.2,text/plain;q=0.9", TEXT),
    ("application/openmetrics-text;q=0", TEXT),
    ("application/openmetrics-text;q=nonsense", TEXT),
    (",;=,;q", TEXT),
])
def test_format_by_accept_header(accept, expected):
    assert choose_format(accept) == expected


@pytest.mark.parametrize(("accept", "expected"), [
    ("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False), ("*", True),
    ("gzip ; q=0.000, br", False),
])
def test_gzip_by_accept_encoding_header(accept, expected):
    assert takes_gzip(accept) is expected


def test_own_process_is_read_as_psutil_reads_it():
    oracle, mine = psutil.Process(), ProcessReader().read()
    assert mine is not None
    assert mine.max_descriptors == oracle.rlimit(psutil.RLIMIT_NOFILE)[0]
    assert abs(mine.start_utc_seconds - oracle.create_time()) < 1.5                      # btime has whole seconds
    assert abs(mine.cpu_seconds - sum(oracle.cpu_times()[:2])) < 1.0
    assert abs(mine.open_descriptors - oracle.num_fds()) <= 2                            # listings count themselves
    assert mine.resident_bytes == pytest.approx(oracle.memory_info().rss, rel=0.2)


def test_a_hidden_proc_gives_no_number(tmp_path):
    assert ProcessReader(tmp_path).read() is None
    text = exporter(snapshots.empty(), SelfStatus()).render(TEXT)
    assert b"process_" not in text


def test_a_workload_that_is_not_listed_has_no_series_and_its_totals_stay():
    fixed = snapshots.fixed()
    listed = replace(fixed, listed=frozenset({snapshots.KRONOS, snapshots.IDLE, snapshots.UNTAGGED}))
    text = exporter(listed).render(TEXT).decode()
    assert "kronos-small" in exporter(fixed).render(TEXT).decode()
    assert "kronos-small" not in text
    assert 'model="kronos-base"' in text
    assert "__idle__" in text


def test_emissions_without_a_carbon_intensity_have_no_series():
    fixed = snapshots.fixed()
    unknown = replace(fixed, totals=replace(fixed.totals, emissions_ug=dict.fromkeys(fixed.totals.energy_mj, 0)))
    assert b"emissions" not in exporter(unknown).render(TEXT)
