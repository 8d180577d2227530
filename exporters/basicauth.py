"""HTTP basic authentication against bcrypt hashes, as the exporter-toolkit does it.

A bcrypt check takes 50 to 200 ms on purpose, so it runs on a thread, one at a time, and a password that was right is remembered
(as a keyed hash of user, stored hash and password, in memory only). An unknown user costs the same as a wrong password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping

from exporters.worker import Worker

_REMEMBERED = 64
# The hash of a random word that nobody kept: what an unknown user's password is compared with.
_NOBODY = b"$2b$10$7PgF5.br.7wcOlX81fQlF.gyFTQ1V7DhabjC4G7faDoUsJlIQLpSq"
_BCRYPT_BYTES = 72                               # bcrypt reads no further; other implementations cut silently


def credentials(authorization: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header; None where it has no readable ones."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode("utf-8"), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class PasswordCheck:
    """Tells whether an Authorization header is right. Used from the event loop only."""

    def __init__(self, most_waiting: int) -> None:
        self._worker = Worker("passwords", most_waiting)
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()

    async def allows(self, users: Mapping[str, str], authorization: str) -> bool:
        """Whether the header names one of ``users`` (name -> bcrypt hash) with its password. Raises QueueFullError."""
        given = credentials(authorization)
        if given is None:
            return False
        user, password = given
        stored = users[user].encode() if user in users else _NOBODY
        key = hashlib.blake2b(b"\0".join((user.encode(), stored, password)), key=self._secret).digest()
        if key in self._right:
            self._right.move_to_end(key)
            return True
        right = await self._worker.run(lambda: _matches(password, stored)) and user in users
        if right:
            self._right[key] = None
            while len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)
        return right

    def close(self) -> None:
        """Let go of the thread."""
        self._worker.close()


def _matches(password: bytes, stored: bytes) -> bool:
    import bcrypt  # noqa: PLC0415  (only where passwords are configured)

    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], stored)
    except ValueError:                           # a NUL byte, or a hash that is none
        return False
