"""How an older ledger becomes a newer one. Forward only, by ``user_version``."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from agent.errors import LedgerError
from agent.ledger.seal import seal_all
from agent.ledger.tables import MIGRATIONS, model


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an open ledger (``file.connect``) to the newest version, one transaction a step; a copy is kept before the first.

    Raises LedgerError for a ledger that a newer agent has written, DatabaseError for one whose version is damaged.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    # The version stands twice: a number that only the header has is a damaged one.
    marked = _marked(connection)
    if version < 0 or (version != marked and marked in range(2, len(MIGRATIONS) + 1)):
        raise sqlite3.DatabaseError(f"malformed: version {version} in the header")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{path}: written by a newer agent (schema {version}, this one knows {len(MIGRATIONS)}); "
            "install that version again, or point state_dir elsewhere")
    if 0 < version < len(MIGRATIONS):
        _keep_copy(connection, path.with_name(f"{path.name}.v{version}"))
    for step in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[step]} PRAGMA user_version = {step + 1};")
        if step + 1 == len(MIGRATIONS):
            seal_all(connection)
        connection.execute("COMMIT")


def check_schema(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError where a ledger of the newest version does not have that version's tables, to the letter. What
    somebody has added (an index, a view) is let be."""
    with contextlib.closing(model()) as right:
        tables = "SELECT type, name, tbl_name, sql FROM sqlite_master"
        if not set(right.execute(tables)) <= set(connection.execute(tables)):
            raise sqlite3.DatabaseError("malformed: the tables are not those of a ledger")


def _marked(connection: sqlite3.Connection) -> int | None:
    try:
        row = connection.execute("SELECT value FROM mark WHERE name = 'schema'").fetchone()
    except sqlite3.OperationalError:
        return None
    return row[0] if row is not None and isinstance(row[0], int) else None


def _keep_copy(connection: sqlite3.Connection, copy: Path) -> None:
    """A copy through SQLite: one made with the file's own bytes would let go of the locks that this process holds on it."""
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(part)) as target:
        connection.backup(target)
    part.rename(copy)
