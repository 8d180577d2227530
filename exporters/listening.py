"""Listening sockets, and the sentence for an address that cannot be had."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

from agent.errors import FinOpsError

BACKLOG = 1024


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of a host that this machine has. Raises FinOpsError with the reason."""
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in sorted(set(found)):
            one_port = sockets[0].getsockname()[1] if sockets else port      # port 0: the same free one for all
            try:
                sockets.append(_listening(family, (address[0], one_port, *address[2:])))
            except OSError as error:
                # "localhost" has an IPv6 address even where the machine has no IPv6.
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except (OSError, UnicodeError) as error:     # UnicodeError: what cannot be a host's name
        for sock in sockets:
            sock.close()
        raise FinOpsError(_cannot_listen(host, port, error)) from error
    return sockets


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> str:
    where = f"cannot listen on {f'[{host}]' if ':' in host else host}:{port}"
    if isinstance(error, UnicodeError):
        return f"{where}: this cannot be a host's name; give an address of this machine with --web.listen-address"
    if error.errno == errno.EADDRINUSE:
        return (f"{where}: another program has this port; stop it, or give another with --web.listen-address "
                f"(who it is: ss -ltnp 'sport = :{port}')")
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need a privilege; give a higher one with --web.listen-address"
    return f"{where}: {error.strerror or error}; give an address of this machine with --web.listen-address"


def is_loopback(host: str) -> bool:
    """Whether every address of the host is this machine's own. An unknown name is not."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
