"""Telling systemd how the service is doing: sd_notify(3), over the datagram socket in $NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceNotifier:
    """Sends states to the service manager, and nothing at all where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        watchdog_pid = environ.get("WATCHDOG_PID", "")
        self._watched = watchdog_pid in {"", str(os.getpid())} and environ.get("WATCHDOG_USEC", "0") != "0"

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self, monotonic_ns: int) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1_000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog, where the unit has one."""
        if self._watched:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):      # a manager that went away must not stop the measuring
                self._socket.sendto(state.encode(), self._address)
