"""Reading from SQLite while the store is closed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection, text

from adapters.sql.beside import beside
from adapters.sql.engine import Tuning, sqlite_url

MANY = 2_000_000
COUNTED = text(
    "WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :many)"
    " SELECT count(*) FROM counted"
)


def test_what_is_being_read_is_read_to_its_end(tmp_path: Path) -> None:
    """SQLite crashes where its connection is closed by one thread while another reads."""
    reading, reads = beside(sqlite_url(tmp_path), Tuning(), writes=False), threading.Event()

    def count(connection: Connection) -> int:
        reads.set()
        return int(connection.execute(COUNTED, {"many": MANY}).scalar_one())

    with ThreadPoolExecutor(1) as another:
        counted = another.submit(lambda: reading.submit(count).result())
        assert reads.wait(10)
        reading.close()
        assert counted.result(10) == MANY
