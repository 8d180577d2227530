"""``gpu-finops run``: the daemon."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from agent.errors import UsageError


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("run", help="the daemon: sample, price, keep, serve")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    add_source_options(parser)
    parser.add_argument("--web.listen-address", dest="listen_address", metavar="H:P")
    parser.add_argument("--web.config.file", dest="web_config_file", type=Path, metavar="F")
    parser.add_argument("--web.allow-unauthenticated", dest="allow_unauthenticated", action="store_true")
    parser.add_argument("--state.dir", dest="state_dir", type=Path, metavar="D")
    parser.add_argument("--log.level", dest="log_level", choices=["debug", "info", "warn", "error"], default="info")
    parser.add_argument("--log.format", dest="log_format", choices=["logfmt", "json"], default="logfmt")
    parser.set_defaults(run=run)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where readings come from; ``record`` and ``devices`` take them too."""
    parser.add_argument("--source", choices=["auto", "nvml", "simulated", "replay"], default="auto")
    parser.add_argument("--simulated.scenario", dest="scenario", type=Path, metavar="F")
    parser.add_argument("--simulated.seed", dest="seed", type=int, metavar="N")
    parser.add_argument("--simulated.devices", dest="devices", type=int, metavar="N")
    parser.add_argument("--replay.file", dest="replay_file", type=Path, metavar="FILE")


def source_of(options: argparse.Namespace, tag_keys: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """The source's name and its options. ``auto`` is NVML: where there is no driver it says what to do instead."""
    if options.source == "replay":
        if options.replay_file is None:
            raise UsageError("--source replay wants --replay.file FILE, a recording of gpu-finops record")
        return "replay", {"file": str(options.replay_file)}
    if options.source == "simulated":
        scenario = str(options.scenario) if options.scenario is not None else None
        chosen = {"seed": options.seed, "devices": options.devices, "scenario": scenario}
        return "simulated", {name: value for name, value in chosen.items() if value is not None}
    return "nvml", {"tag_keys": list(tag_keys)}


def run(options: argparse.Namespace) -> int:
    from agent import log  # noqa: PLC0415 - the daemon's parts are loaded only when it runs
    from agent.app import App  # noqa: PLC0415

    log.set_up(options.log_level, options.log_format)
    overrides = {
        "web.listen_address": options.listen_address,
        "web.config_file": options.web_config_file,
        "web.allow_unauthenticated": options.allow_unauthenticated or None,
        "state_dir": options.state_dir,
    }
    app = App(options.config_file, {k: v for k, v in overrides.items() if v is not None},
              lambda config: source_of(options, config.tags.keys))
    sys.stderr.flush()
    return app.run()
