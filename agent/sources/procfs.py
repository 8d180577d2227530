"""What /proc says about one process, see proc(5). Read once per process, never on every tick."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from agent.model import ProcessFacts
from agent.sources.accounts import group_names, user_names

DEFAULT_ENVIRON = ("FINOPS_*", "SLURM_*", "CUDA_VISIBLE_DEVICES")

_TEXT_LIMIT = 4096             # bytes of any one fact: a command line may have megabytes
_ENVIRON_LIMIT = 1 << 20       # bytes read of an environment
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")


class Procfs:
    """Reads facts under a mounted procfs. ``environ`` names the variables that may be read: a name, or a prefix
    that ends in ``*``. No other variable is kept or sent on, for environments carry secrets."""

    def __init__(self, root: Path = Path("/proc"), environ: Iterable[str] = DEFAULT_ENVIRON) -> None:
        self._root = os.fspath(root)
        wanted = tuple(environ)
        self._names = frozenset(os.fsencode(name) for name in wanted if not name.endswith("*"))
        self._prefixes = tuple(os.fsencode(name[:-1]) for name in wanted if name.endswith("*"))
        self._users, self._groups = user_names(), group_names()

    def start_ticks(self, pid: int) -> int:
        """When the process started, in clock ticks since boot (field 22 of stat); 0 where it is not visible."""
        return _stat(self._read(pid, "stat", _TEXT_LIMIT))[1]

    def cpu_ns(self, pid: int, start_ticks: int) -> int | None:
        """CPU time that a process has had, user and system; None where it is not (or no longer) that process."""
        raw = self._read(pid, "stat", _TEXT_LIMIT)
        fields = raw[raw.rfind(b")") + 2:].split()
        if len(fields) <= 19 or int(fields[19]) != start_ticks:
            return None
        return (int(fields[11]) + int(fields[12])) * _NS_PER_TICK

    def facts(self, pid: int) -> ProcessFacts:
        """All that can be read about a process. What cannot is empty, and ``hidden`` says why."""
        parent_pid, start_ticks = _stat(self._read(pid, "stat", _TEXT_LIMIT))
        if start_ticks == 0:
            return ProcessFacts(pid=pid, start_ticks=0, hidden=(
                "not visible in /proc: it has ended, or it belongs to another PID namespace (or hidepid) that the "
                "agent cannot see into"))
        refused: list[str] = []
        user, group = self._owner(pid)
        cgroup = _cgroup(_text(self._read(pid, "cgroup", 1 << 16)))
        return ProcessFacts(
            pid=pid, start_ticks=start_ticks, parent_pid=parent_pid, user=user, group=group,
            command=self._command(pid, refused), exe=self._link(pid, "exe", refused),
            cwd=self._link(pid, "cwd", refused), cgroup=cgroup, unit=_unit(cgroup),
            environ=self._environ(pid, refused),
            hidden=f"no permission to read {', '.join(refused)}: the agent needs CAP_SYS_PTRACE for the processes of "
                   "other users" if refused else None)

    def _command(self, pid: int, refused: list[str]) -> str:
        try:
            raw = self._read_or_raise(pid, "cmdline", _TEXT_LIMIT)
        except PermissionError:
            refused.append("command")
            raw = b""
        except OSError:
            raw = b""
        if raw:
            return _text(raw.rstrip(b"\0").replace(b"\0", b" "))
        name = _text(self._read(pid, "comm", 256)).rstrip("\n")
        return f"[{name}]" if name else ""                 # as ps(1) shows a process without arguments

    def _link(self, pid: int, name: str, refused: list[str]) -> str:
        try:
            return _text(os.fsencode(Path(f"{self._root}/{pid}/{name}").readlink()))
        except PermissionError:
            refused.append(name)
        except OSError:
            pass
        return ""

    def _environ(self, pid: int, refused: list[str]) -> dict[str, str]:
        try:
            raw = self._read_or_raise(pid, "environ", _ENVIRON_LIMIT)
        except PermissionError:
            refused.append("environ")
            return {}
        except OSError:
            return {}
        found: dict[str, str] = {}
        for entry in raw.split(b"\0"):
            name, equals, value = entry.partition(b"=")
            if equals and (name in self._names or name.startswith(self._prefixes)):
                found.setdefault(_text(name), _text(value[:_TEXT_LIMIT]))      # getenv(3) finds the first, too
        return found

    def _owner(self, pid: int) -> tuple[str, str]:
        """Names of the real user and group. Not the owner of /proc/PID, which is root for a process that forbids dumps."""
        user = group = ""
        for line in _text(self._read(pid, "status", 1 << 14)).splitlines():
            if line.startswith("Uid:"):
                user = self._users.of(int(line.split()[1]))
            elif line.startswith("Gid:"):
                group = self._groups.of(int(line.split()[1]))
                break
        return user, group

    def _read(self, pid: int, name: str, limit: int) -> bytes:
        try:
            return self._read_or_raise(pid, name, limit)
        except OSError:
            return b""

    def _read_or_raise(self, pid: int, name: str, limit: int) -> bytes:
        descriptor = os.open(f"{self._root}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while limit > 0 and (part := os.read(descriptor, limit)):     # procfs may return less than is there
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)


def _text(raw: bytes) -> str:
    """Bytes of any kind as text that JSON can carry."""
    return raw.decode("utf-8", "replace")


def _stat(raw: bytes) -> tuple[int, int]:
    """(parent's PID, start time in clock ticks) out of /proc/PID/stat; zeros where it is not there. The second field is
    the program's name in parentheses and may hold blanks and parentheses of its own."""
    fields = raw[raw.rfind(b")") + 2:].split()
    return (int(fields[1]), int(fields[19])) if len(fields) > 19 else (0, 0)


def _cgroup(text: str) -> str:
    """The path in the unified hierarchy; where that is not used, in the memory controller's, else in systemd's own."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            paths.update(dict.fromkeys(controllers.split(","), path))
    for controller in ("", "memory", "name=systemd"):
        if paths.get(controller, "/") != "/":
            return paths[controller]
    return paths.get("", paths.get("memory", ""))


def _unit(cgroup: str) -> str:
    """The innermost systemd unit on a cgroup path, slices apart: user@1000.service/app.slice/train.service is train's."""
    for part in reversed(cgroup.split("/")):
        name = part.removeprefix("_")                      # systemd's escape for names that the kernel uses itself
        if name.endswith(_UNIT_SUFFIXES):
            return name
    return ""
