"""Epochs: who holds the newest incarnation of a host or a gateway, and no other, may write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from adapters.sql.database import Database, now_text, translated
from adapters.sql.tables import hosts, placement
from canonical.errors import Fenced

T = TypeVar("T")

PARAMETERS_MAX = 500
"""Members of one IN list; SQLite takes 32,766 parameters, but long lists plan slowly."""


class EpochRows(Database):
    async def claim(self, host: str) -> int:
        held = select(placement.c.version).with_for_update(read=True)
        statement = self._insert(hosts).values(
            host=host, epoch=1, claimed_at=now_text(), placement=bindparam("placement")
        )
        statement = statement.on_conflict_do_update(
            index_elements=["host"],
            set_={
                "epoch": hosts.c.epoch + 1,
                "claimed_at": statement.excluded.claimed_at,
                "placement": statement.excluded.placement,
            },
        ).returning(hosts.c.epoch)
        async with translated(), self._writer.begin() as connection:
            version = (await connection.execute(held)).scalar_one()
            return int((await connection.execute(statement, {"placement": version})).scalar_one())

    async def assert_epoch(self, host: str, epoch: int) -> int:
        """Answers the version of the placement that holds. Raises: Fenced where the epoch has passed."""
        wanted = select(hosts.c.placement).where(hosts.c.host == host, hosts.c.epoch == epoch)
        for row in await self._rows(wanted):
            return int(row["placement"])
        raise fenced(host, epoch)


def dialect(name: str) -> Any:
    """The module whose `insert` knows conflicts."""
    return sqlite if name == "sqlite" else postgresql


def assert_epoch(connection: Connection, host: str, epoch: int) -> None:
    """Lock the host's row, so that a newer incarnation waits until this transaction has ended."""
    held = update(hosts).where(hosts.c.host == host, hosts.c.epoch == epoch).values(epoch=epoch)
    if connection.execute(held).rowcount != 1:
        raise fenced(host, epoch)


def fenced(host: str, epoch: int) -> Fenced:
    return Fenced(f"{host} lost epoch {epoch} to a newer incarnation")


def chunks(many: list[T], size: int = PARAMETERS_MAX) -> Iterable[list[T]]:
    return (many[start : start + size] for start in range(0, len(many), size))
