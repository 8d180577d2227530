"""Run a command under the part of a systemd unit that any user can apply: system call filter, W^X memory, address families.

    python confined.py UNIT COMMAND ...

The same filters that systemd installs for SystemCallFilter=, MemoryDenyWriteExecute= and RestrictAddressFamilies=, through
libseccomp, for the machine's native calls. The groups of calls are those of the installed systemd.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path

ALLOW, DENY = 0x7FFF0000, 0x00050000              # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(0)
EQUAL, AT_LEAST, MASKED_EQUAL = 4, 5, 7           # SCMP_CMP_EQ, _GE, _MASKED_EQ
PR_SET_NO_NEW_PRIVS = 38
SHM_EXEC = 0o100000


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def settings(unit: Path, key: str) -> list[str]:
    """The values of a key, in order."""
    lines = [line.strip() for line in unit.read_text().splitlines()]
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def calls_of(name: str) -> set[str]:
    """A call, or all calls of a group."""
    if not name.startswith("@"):
        return {name}
    listing = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    members = [line.strip() for line in listing.splitlines()[1:]]
    return set().union(*(calls_of(member) for member in members if member and not member.startswith("#")))


def allowed_calls(unit: Path) -> set[str]:
    """What SystemCallFilter= leaves."""
    allowed: set[str] = set()
    for value in settings(unit, "SystemCallFilter"):
        named = set().union(*(calls_of(name) for name in value.removeprefix("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed | calls_of("@default")


class Filter:
    """One seccomp filter; ``load`` puts it in force for good."""

    def __init__(self, library: ctypes.CDLL, default: int) -> None:
        self._library = library
        library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *comparisons: Comparison) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:                            # not a call of this architecture
            return
        array = (Comparison * len(comparisons))(*comparisons)
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, ctypes.c_uint(len(comparisons)), array
        )
        if done:
            raise OSError(-done, f"seccomp rule for {call}")

    def load(self) -> None:
        done = self._library.seccomp_load(self._context)
        if done:
            raise OSError(-done, "seccomp_load")


def confine(unit: Path) -> None:
    """Put the unit's filters in force in this process and all that it becomes."""
    library = ctypes.CDLL("libseccomp.so.2")
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    filters = []
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        memory = Filter(library, ALLOW)
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        memory.rule(DENY | errno.EPERM, "mmap", Comparison(2, MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            memory.rule(DENY | errno.EPERM, call, Comparison(2, MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC))
        memory.rule(DENY | errno.EPERM, "shmat", Comparison(2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
        filters.append(memory)
    families = {int(getattr(socket, name)) for value in settings(unit, "RestrictAddressFamilies") for name in value.split()}
    sockets = Filter(library, ALLOW)
    for family in range(max(families)):
        if family not in families:
            sockets.rule(DENY | errno.EAFNOSUPPORT, "socket", Comparison(0, EQUAL, family, 0))
    sockets.rule(DENY | errno.EAFNOSUPPORT, "socket", Comparison(0, AT_LEAST, max(families) + 1, 0))
    filters.append(sockets)
    calls = Filter(library, DENY | errno.EPERM)
    for call in sorted(allowed_calls(unit)):
        calls.rule(ALLOW, call)
    filters.append(calls)
    for each in filters:
        each.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
