"""Names of users and groups, without ever waiting for a directory server."""

from __future__ import annotations

import grp
import pwd
import threading
from collections.abc import Callable
from pathlib import Path


class Names:
    """Numbers to names: first the local file, then the system's name service.

    The name service may ask LDAP and hang for as long as LDAP does, so it is asked in a thread and given ``patience_s``.
    What does not come in time is the number for now, and the name from the moment in which the answer arrives.
    """

    def __init__(self, path: Path, ask: Callable[[int], str], patience_s: float = 0.1) -> None:
        self._path, self._ask, self._patience_s = path, ask, patience_s
        self._names: dict[int, str] = {}
        self._stamp: tuple[int, int] | None = None

    def of(self, number: int) -> str:
        """The name; the number in decimal where it has none, or none yet."""
        self._read_file()
        name = self._names.get(number)
        if name is None:
            name = self._names[number] = str(number)
            thread = threading.Thread(target=self._resolve, args=(number,), daemon=True)
            thread.start()
            thread.join(self._patience_s)
            name = self._names[number]
        return name

    def _resolve(self, number: int) -> None:
        try:
            self._names[number] = self._ask(number)
        except (KeyError, OSError):
            return

    def _read_file(self) -> None:
        """Read the file again when it has changed: an account made after the start has a name too."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp == self._stamp:
                return
            rows = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        self._stamp = stamp
        self._names.clear()
        for row in rows:
            fields = row.split(":")
            if len(fields) >= 3 and fields[2].isdigit():
                self._names.setdefault(int(fields[2]), fields[0])


def user_names() -> Names:
    return Names(Path("/etc/passwd"), lambda uid: pwd.getpwuid(uid).pw_name)


def group_names() -> Names:
    return Names(Path("/etc/group"), lambda gid: grp.getgrgid(gid).gr_name)
