"""Which metrics and labels a PromQL expression names, against the table of metrics."""

from __future__ import annotations

import re

from exporters.families import FAMILIES, SELF_FAMILIES, label_names

TAG_KEYS = ("project", "team", "model", "model_version")
TARGET_LABELS = {"job", "instance"}               # what Prometheus adds
LABELS = {f.name: {*label_names(f.labels, TAG_KEYS), *TARGET_LABELS} for f in (*FAMILIES, *SELF_FAMILIES)}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_METRIC = re.compile(r"\bfinops_\w+")
_SELECTOR = re.compile(r"\b(finops_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def faults(expression: str) -> list[str]:
    """What an expression names that the agent does not serve; empty when all is well. ``%q`` stands for a string in
    templates."""
    bare = _STRING.sub('""', expression.replace("%q", '""'))
    named = _METRIC.findall(bare)
    unknown = [f"no metric {name}" for name in named if name not in LABELS]
    for name, matchers in _SELECTOR.findall(bare):
        unknown += [
            f"{name} has no label {label}" for label in _MATCHER.findall(matchers) if label not in LABELS.get(name, {label})
        ]
    possible = set().union(*(LABELS.get(name, set()) for name in named))
    for group in _GROUPING.findall(bare):
        labels = {label.strip() for label in group.split(",") if label.strip()}
        unknown += [f"no label {label} to group by" for label in sorted(labels - possible)]
    return unknown
