"""``gpu-finops devices``: one look at what is there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.clock import SystemClock
from agent.commands.run import add_source_options, source_of
from agent.config.config import load
from agent.energy.metering import method_of
from agent.errors import SourceError
from agent.files.printable import printable
from agent.model import DeviceReading, ProcessFacts, Reading
from agent.probe import Probe
from agent.units import NS_PER_S

PATIENCE_NS = 10 * NS_PER_S          # the first look also loads the driver's library

WHY = {
    "counter": "the driver has an energy counter",
    "samples": "no energy counter; the driver buffers power samples",
    "trapezoid_instant": "no energy counter and no buffered samples; instantaneous power",
    "trapezoid": "no energy counter, no buffered samples, no instantaneous power; averaged power",
    "none": "neither energy nor power can be read",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("devices", help="one look at what is there")
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="F")
    add_source_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    config = load(options.config_file, {})
    probe = Probe(*source_of(options, config.tags.keys), SystemClock(), deadline_ns=PATIENCE_NS)
    probe.start()
    try:
        reading = probe.read()
    finally:
        probe.close()
    if reading is None:
        raise SourceError(f"the driver did not answer within {PATIENCE_NS // NS_PER_S} s; look at dmesg for NVRM or Xid lines")
    facts = {(fact.pid, fact.start_ticks): fact for fact in reading.started}
    documents = [_document(device, facts) for device in reading.devices]
    if options.json:
        head = {"driver_version": reading.driver_version, "simulated": reading.simulated, "devices": documents}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(head), indent=2).decode() + "\n")
    else:
        sys.stdout.write(_text(reading, documents))
    return 0


def _document(device: DeviceReading, facts: dict[tuple[int, int], ProcessFacts]) -> dict[str, Any]:
    method = "mig" if device.parent_uuid else method_of(device)
    why = "the parent GPU's energy, split over its instances" if device.parent_uuid else device.failed or WHY[method]
    return {
        "uuid": device.uuid, "index": device.index, "name": device.name, "parent_uuid": device.parent_uuid,
        "energy_method": method, "why": why, "power_watts": _thousandth(device.power_mw),
        "power_limit_watts": _thousandth(device.power_limit_mw), "utilization_ratio": device.utilization_ratio,
        "memory_used_bytes": device.memory_used_bytes, "memory_total_bytes": device.memory_total_bytes,
        "temperature_celsius": device.temperature_celsius, "failed": device.failed, "errors": dict(device.errors),
        "processes": [
            {"pid": use.pid, "memory_bytes": use.memory_bytes, "kind": use.kind,
             "user": fact.user if fact else "", "command": fact.command if fact else "",
             "hidden": fact.hidden if fact else None}
            for use in device.processes or ()
            for fact in [facts.get((use.pid, use.start_ticks))]
        ],
    }


def _thousandth(amount: int | None) -> float | None:
    return None if amount is None else amount / 1000


def _text(reading: Reading, documents: list[dict[str, Any]]) -> str:
    lines = [f"driver {reading.driver_version}" + (", SIMULATED devices" if reading.simulated else "")]
    if not documents:
        lines.append("no devices: the driver is there and lists none; look at lspci and nvidia-smi")
    for device in documents:
        lines += ["", f"{device['index']}  {device['name']}  {device['uuid']}"]
        lines.append(f"   energy: {device['energy_method']} ({device['why']})")
        if device["power_watts"] is not None:
            limit = f" of {device['power_limit_watts']:g} W" if device["power_limit_watts"] is not None else ""
            lines.append(f"   power: {device['power_watts']:g} W{limit}")
        if device["memory_used_bytes"] is not None and device["memory_total_bytes"]:
            lines.append(f"   memory: {device['memory_used_bytes'] >> 20} of {device['memory_total_bytes'] >> 20} MiB")
        for process in device["processes"]:
            memory = "memory unknown" if process["memory_bytes"] is None else f"{process['memory_bytes'] >> 20} MiB"
            told = process["hidden"] or f"{process['user']}  {process['command'][:80]}"
            lines.append(f"   {process['pid']:>8}  {memory:>10}  {told}")
        lines += [f"   {field}: {error}" for field, error in sorted(device["errors"].items())]
    return "".join(f"{printable(line)}\n" for line in lines)
