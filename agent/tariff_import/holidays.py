"""Public holidays of a country or a part of one, by the ``holidays`` package, as dates to write into a configuration.

The daemon reads dates only: which days are holidays changes with every release of the package, and prices of the past must not.
"""

from __future__ import annotations

import datetime as dt
import importlib
import re
from collections.abc import Sequence

from agent.errors import FinOpsError, UsageError

PLACEHOLDER = '"holidays"'
_CODE = re.compile(r"([A-Z]{2,3})(?:-([A-Za-z0-9]+))?")
_WISH = re.compile(r'^(\s*)holidays\s*=\s*"([^"]*)"[^\n]*$', re.MULTILINE)
_PLACE = re.compile(r'(\bdates\s*=\s*\[[^\]]*?)"holidays"')


def holiday_dates(code: str, years: Sequence[int]) -> list[tuple[dt.date, str]]:
    """Each holiday with its name, in order. ``code``: a country, or a country and a part of it, as CN, US-CA."""
    found = _CODE.fullmatch(code)
    if found is None:
        raise UsageError(f"{code} is not a country; write a code of ISO 3166, such as CN, or US-CA for a part of one")
    try:
        package = importlib.import_module("holidays")
    except ImportError as error:
        raise FinOpsError("holidays come from the package of that name, which is not installed; install "
                          "gpu-finops-agent[import], or write the dates by hand") from error
    try:
        days = package.country_holidays(found[1], subdiv=found[2], years=list(years))
    except NotImplementedError as error:
        raise UsageError(f"{code} is not known to the holidays package ({error}); write the dates by hand") from error
    return sorted(days.items())


def write_out(text: str, code: str, dates: Sequence[dt.date]) -> str:
    """A configuration's text with the dates in the place of "holidays", and the wish itself as a comment."""
    shown = ", ".join(date.isoformat() for date in dates)
    text = _WISH.sub(f"\\1# holidays of {code}, written out as dates", text)
    while (written := _PLACE.sub(lambda found: found[1] + shown, text)) != text:
        text = written
    return text


def wished(text: str) -> list[str]:
    """The codes that a configuration's text asks for."""
    return list(dict.fromkeys(found[2] for found in _WISH.finditer(text)))
