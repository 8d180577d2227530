"""Reads ``[tags]``: the keys, where their values come from, rules and grants."""

from __future__ import annotations

import re

from agent.model import RESERVED_PROJECTS
from agent.settings import TagGrant, TagRule, Tags
from agent.tags import TAG_SOURCES
from agent.toml.document import dotted
from agent.toml.table import Table, nearest

PROJECT = "project"                              # reserved values and grants are about this key
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_FACTS = ("user", "group", "command", "exe", "cwd", "cgroup", "unit", "gpu")

# labels of our own metrics and of Prometheus, and the other things that a report can be grouped by
TAKEN_KEYS = frozenset({
    "uuid", "index", "name", "driver_version", "energy_method", "state", "component", "currency", "reason", "tariff", "rate",
    "budget", "period", "window", "version", "method", "kind", "device", "direction", "code", "handler",
    "instance", "job", "le", "quantile", "gpu", "site", "day", "month", "correction",
    "parent_uuid",
})


def read_tags(table: Table) -> Tags:
    default = Tags()
    keys = _keys(table) or default.keys
    sources = table.texts("sources", TAG_SOURCES)
    tags = Tags(
        keys=keys, sources=default.sources if sources is None else sources,
        max_workloads=table.integer("max_workloads", 1, 100_000) or default.max_workloads,
        rules=tuple(_rule(entry, keys) for entry in table.tables("rule")),
        grants=tuple(_grant(entry) for entry in table.tables("grant")))
    table.close()
    return tags


def _keys(table: Table) -> tuple[str, ...] | None:
    node, keys = table.get("keys"), table.texts("keys")
    if node is None or keys is None:
        return None
    seen: set[str] = set()
    for item in node.value:
        key = item.value
        if not isinstance(key, str) or key in seen:
            continue
        if not _LABEL.fullmatch(key) or key.startswith("__"):
            table.fault(item, f"is {key!r}, which cannot name a Prometheus label; write letters, digits and underscores, "
                              "not beginning with a digit or two underscores")
        elif key in TAKEN_KEYS:
            table.fault(item, f"is {key!r}, which is a label or a column already; choose another name")
        elif any(key != other and key.upper() == other.upper() for other in seen):
            table.fault(item, f"is {key!r}, which another key is but for case: FINOPS_{key.upper()} would mean both; keep one")
        seen.add(key)
    if PROJECT not in keys:
        table.fault(node, 'lacks "project", which budgets, grants and reserved values are about; add it')
    return keys


def _rule(entry: Table, keys: tuple[str, ...]) -> TagRule:
    facts = {fact: entry.text(fact) for fact in _FACTS}
    if not any(facts.values()) and not any(fact in entry.names() for fact in _FACTS):
        entry.fault(entry.node, f"says nothing about whom it is for; write at least one of {', '.join(_FACTS)}")
    values: dict[str, str] = {}
    given = entry.table("set")
    if given is None:
        entry.missing("set", 'set = { project = "kronos" }')
    else:
        if given.is_table and not given.names():
            given.fault(given.node, 'is empty; write the tags to give, such as { project = "kronos" }')
        for key in given.names():
            if key not in keys:
                given.fault(given.node.value[key], f"is not one of tags.keys; {nearest(key, keys)}")
            else:
                value = given.text(key)
                if key == PROJECT and value in RESERVED_PROJECTS:
                    given.fault(given.node.value[key], f"is {value!r}, a reserved value; choose another project name")
                elif value is not None:
                    values[key] = value
    entry.close()
    return TagRule(tags=values, **facts)


def _grant(entry: Table) -> TagGrant:
    user, group = entry.text("user"), entry.text("group")
    if "user" not in entry.names() and "group" not in entry.names():
        entry.fault(entry.node, 'says nothing about whom it is for; write user = "..." or group = "..."')
    projects = entry.texts("projects")
    if projects is None and "projects" not in entry.names():
        entry.missing("projects", 'projects = ["kronos", "kronos-*"], the globs that may be charged')
    elif projects == () and (node := entry.get("projects")) is not None and node.value == []:
        entry.faults.at(node, "is empty; name at least one project",
                        dotted(entry.node.key, "projects"))
    entry.close()
    return TagGrant(projects=projects or (), user=user, group=group)
