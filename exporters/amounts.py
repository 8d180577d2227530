"""Amounts as people read them: rounded, with a unit that suits their size. For the page; programs read the API."""

from __future__ import annotations

import datetime as dt

from agent.units import MJ_PER_J, MJ_PER_KWH, NANO, NS_PER_HOUR, NS_PER_S

UNKNOWN = "\N{EN DASH}"


def money(nano: int) -> str:
    """Nano-units as currency units: two decimals, two figures below a tenth, none above a million."""
    units = nano / NANO
    if 0 < abs(units) < 1e-4:
        return "under 0.0001" if units > 0 else "over -0.0001"
    if 0 < abs(units) < 0.1:
        return f"{units:.2g}"
    return f"{units:,.2f}" if abs(units) < 1e6 else f"{units:,.0f}"


def power(milliwatts: int | None) -> str:
    """In W, or kW from 10 kW up."""
    if milliwatts is None:
        return UNKNOWN
    watts = milliwatts / 1e3
    return f"{watts / 1e3:,.1f} kW" if watts >= 1e4 else f"{watts:,.0f} W"


def energy(millijoules: int) -> str:
    """In J, Wh, kWh or MWh."""
    kwh = millijoules / MJ_PER_KWH
    if kwh < 1e-3:
        return f"{millijoules / MJ_PER_J:,.1f} J"
    if kwh < 1:
        return f"{kwh * 1e3:,.1f} Wh"
    return f"{kwh:,.2f} kWh" if kwh < 1e4 else f"{kwh / 1e3:,.1f} MWh"


def hours(nanoseconds: int) -> str:
    """In seconds, minutes or hours."""
    minutes = nanoseconds / NS_PER_HOUR * 60
    if minutes < 1:
        return f"{minutes * 60:,.1f} s"
    return f"{minutes:,.1f} min" if minutes < 60 else f"{minutes / 60:,.1f} h"


def size(count: int | None) -> str:
    """Bytes in GiB."""
    return UNKNOWN if count is None else f"{count / 2**30:,.1f} GiB"


def percent(ratio: float) -> str:
    """A share of one."""
    return f"{ratio:.0%}" if abs(ratio) >= 0.1 or ratio == 0 else f"{ratio:.1%}"


def clock(utc_ns: int) -> str:
    """An instant in UTC, to the second."""
    return dt.datetime.fromtimestamp(utc_ns // NS_PER_S, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
