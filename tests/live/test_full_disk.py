"""SQLite on a disk that fills up: nothing half is kept, and intake goes on once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.errors import TransientFailure
from canonical.identity import order
from tests.live.test_database_trouble import assert_as_told, batches, day, take_until_taken
from tests.unit.test_host import Clock, document
from twins.core.rules import Policy
from twins.runtime.host import TwinHost

pytestmark = pytest.mark.live


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Four megabytes of memory as a disk, three of them taken by a file that can be removed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs the right to")
    try:
        (tmp_path / "ballast").write_bytes(b"\0" * 3_000_000)
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def test_a_full_disk_pauses_the_intake_and_loses_nothing(small_disk: Path) -> None:
    told = day(11, 12)
    store = SqlStore(sqlite_url(small_disk))
    await store.migrate()
    host = TwinHost("host-0", store, Clock(), Policy())
    todo, failure = batches(told, 25), None
    while failure is None:
        try:
            await host.take(todo[0])
        except TransientFailure as refused:
            failure = refused
        else:
            del todo[0]
    for _ in range(3):
        with pytest.raises(TransientFailure, match=r"full|I/O"):
            await host.take(todo[0])
    (small_disk / "ballast").unlink()
    for batch in todo:
        await take_until_taken(host, batch)
    assert await document(host, order("SO-404")) is None
    await assert_as_told(store, host, told)
    await store.close()
