"""SQLite's log is copied into its tables beside the commits, which wait for the last of it alone."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Executor
from time import monotonic

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from twins.outage import Outage

FAILURES = sqlite3.Error, SQLAlchemyError

PART_PAGES = 3_000
"""About so many pages are copied at once: each is written to the disk, among those of the commits."""
FULL_PAGES = 24_000
"""What the log holds, 96 MB, before commits wait until all of it is copied and it begins anew. A page that
changes often is copied less often than from a shorter log."""
PAUSE_MIN_S, PAUSE_MAX_S = 0.25, 2.0
"""The most is how long many may come unnoticed after a time when little did."""


def copy_log(engine: Engine) -> int:
    """Copy what no reader keeps, beside whoever writes. Where nobody writes meanwhile, who writes next begins
    the log anew. Answers how many pages it holds. Raises: sqlite3.Error, SQLAlchemyError.
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        ((_, pages, _),) = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        cursor.close()
    finally:
        connection.close()
    return int(pages)


class LogCopying:
    """A thread with a connection of its own that copies the log part by part, as fast as it grows. Once it is
    full, what came while a part was copied is copied beside the commits, too, so that they wait for little.

    While it cannot, the log grows until it is twice as full and whoever commits copies it.
    """

    def __init__(self, engine: Engine, committing: Executor) -> None:
        """*committing* has one thread, in which all is committed."""
        self._engine = engine
        self._committing = committing
        self._outage = Outage("log_copying")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="copy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        pause_s, before, began = PAUSE_MIN_S, 0, monotonic()
        while not self._stopping.wait(pause_s):
            try:
                pages = copy_log(self._engine)
                if pages >= FULL_PAGES:
                    copy_log(self._engine)
                    pages = self._committing.submit(copy_log, self._engine).result()
            except FAILURES as error:
                self._outage.failed(error)
                continue
            self._outage.ended()
            now = monotonic()
            pause_s = pause_for(pages - before if pages >= before else pages, now - began)
            before, began = pages, now


def pause_for(came: int, seconds: float) -> float:
    """Seconds in which the log grows by a part, where *came* pages came in so many."""
    return min(max(PART_PAGES * seconds / max(came, 1), PAUSE_MIN_S), PAUSE_MAX_S)
