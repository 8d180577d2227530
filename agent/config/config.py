"""The configuration: found, read whole, checked whole, and only then given out as frozen records.

Every fault is reported, not only the first, each as ``FILE:LINE: KEY: what is wrong, what to write instead``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from agent.config.calibration import read_calibration
from agent.config.money import read_budgets, read_hardware, read_host
from agent.config.sections import read_idle, read_ledger, read_site, read_web
from agent.config.tags import read_tags
from agent.errors import ConfigError
from agent.files.inputs import is_file
from agent.files.stamps import Stamp, any_changed, file_stamp
from agent.pricing.carbon import Carbon, CarbonSeries, ConstantCarbon
from agent.series_csv import Series
from agent.settings import Budget, CalibrationRule, Hardware, Host, Idle, Retention, Site, Tags, Web
from agent.tariffs.reading import read_tariff
from agent.tariffs.ruled import RuledTariff
from agent.toml.document import Faults, Node, dotted, merge, plain_node, read_document
from agent.toml.table import Table
from agent.units import MJ_PER_KWH, NS_PER_MS, NS_PER_S

SYSTEM_FILE: Final = Path("/etc/gpu-finops/gpu-finops.toml")
LOCAL_FILE: Final = Path("gpu-finops.toml")
SYSTEM_STATE_DIR: Final = Path("/var/lib/gpu-finops")
MOST_FILES: Final = 100
_HOUR_NS = 3_600 * NS_PER_S


class Config(Struct, frozen=True, kw_only=True):
    """Everything that was configured; what was not has its default."""

    file: Path | None                            # None: built-in defaults
    state_dir: Path
    state_dir_given: bool = False                # it was said; else it is the default, where there may be no ledger
    interval_ns: int = NS_PER_S
    flush_interval_ns: int = 5 * NS_PER_S        # between two commits of the ledger
    site: Site = Site()
    tariffs: Mapping[str, RuledTariff] = {}
    hardware: tuple[Hardware, ...] = ()
    host: Host | None = None
    calibration: tuple[CalibrationRule, ...] = ()
    tags: Tags = Tags()
    idle: Idle = Idle()
    budgets: tuple[Budget, ...] = ()
    ledger: Retention = Retention()
    web: Web = Web()
    carbon_series: Series | None = None
    files: Mapping[Path, Stamp] = {}             # configuration files, as they were when read
    data_files: Mapping[Path, Stamp] = {}        # the price and carbon files that they name

    @property
    def timezone(self) -> str:
        """Whose days and months budgets and reports use."""
        return self.site.timezone

    @property
    def tariff(self) -> RuledTariff | None:
        """The site's tariff."""
        return self.tariffs[self.site.tariff] if self.site.tariff is not None else None

    @property
    def carbon(self) -> Carbon | None:
        """Grams of CO2e per kWh at an instant; None where none is configured."""
        if self.carbon_series is not None:
            return CarbonSeries(self.carbon_series)
        constant = self.site.carbon_g_per_kwh
        return ConstantCarbon(constant) if constant is not None else None

    def used_mj(self, device_energy_mj: Callable[[int], int]) -> Callable[[int], int]:
        """The site's energy since an instant, as tiers count it: the devices' times PUE, and what others used."""
        numerator, denominator = self.site.pue.as_integer_ratio()
        baseline_mj = int(self.site.baseline_kwh * MJ_PER_KWH)
        return lambda since_ns: device_energy_mj(since_ns) * numerator // denominator + baseline_mj

    def data_files_changed(self) -> bool:
        """Whether a price or carbon file is not the one that was read."""
        return any_changed(self.data_files)

    def keeping(self, running: Config) -> Config:
        """This configuration with what can change at a start only taken from the one that is running: the state
        directory, and the tags (with the budgets that match on them) where their keys differ."""
        if self.tags.keys == running.tags.keys:
            return replace(self, state_dir=running.state_dir)
        return replace(self, state_dir=running.state_dir, tags=running.tags, budgets=running.budgets)


def load(path: Path | None, overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None,
         now_ns: int | None = None) -> Config:
    """The configuration of a file, or of the first default place that has one, or the defaults.

    ``overrides`` are dotted keys from the command line (``{"web.listen_address": ":10061"}``); they win over the file.
    With ``now_ns``, a price series that must reach the present and does not is a fault. Raises ConfigError with all faults.
    """
    environment = os.environ if environ is None else environ
    faults = Faults()
    files: dict[Path, Stamp] = {}
    file = _find(path, environment)
    root: Node | None = Node({}, file, 1, "")
    if file is not None:
        root = _read_with_includes(file, files, faults)
    if root is None:
        raise ConfigError(faults.lines())
    for key, value in (overrides or {}).items():
        _override(root, key, value)
    config = _read(root, file, files, faults, environment, now_ns)
    if faults:
        raise ConfigError(faults.lines())
    return config


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        if not _is_there(path):
            raise ConfigError([f"{path}: there is no such file; give the path of a configuration with --config.file"])
        return path
    named = environ.get("GPU_FINOPS_CONFIG")
    if named:
        if not _is_there(Path(named)):
            raise ConfigError([f"{named}: there is no such file; correct $GPU_FINOPS_CONFIG, which names it, or unset it"])
        return Path(named)
    # A working directory that this user may not enter (sudo -u, from root's home) has nothing to say; /etc has.
    return next((file for file, hidden in ((LOCAL_FILE, False), (SYSTEM_FILE, True)) if _is_there(file, hidden)), None)


def _is_there(file: Path, hidden: bool = True) -> bool:
    """``hidden``: the answer where it may not even be looked for. Reading it then says why."""
    try:
        return file.exists()
    except OSError:
        return hidden


def _read_with_includes(file: Path, files: dict[Path, Stamp], faults: Faults) -> Node | None:
    """A file's tree with those of the files it includes, and that they include, merged into it."""
    files[file] = file_stamp(file)
    root = read_document(file, faults)
    if root is None:
        return None
    names = Table(root, faults).items("include") or ()
    root.value.pop("include", None)
    for name in names:
        if not isinstance(name.value, str) or not name.value:
            faults.at(name, 'is not a file name; write names in quotes, such as ["tariffs.toml"]')
            continue
        included = file.parent / name.value
        if len(files) >= MOST_FILES:
            faults.at(name, f"is one of more than {MOST_FILES} files; put them together")
            break
        if not is_file(included):
            faults.at(name, f"is {name.value!r}, and there is no such file; name an existing one "
                            f"(looked for {str(included)!r})")
        elif any(included.resolve() == known.resolve() for known in files):
            faults.at(name, f"is {name.value!r}, which is read already; include each file once")
        elif (more := _read_with_includes(included, files, faults)) is not None:
            merge(root, more, faults)
    return root


def _override(root: Node, dotted_key: str, value: Any) -> None:
    *tables, last = dotted_key.split(".")
    node = root
    for name in tables:
        node = node.value.setdefault(name, plain_node({}, dotted(node.key, name)))
        if not isinstance(node.value, dict):
            return                               # at fault itself
    node.value[last] = plain_node(value, dotted_key)


def _read(root: Node, file: Path | None, files: Mapping[Path, Stamp], faults: Faults, environ: Mapping[str, str],
          now_ns: int | None) -> Config:
    table = Table(root, faults)
    table.get("include")                         # read before
    data_files: dict[Path, Stamp] = {}

    def section(name: str) -> Table:
        return table.table(name) or Table(Node({}, file, 1, name), faults)

    tariffs_table = section("tariff")
    tariffs = {name: read_tariff(name, node, faults, data_files, now_ns)
               for name in tariffs_table.names() if (node := tariffs_table.get(name)) is not None}
    site, carbon_series = read_site(section("site"), tariffs, data_files)
    tariff = tariffs.get(site.tariff) if site.tariff is not None else None
    tags = read_tags(section("tags"))
    before_money = len(faults)
    site_currency = tariff.currency if tariff is not None else _currency_of(tariffs_table, site.tariff)
    hardware = read_hardware(table.tables("hardware"), site_currency, ZoneInfo(site.timezone), data_files, now_ns)
    host = read_host(table.table("host"), site_currency)
    priced = (site_currency, *(entry.currency for entry in hardware), host.currency if host is not None else None)
    currencies = list(dict.fromkeys(currency for currency in priced if currency is not None))
    if not currencies and len(faults) > before_money:
        currencies = ["EUR"]                     # hardware lacks its own currency; budgets need not repeat that
    config = Config(
        file=file, state_dir=_state_dir(table, environ),
        state_dir_given=table.get("state_dir") is not None or bool(environ.get("STATE_DIRECTORY")),
        interval_ns=table.duration_ns("interval", 100 * NS_PER_MS, _HOUR_NS) or NS_PER_S,
        flush_interval_ns=table.duration_ns("flush_interval", 100 * NS_PER_MS, _HOUR_NS) or 5 * NS_PER_S,
        site=site, tariffs={name: tariff for name, tariff in tariffs.items() if tariff is not None},
        hardware=hardware, host=host, calibration=read_calibration(table.tables("calibration")), tags=tags,
        idle=read_idle(section("idle")),
        budgets=read_budgets(table.tables("budget"), tags.keys, currencies), web=read_web(section("web")),
        ledger=read_ledger(section("ledger")),
        carbon_series=carbon_series, files=files, data_files=data_files)
    table.close()
    return config


def _currency_of(tariffs: Table, name: str | None) -> str | None:
    """The currency that a faulty tariff names all the same, so that its faults draw no others after them."""
    if name is None:
        return None
    node = tariffs.node.value[name]
    currency = node.value.get("currency") if isinstance(node.value, dict) else None
    return currency.value if currency is not None and isinstance(currency.value, str) else "EUR"


def _state_dir(table: Table, environ: Mapping[str, str]) -> Path:
    """The command line, else systemd's $STATE_DIRECTORY, else the file, else the system's place where it can be written,
    else the user's own."""
    node, configured = table.get("state_dir"), table.path("state_dir")
    given_by_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if configured is not None and node is not None and node.file is None:
        return configured
    if given_by_systemd:
        return Path(given_by_systemd)
    if configured is not None:
        return configured
    if os.geteuid() == 0 or os.access(SYSTEM_STATE_DIR, os.W_OK):
        return SYSTEM_STATE_DIR
    return _own_state_dir(environ)


def _own_state_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "gpu-finops"
    try:
        home = Path(environ.get("HOME") or "~").expanduser()
    except RuntimeError:                         # a user without a home: told, where it matters, that he may not write there
        return SYSTEM_STATE_DIR
    return home / ".local" / "state" / "gpu-finops"
