"""The placement: one row, and a copy of its version in the row that each host locks as it commits.

So a change waits for the commits that are under way, and each later one sees it, at no cost of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, bindparam, select, update

from adapters.sql.database import Database, translated
from adapters.sql.epochs import assert_epoch
from adapters.sql.tables import hosts, placement
from canonical.errors import Elsewhere
from canonical.identity import Kind, TwinRef, twin_ref
from twins.core.placement import Placement

_NOW = select(placement.c.version, placement.c.body)
_HELD = (
    update(hosts)
    .where(
        hosts.c.host == bindparam("of"),
        hosts.c.epoch == bindparam("now"),
        hosts.c.placement == bindparam("by"),
    )
    .values(epoch=bindparam("now"))
)
"""Changes nothing: it locks the host's row until the transaction has ended."""


class PlacementRows(Database):
    """Implements twins.ports.Placements."""

    async def placement(self) -> Placement:
        (row,) = await self._rows(_NOW)
        return _read(row["version"], row["body"])

    async def place(self, change: Callable[[Placement], Placement]) -> Placement:
        async with translated(), self._writer.begin() as connection:
            return await connection.run_sync(_place, change)

    async def configure(self, settings: Placement) -> Placement:
        chosen = _body(settings)

        def apply(connection: Connection) -> Placement:
            known = connection.execute(select(placement.c.settings).with_for_update()).scalar_one()
            if known == chosen:
                return _placed(connection)
            connection.execute(update(placement).values(settings=chosen))
            return _place(connection, lambda now: replace(settings, pinned=now.pinned))

        async with translated(), self._writer.begin() as connection:
            return await connection.run_sync(apply)


def assert_placed(
    connection: Connection, host: str, epoch: int, known: Placement, refs: Iterable[TwinRef]
) -> None:
    """As assert_epoch; and until this transaction has ended, the host that goes by *known* owns *refs*.

    Raises: Fenced; Elsewhere.
    """
    held = {"of": host, "now": epoch, "by": known.version}
    if connection.execute(_HELD, held).rowcount == 1:
        return
    assert_epoch(connection, host, epoch)
    now = _placed(connection)
    if not known.still_owns(host, refs, now):
        raise Elsewhere(now)


def _place(connection: Connection, change: Callable[[Placement], Placement]) -> Placement:
    """Under the row's lock; then under those of all hosts, which waits for the commits that hold them."""
    row = connection.execute(_NOW.with_for_update()).one()
    before = _read(row.version, row.body)
    now = replace(change(before), version=before.version + 1)
    connection.execute(update(placement).values(version=now.version, body=_body(now)))
    connection.execute(update(hosts).values(placement=now.version))
    return now


def _placed(connection: Connection) -> Placement:
    row = connection.execute(_NOW).one()
    return _read(row.version, row.body)


def _body(told: Placement) -> str:
    parts = {
        "pooled_hosts": told.pooled_hosts,
        "dedicated": sorted(told.dedicated),
        "pinned": sorted(map(str, told.pinned)),
    }
    return to_json(parts).decode()


def _read(version: int, body: str) -> Placement:
    told: dict[str, Any] = from_json(body)
    return Placement(
        told.get("pooled_hosts", 1),
        frozenset(map(Kind, told.get("dedicated", ()))),
        frozenset(map(twin_ref, told.get("pinned", ()))),
        version,
    )
