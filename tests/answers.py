"""All that anybody can ask of a store about its twins: to compare before and after, or one with another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.facts.erp import PostingConfirmed
from canonical.identity import Kind, TwinRef
from tests.properties.compared import spelled
from tests.world import DAY
from twins.core.inquiry import Moment
from twins.core.rules import Policy
from twins.core.twin import Twin
from twins.ports import Told, TwinFilter
from twins.runtime.host import TwinHost
from twins.runtime.inquiry import Inquiry


async def all_twins(store: SqlStore) -> list[TwinRef]:
    return [row.ref for kind in Kind for row in await store.rows(TwinFilter(kind), 1_000)]


async def answers(
    store: SqlStore, events: Collection[Event], inquired_of: Collection[TwinRef] = ()
) -> dict[str, Any]:
    """*events*: those that may be stored, by which `known` is asked; *inquired_of*: twins looked back at."""
    refs = await all_twins(store)
    whole = await store.load(refs, whole=True)
    partly = await store.load(refs)
    return {
        "twins": {str(ref): spelled(_restored(ref, partly[ref])) for ref in refs},
        "whole": {str(ref): spelled(_restored(ref, whole[ref])) for ref in refs},
        "histories": {str(ref): _said(await store.history(ref)) for ref in refs},
        "told": _said(await store.told(refs)),
        "count": await store.told_count(refs),
        "last": {str(ref): _said(await store.told_last(ref, 3)) for ref in refs},
        "neighbours": await store.neighbours(refs),
        "arrivals": await store.arrivals(),
        "known": await store.known(events),
        "gaps": await store.find_gaps(),
        "counts": await store.counts(),
        "postings": await store.live_postings(),
        "lists": [await store.rows(TwinFilter(kind), 1_000) for kind in Kind],
        "inquiries": {str(ref): await inquired(store, ref) for ref in inquired_of},
    }


async def inquired(store: SqlStore, ref: TwinRef) -> list[str]:
    """What it is, why, and what it was at some moments."""
    inquiry = Inquiry(store, store, Policy())
    moments = [Moment(DAY + timedelta(minutes=minute)) for minute in (3, 130, 9_000)]
    recorded = [one.recorded_at for one in await store.history(ref)]
    moments += [Moment(None, moment) for moment in (recorded[0], recorded[-1])]
    found: list[Any] = [await inquiry.explain(ref)]
    for moment in moments:
        found += [
            await inquiry.believed(ref, moment),
            await inquiry.postings(ref, moment),
            _said(await inquiry.history(ref, moment)),
        ]
    return [spelled(one) for one in found]


def _restored(ref: TwinRef, stored: Any) -> list[Any]:
    snapshot = Twin.restore(ref, Policy(), stored).snapshot()
    return [snapshot.version, snapshot.document(), snapshot.postings(), snapshot.explain()]


def _said(told: Iterable[Told]) -> list[tuple[str, str, str, datetime]]:
    return [(one.event.event_id, one.event.digest().hex(), one.arrival, one.recorded_at) for one in told]


async def confirm_all(store: SqlStore, host: TwinHost) -> None:
    """The ERP takes everything that it was told, and the gateway takes it off the queue."""
    epoch = await store.claim("gateway-main")
    while queue := await store.queued("main", 500):
        await host.take_events([_confirmed(one.owner, one.command) for one in queue])
        await store.finished("gateway-main", epoch, [one.number for one in queue])


def _confirmed(owner: TwinRef, command: Any) -> Event:
    fact = PostingConfirmed(
        posting_key=command.key,
        version=command.version,
        action=command.action.value,
        document=f"D/{command.idempotency_key}",
    )
    return Event("/erp/main", command.idempotency_key, owner, DAY, fact)


async def archive_all(store: SqlStore, host: str, refs: Sequence[TwinRef]) -> int:
    """Archive twins whether they are closed or not, as a host of that name. Answers how many events."""
    return (await store.archive(host, await store.claim(host), refs)).events
