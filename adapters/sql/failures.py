"""Whose fault it is when a database fails, which decides what becomes of the message.

The world's: a server that is away, restarting, full, overloaded or not migrated yet, a lock that came too
late, a transaction that lost against another. Nothing is wrong with the message: intake waits, and it comes
again. Ours: a statement or a value that this database can never take. The one message that led to it must not
keep all others waiting.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from canonical.errors import InvariantViolated, TransientFailure, TwinsyncError

OUR_CLASSES = frozenset({"0A", "21", "22", "23", "42", "44", "54"})
"""First two characters of SQLSTATE (PostgreSQL 15, appendix A): not supported, cardinality, data, constraint,
syntax or name, check option, beyond a limit."""
NOT_SET_UP = frozenset({"42P01", "42703", "42501"})
"""No such table, no such column, no privilege: somebody is about to migrate, or must."""

SQLITE_OURS = ("SQLITE_ERROR", "SQLITE_TOOBIG", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_MISUSE")
"""Primary result codes of SQLite, with which the extended ones begin."""
SQLITE_NOT_SET_UP = ("no such table", "no such column")


def blamed(error: Exception) -> TwinsyncError | None:
    """The failure that says whose fault *error* is; None where it is not the database's."""
    if isinstance(error, (PoolExhausted, OSError)):  # the latter: no connection, or no answer in time
        return TransientFailure(f"database: {_told(error)}")
    driver: BaseException = error
    if isinstance(error, DBAPIError):
        driver = getattr(error, "driver_exception", None) or error.orig or error
    elif not hasattr(error, "sqlstate"):  # asyncpg's own, from where SQLAlchemy does not wrap them
        return None
    ours = not getattr(error, "connection_invalidated", False) and _is_ours(driver)
    return (InvariantViolated if ours else TransientFailure)(f"database: {_told(driver)}")


def _is_ours(driver: BaseException) -> bool:
    state = getattr(driver, "sqlstate", None)
    if state is not None:
        return state[:2] in OUR_CLASSES and state not in NOT_SET_UP
    code = getattr(driver, "sqlite_errorname", None)
    if code is not None:
        return code.startswith(SQLITE_OURS) and not str(driver).startswith(SQLITE_NOT_SET_UP)
    return isinstance(driver, ValueError)  # asyncpg could not encode a value, and never can


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
