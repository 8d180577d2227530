"""Which fields of a URDB rate change a bill. A field in none of these lists is an error: nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

BILLED: Final = frozenset({
    "energyratestructure", "energyweekdayschedule", "energyweekendschedule", "flatdemandstructure", "flatdemandmonths",
    "flatdemandunit", "demandratestructure", "demandweekdayschedule", "demandweekendschedule", "demandrateunit",
    "demandunits", "demandwindow", "fixedchargefirstmeter", "fixedchargeunits", "fixedmonthlycharge", "country", "currency",
})

# Who, where, since when and for whom; words about it; feeding in, which is not billed here; meters after the first.
HARMLESS: Final = frozenset({
    "label", "uri", "name", "utility", "utilityname", "utilityid", "eiaid", "sector", "description", "source", "sourceparent",
    "sourceurl", "approved", "is_default", "isdefault", "supersedes", "revisions", "startdate", "enddate", "effectivedate",
    "latest_update", "servicetype", "voltagecategory", "voltageminimum", "voltagemaximum", "phasewiring", "peakkwcapacitymin",
    "peakkwcapacitymax", "peakkwcapacityhistory", "peakkwhusagemin", "peakkwhusagemax", "peakkwhusagehistory",
    "usenetmetering", "dgrules", "basicinformationcomments", "energycomments", "demandcomments", "energytoulabels",
    "demandlabels", "demandtoulabels", "flatdemandlabels", "fixedchargeeaaddl", "minchargeunits", "coincidentrateunit",
    "reactivepowerunit", "address", "lat", "lon", "zip",
})

# What changes a bill, and has no counterpart here; harmless only where it is empty or zero throughout.
REFUSED: Final[Mapping[str, str]] = {
    "mincharge": "is a minimum bill",
    "minmonthlycharge": "is a minimum bill",
    "annualmincharge": "is a minimum bill of a year",
    "demandreactivepowercharge": "prices reactive power",
    "fueladjustmentsmonthly": "changes the price of energy from month to month",
    "lookbackpercent": "bills the demand of months before",
    "lookbackrange": "bills the demand of months before",
    "lookbackmonths": "bills the demand of months before",
    "demandratchetpercentage": "bills the demand of months before",
    "coincidentratestructure": "prices demand at the time of the system's peak",
    "coincidentrateschedule": "prices demand at the time of the system's peak",
    "coincidentsched": "prices demand at the time of the system's peak",
    "energyattrs": "describes charges on energy in words",
    "demandattrs": "describes charges on demand in words",
    "fixedattrs": "describes fixed charges in words",
    "energyfuture": "describes charges to come",
}


def empty(value: Any) -> bool:
    """Whether a field says nothing: null, false, no text, zero, or lists and tables of such."""
    if isinstance(value, Mapping):
        return all(empty(item) for key, item in value.items() if key not in {"unit", "max", "sell"})
    if isinstance(value, list):
        return all(empty(item) for item in value)
    if isinstance(value, int | Decimal):
        return value == 0
    return value is None or value == ""
