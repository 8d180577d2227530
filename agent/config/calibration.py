"""Reads ``[[calibration]]``."""

from __future__ import annotations

from decimal import Decimal

from agent.settings import CalibrationRule
from agent.toml.table import Table

LEAST, MOST = Decimal("0.5"), Decimal(2)
_DECIMALS = 6


def read_calibration(entries: list[Table]) -> tuple[CalibrationRule, ...]:
    """The factors, in order: the first glob that matches a device counts."""
    found: list[CalibrationRule] = []
    for entry in entries:
        gpu = entry.need_text("gpu", '"GPU-1234*", a glob on the UUID or the NVML name')
        if gpu and (taken := next((rule.gpu for rule in found if rule.gpu in {gpu, "*"}), None)) is not None:
            entry.fault(entry.node, f"can never match, as the earlier {taken!r} takes all its devices; move it up or remove it")
        factor = entry.number("factor")
        if "factor" not in entry.names():
            entry.missing("factor", "factor = 1.034, what your meter shows over what the device shows")
        elif factor is not None and not LEAST <= factor <= MOST:
            entry.fault(entry.node.value["factor"],
                        f"is {factor}, and no sensor is that far off; write what your meter shows over what the device "
                        f"shows, from {LEAST} to {MOST}")
        elif factor is not None and factor.quantize(Decimal(1).scaleb(-_DECIMALS)) != factor:
            entry.fault(entry.node.value["factor"], f"is {factor}; write at most {_DECIMALS} decimals")
        entry.close()
        found.append(CalibrationRule(gpu=gpu, factor=factor if factor is not None else Decimal(1)))
    return tuple(found)
