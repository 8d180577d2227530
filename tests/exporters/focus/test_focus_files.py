"""The files of an export: metadata, Parquet, what a failure leaves behind; and corrections and rolled-up rows in them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet
import pytest

from agent.api.focus import account_of
from agent.commands.focus_export import export_focus
from agent.config.config import Config, load
from agent.errors import FinOpsError
from agent.ledger.file import FILE_NAME
from agent.ledger.focus import charge_rows
from agent.ledger.rerate import Rerating
from agent.ledger.rollup import roll_up
from agent.pricing.pricing import Pricing
from agent.units import NS_PER_S
from exporters.focus import focus_rows
from exporters.focus_columns import COLUMNS
from tests.exporters.focus import books
from tests.exporters.focus.conftest import HeldClock

ROOT = Path(__file__).resolve().parents[3]
BERLIN = ZoneInfo("Europe/Berlin")
END_NS = books.START_NS + 8 * 3600 * NS_PER_S


def program(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom agent.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def options(config: Config) -> list[object]:
    return ["report", "--format", "focus", "--config.file", config.file, "--state.dir", config.state_dir]


def test_the_metadata_tells_the_schema_of_the_file_beside_it(exported: Path, rows: list[dict[str, str]]) -> None:
    told = json.loads(exported.with_name("usage.csv.metadata.json").read_text())
    schema = told["Schema"]
    assert (schema["FocusVersion"], schema["CreationDate"]) == ("1.2", "2026-07-01T04:00:00Z")
    assert told["DataGenerator"]["DataGenerator"] == "gpu-finops-agent"
    assert [column["ColumnName"] for column in schema["ColumnDefinition"]] == list(rows[0])
    assert told["x_Dataset"] == {"File": "usage.csv", "Format": "csv", "Rows": len(rows)}
    (cost,) = [column for column in schema["ColumnDefinition"] if column["ColumnName"] == "BilledCost"]
    assert cost == {
        "ColumnName": "BilledCost", "DataType": "DECIMAL", "NumericPrecision": 38, "NumberScale": 9, "x_Nullable": False}
    for column in schema["ColumnDefinition"]:
        if column["DataType"] == "DECIMAL":
            digits = {len(row[column["ColumnName"]].partition(".")[2]) for row in rows if row[column["ColumnName"]]}
            assert digits <= {column["NumberScale"]}, column


def test_parquet_has_the_same_values_as_the_csv(config: Config, rows: list[dict[str, str]], tmp_path: Path) -> None:
    file = tmp_path / "usage.parquet"
    export_focus(config, None, None, file, HeldClock())
    table = pyarrow.parquet.read_table(file)
    assert table.schema.names == [column.name for column in COLUMNS]
    assert {field.name: field.nullable for field in table.schema} == {column.name: column.nullable for column in COLUMNS}
    found = table.to_pylist()
    assert len(found) == len(rows)
    for values, cells in zip(found, rows, strict=True):
        for name, value in values.items():
            shown = "" if value is None else value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else (
                f"{value:f}" if isinstance(value, Decimal) else value)
            assert shown == cells[name], name
    assert json.loads((tmp_path / "usage.parquet.metadata.json").read_text())["x_Dataset"]["Format"] == "parquet"


def test_without_pyarrow_parquet_says_what_to_install_and_csv_works(config: Config, tmp_path: Path) -> None:
    gone = "sys.modules['pyarrow'] = None"
    done = program(*options(config), "-o", tmp_path / "u.parquet", before=gone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("gpu-finops: Parquet needs pyarrow, which is not installed; install gpu-finops-agent[parquet], or "
                           "name a file that ends in .csv\n")
    assert list(tmp_path.iterdir()) == []
    assert program(*options(config), "-o", tmp_path / "u.csv", before=gone).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"u.csv", "u.csv.metadata.json"}


def test_stdout_gets_the_csv_alone(config: Config, rows: list[dict[str, str]]) -> None:
    done = program(*options(config))
    assert done.returncode == 0, done.stderr
    assert list(csv.DictReader(io.StringIO(done.stdout, newline=""))) == rows


def test_focus_has_rows_of_its_own(config: Config) -> None:
    done = program(*options(config), "--by", "project")
    assert (done.returncode, done.stderr) == (
        2, "gpu-finops: --format focus has its own rows and no shared idle cost; leave --by and --idle-policy out\n")


@pytest.mark.parametrize("name", ["usage.csv", "usage.parquet"])
def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(config: Config, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("yesterday's")
    (tmp_path / f"{name}.metadata.json").mkdir()             # in the way: the rename onto it fails
    with pytest.raises(FinOpsError, match=f"{name}: cannot be written .*; choose another file with -o"):
        export_focus(config, None, None, file, HeldClock())
    assert file.read_text() == "yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.metadata.json"]


def test_who_reads_the_old_file_goes_on_reading_it(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    file.write_text("yesterday's")
    with file.open() as reader:
        export_focus(config, None, None, file, HeldClock())
        assert reader.read() == "yesterday's"
    assert file.read_text().startswith("BilledCost,")


def test_a_ledger_that_is_not_there_is_named(config: Config, tmp_path: Path) -> None:
    done = program("report", "--format", "focus", "--config.file", config.file, "--state.dir", tmp_path / "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no ledger here; start gpu-finops run first" in done.stderr


def test_a_directory_that_is_not_there_is_named(config: Config, tmp_path: Path) -> None:
    done = program(*options(config), "-o", tmp_path / "none" / "u.csv")
    assert done.returncode == 1
    assert "none/u.csv: cannot be written (No such file or directory); choose another file with -o" in done.stderr


@pytest.fixture
def changed(tmp_path: Path) -> Config:
    """A ledger of its own, to be changed."""
    made = books.configure(tmp_path)
    books.fill(made, minutes=4 * 60)
    return made


def export(config: Config) -> list[dict[str, object]]:
    rows = charge_rows(config.state_dir, None, None, BERLIN)
    return list(focus_rows(rows, account_of(config, END_NS)))


def booked_nano(config: Config) -> int:
    with closing(sqlite3.connect(config.state_dir / FILE_NAME)) as db:
        return int(db.execute("SELECT SUM(cost_nano) - SUM(credit_nano) FROM cost_total").fetchone()[0])


def test_a_re_rating_shows_as_corrections_that_sum_to_the_ledger(changed: Config) -> None:
    before = booked_nano(changed)
    (changed.file.parent / "prices.csv").write_text(books.PRICES.replace("81.37", "99.99"))
    new = load(changed.file, {"state_dir": changed.state_dir}, environ={"HOME": "/"})
    with closing(sqlite3.connect(changed.state_dir / FILE_NAME, isolation_level=None)) as db:
        Rerating(db, Pricing(new.tariff, "spot", new.site.pue, (), None, {})).write(books.START_NS, END_NS, END_NS)
    rows = export(new)
    corrected = [row for row in rows if row["x_PriceStatus"] == "corrected"]
    assert {(row["ChargePeriodStart"].strftime("%H:%M"), row["ChargePeriodEnd"].strftime("%H:%M")) for row in corrected} == {
        ("20:00", "20:15"), ("20:00", "20:30")}            # one workload pauses at 20:15
    assert {(row["ChargeCategory"], row["ChargeClass"], row["ListUnitPrice"]) for row in corrected} == {
        ("Adjustment", "Correction", None)}
    assert sum(row["x_EnergyJoules"] for row in corrected) == 0
    assert sum(row["BilledCost"] for row in corrected) > 0
    assert sum(row["BilledCost"] for row in rows) == Decimal(booked_nano(new)).scaleb(-9) > Decimal(before).scaleb(-9)
    assert {row["ChargeClass"] for row in rows if row["x_PriceStatus"] != "corrected"} == {None}
    open_month = list(focus_rows(charge_rows(new.state_dir, None, None, BERLIN), account_of(new, books.START_NS)))
    assert {row["ChargeClass"] for row in open_month} == {None}


def test_rows_that_were_rolled_up_to_hours_keep_sums_and_price_periods(changed: Config) -> None:
    total = sum(row["BilledCost"] for row in export(changed))
    with closing(sqlite3.connect(changed.state_dir / FILE_NAME, isolation_level=None)) as db:
        roll_up(db, BERLIN, 0, 365 * 86_400 * NS_PER_S, END_NS + 86_400 * NS_PER_S)
        # a price changes in each of these hours: at 20:30, 21:30, 22:45, and a rent at 23:30
        assert {span // NS_PER_S for (span,) in db.execute("SELECT DISTINCT span_ns FROM usage")} == {900, 1800, 2700}
    rows = export(changed)
    assert sum(row["BilledCost"] for row in rows) == total
    assert {(row["ChargePeriodEnd"] - row["ChargePeriodStart"]).total_seconds() for row in rows} == {900, 1800, 2700, 3600}
    mig = [(f"{row['ChargePeriodStart']:%H:%M}", f"{row['ChargePeriodEnd']:%H:%M}", row["x_Rate"])
           for row in rows if row["ResourceId"] == books.MIG and row["x_Component"] == "energy"]
    assert mig == [("20:00", "20:30", "market"), ("20:30", "21:00", "market"), ("21:00", "21:30", "market"),
                   ("21:30", "22:00", "market"), ("22:00", "22:45", None), ("22:45", "23:00", "night"),
                   ("23:00", "00:00", "night")]
