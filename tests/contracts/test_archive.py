"""An archived twin answers and takes events like any other, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from adapters.sql.store import SqlStore
from adapters.sql.tables import archive, archived_numbers, events
from canonical.envelope import Event
from canonical.errors import Fenced, InvariantViolated
from canonical.facts.base import Retracted
from canonical.facts.erp import PostingConfirmed
from canonical.facts.order import OrderValidated, PaymentCaptured, ReturnClosed
from canonical.identity import TwinRef, order, shipment, stock, tracking
from tests.answers import answers, archive_all, confirm_all
from tests.properties.compared import documents
from tests.stories import LOCATION, ORDER, SKU, delivered, dispatched, golden, placed
from tests.unit.test_http_api import calls, http  # noqa: F401 - fixtures
from tests.world import DAY, World, tell
from twins.core.batch import Effects
from twins.core.contributions import Contribution, Interest
from twins.core.gaps import Gap, gaps
from twins.core.history import Arrival
from twins.core.placement import Placement
from twins.core.rules import Policy
from twins.core.twin import Twin
from twins.ports import Publication, Rejected, Taken
from twins.runtime.host import ARCHIVE_AT_ONCE, TwinHost

LIFE = [*golden(), tell(f"order/{ORDER}", ReturnClosed(return_id="RMA-1"), 5_000)]
"""An order from its placing to its closing."""
CLOSED = {order(ORDER), shipment("SHP-1"), shipment("SHP-2"), tracking("ups", "1Z1"), tracking("ups", "1Z2")}
OTHER = placed(order="SO-2")
"""Told last: the newest event of all is never archived."""


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def host(store: SqlStore, clock: Clock | None = None, after: timedelta | None = None) -> TwinHost:
    return TwinHost("host-0", store, clock or Clock(), Policy(), archive_after=after)


async def lived(store: SqlStore) -> TwinHost:
    """A host that was told a whole life, and the ERP has taken all of it."""
    one = host(store)
    await one.take_events(LIFE)
    await confirm_all(store, one)
    await one.take_events([OTHER])
    return one


async def rows_of(store: SqlStore, table: object) -> int:
    (row,) = await store._rows(select(func.count().label("many")).select_from(table))  # type: ignore[arg-type]
    return int(row["many"])


async def test_every_answer_is_as_before(store: SqlStore) -> None:
    await lived(store)
    asked = [order(ORDER), shipment("SHP-1"), stock(SKU, LOCATION)]
    before, many = await answers(store, LIFE, asked), await rows_of(store, events)
    moved = await archive_all(store, "host-0", sorted(CLOSED))
    assert moved > 20
    assert await rows_of(store, events) == many - moved
    assert await rows_of(store, archive) == len(CLOSED)
    assert await answers(store, LIFE, asked) == before


async def test_every_path_answers_as_before(store: SqlStore, http: httpx.AsyncClient) -> None:
    await lived(store)
    twins = [f"/v1/orders/{ORDER}", "/v1/shipments/SHP-1", "/v1/twins/tracking/ups:1Z1"]
    parts = [path + part for path in twins for part in ("", "/history", "/explain", "/postings")]
    moments = [f"{path}?as_of=2026-03-02T10:30:00Z" for path in parts]
    paths = [*parts, *moments, "/v1/orders", "/v1/shipments?status=delivered", "/v1/gaps"]

    async def answered() -> list[tuple[int, str | None, str]]:
        found = [await http.get(path) for path in paths]
        return [(one.status_code, one.headers.get("etag"), one.text) for one in found]

    before = await answered()
    assert {status for status, _, _ in before} == {200}
    assert await archive_all(store, "host-0", sorted(CLOSED)) > 20
    assert await answered() == before


LATER: dict[str, Sequence[Event]] = {
    "a late event": [tell(f"order/{ORDER}", OrderValidated(), 1)],
    "a duplicate": [LIFE[5], LIFE[-1]],
    "a conflict": [
        tell(f"order/{ORDER}", PaymentCaptured(payment_id="P-1", amount="200.00", currency="USD"), 6)
    ],
    "a retraction": [tell(f"order/{ORDER}", Retracted(source="/test/oms", id=LIFE[6].id), 6_000)],
    "a shipment more": [dispatched("SHP-3", 1, 200), delivered("1Z1", 1)],
    "a reply": [
        tell(
            "shipment/SHP-1",
            PostingConfirmed(posting_key="goods-issue/SHP-1", version=1, action="post", document="X"),
            id="again",
            source="/erp/main",
        )
    ],
}


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("forgets", [False, True])
async def test_what_comes_later_does_to_it_what_it_would_have_done(
    store: SqlStore, later: str, forgets: bool
) -> None:
    """The same set of facts is the same twins, in whichever place they are kept."""
    one = await lived(store)
    await archive_all(store, "host-0", sorted(CLOSED))
    one = host(store) if forgets else await again(store)
    world = World()
    world.take(LIFE)
    world.confirm().take([OTHER])
    for event in LATER[later]:
        (taken,) = await one.take_events([event])
        expected = Arrival.DUPLICATE if later == "a duplicate" else None
        world.take([event])
        assert isinstance(taken, Taken)
        assert expected is None or taken.arrival is expected
    await confirm_all(store, one)
    world.confirm()
    stored = await store.load(list(world.twins))
    twins = {ref: Twin.restore(ref, Policy(), kept) for ref, kept in stored.items()}
    assert documents(twins) == documents(world.twins)
    assert {key: record.posting for key, record in (await store.live_postings()).items()} == world.live()
    before = await answers(store, LIFE)
    await one.take_events([placed(order="SO-3")])
    with_another = await answers(store, LIFE)
    await archive_all(store, "host-0", sorted(CLOSED))
    assert await answers(store, LIFE) == with_another
    assert {ref: with_another["histories"][ref] for ref in before["histories"]} == before["histories"]


async def again(store: SqlStore) -> TwinHost:
    """A host that has all of it in memory since before."""
    one = host(store)
    await one.read("document", sorted(CLOSED))  # type: ignore[arg-type]
    await archive_all(store, "host-0", sorted(CLOSED))
    return one


async def test_numbers_that_are_archived_are_not_missing(store: SqlStore) -> None:
    """At every step the gaps are those between all numbers ever told, in rows, archived, or neither."""

    def numbered(number: int) -> Event:
        return tell(f"order/SO-{number}", OrderValidated(), number, source="/oms", sequence=number)

    def expected(told: Sequence[int]) -> object:
        return list(gaps("/oms", [(number, DAY + timedelta(minutes=number)) for number in sorted(told)]))

    one, told = host(store), list[int]()
    steps: list[tuple[list[int], list[int], bool]] = [
        ([10, 11, 14], [11], False),
        ([15, 17], [10, 14], True),
        ([12], [15], True),
        ([4, 6], [4, 12], True),
        ([13], [6], True),
        ([16, 20], [13], True),
        ([5, 2], [5, 17], True),
        ([7, 8, 9], [8, 16], True),
        ([18, 19, 3], [7, 9, 19, 20, 2], True),
    ]
    for new, gone, looks in steps:
        await one.take_events([*map(numbered, new), tell(f"order/X-{len(told)}", OrderValidated())])
        told += new
        await archive_all(store, "host-0", [order(f"SO-{number}") for number in gone])
        one = host(store)
        if looks:
            assert await store.find_gaps() == expected(told)
            assert await store.find_gaps() == expected(told)
    assert await store.find_gaps() == []
    assert await rows_of(store, archived_numbers) == 0, "a source that is whole needs no row for a number"


async def test_a_number_told_twice_shows_its_gap_since_the_earlier_time(store: SqlStore) -> None:
    """Whenever somebody looked, and whichever of the two was in the archive by then."""

    async def numbered(source: str, number: int, minute: int) -> TwinRef:
        fact = tell(f"order{source}-{minute}", OrderValidated(), minute, source=source, sequence=number)
        await host(store).take_events([fact, tell("order/LAST", OrderValidated(), minute)])
        return fact.subject

    ways = list(product((False, True), repeat=5))
    for way, (looks_late, looks_early, late_goes, early_goes, goes_first) in enumerate(ways):
        source = f"/{way}"
        for minute, looks, goes in ((8, looks_late, late_goes), (2, looks_early, early_goes)):
            told = await numbered(source, 5, minute)
            if goes and goes_first:
                await archive_all(store, "host-0", [told])
            if looks:
                await store.find_gaps()
            if goes and not goes_first:
                await archive_all(store, "host-0", [told])
        await numbered(source, 1, 0)
    expected = {Gap(f"/{way}", 2, 4, DAY + timedelta(minutes=2)) for way in range(len(ways))}
    for _ in range(2):
        assert set(await store.find_gaps()) == expected


async def test_two_that_look_at_once_widen_only_what_is_whole(store: SqlStore) -> None:
    """What one of them noted meanwhile is not taken back by the other, who saw less."""
    from adapters.sql import numbers

    one = host(store)
    await one.take_events(
        [
            tell(f"order/SO-{number}", OrderValidated(), number, source="/s", sequence=number)
            for number in (3, 4)
        ]
    )
    await store.find_gaps()
    was = numbers.Whole("/s", 3, 4, "2026-03-02T08:03:00.000000+00:00")
    async with store._writer.begin() as connection:
        await numbers.widen(connection, was, was._replace(through=9))
        await numbers.widen(connection, was, was._replace(through=5))
        assert (await numbers.known_whole(connection))["/s"] == was._replace(through=9)


async def test_a_host_that_lost_its_epoch_archives_nothing(store: SqlStore) -> None:
    await lived(store)
    old = await store.claim("host-0")
    await store.claim("host-0")
    with pytest.raises(Fenced):
        await store.archive("host-0", old, [order(ORDER)])
    assert await rows_of(store, archive) == 0


async def test_the_newest_event_keeps_its_row(store: SqlStore) -> None:
    """Its number must not be given again, or the order of commits would be lost."""
    one = host(store)
    await one.take_events([placed()])
    assert await archive_all(store, "host-0", [order(ORDER)]) == 0
    paid = tell(f"order/{ORDER}", PaymentCaptured(payment_id="P", amount="1", currency="USD"), 5)
    await host(store).take_events([placed(order="SO-2")])
    assert await archive_all(store, "host-0", [order(ORDER)]) == 1
    await host(store).take_events([paid])
    assert [told.event for told in await store.history(order(ORDER))] == [placed(), paid]


async def test_a_sweep_archives_what_has_been_closed_for_long_enough(store: SqlStore) -> None:
    clock = Clock()
    one = await lived(store)
    before = await answers(store, LIFE)
    one = host(store, clock, timedelta(days=90))
    clock.ahead = timedelta(days=89)
    await one.sweep()
    assert await rows_of(store, archive) == 0
    clock.ahead = timedelta(days=91)
    await one.sweep()
    assert one.counts.archived_twins == await rows_of(store, archive) == len(CLOSED)
    assert one.counts.archived_bytes > 0
    await one.sweep()
    assert one.counts.archived_twins == len(CLOSED)
    assert await store.closed(clock.now(), None, 100) == [], "once is enough"
    assert await answers(store, LIFE) == before


async def test_a_twin_that_changes_after_all_is_archived_again(store: SqlStore) -> None:
    clock = Clock()
    await lived(store)
    one = host(store, clock, timedelta(days=90))
    clock.ahead = timedelta(days=91)
    await one.sweep()
    await one.take_events([tell(f"order/{ORDER}", OrderValidated(), 1), placed(order="SO-4")])
    told = await store.history(order(ORDER))
    many = await rows_of(store, events)
    await one.sweep()
    assert await rows_of(store, events) == many - 1
    assert await store.history(order(ORDER)) == told
    for after in range(len(told)):
        assert await store.history(order(ORDER), after=told[after].number, limit=2) == told[after + 1 :][:2]


async def test_what_is_open_is_not_archived(store: SqlStore) -> None:
    """A command that the ERP has not answered, mail that waits, a host that owns something else."""
    clock = Clock()
    clock.ahead = timedelta(days=9_000)
    one = host(store, clock, timedelta(days=1))
    await one.take_events(LIFE)
    await one.sweep()
    unsettled = await rows_of(store, archive)
    assert unsettled == 2, "the two tracking numbers have no postings"
    await confirm_all(store, one)
    await one.take_events([OTHER])
    letter = Contribution(order("SO-9"), shipment("SHP-1"), 1, Interest())
    epoch = await store.claim("host-1")
    await store.commit("host-1", epoch, Effects(mail={(letter.target, letter.source): letter}), ())
    stranger = TwinHost("host-2", store, clock, Policy(), archive_after=timedelta(days=1))
    await stranger.sweep()
    assert await rows_of(store, archive) == unsettled
    await host(store, clock, timedelta(days=1)).sweep()
    assert await rows_of(store, archive) == len(CLOSED) - 1, "all but the one whose letter waits"


async def test_a_batch_that_is_being_committed_is_waited_for(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host that owns a twin archives it in its own turn, so that no event falls between."""
    clock, gate, commit = Clock(), asyncio.Event(), store.commit
    clock.ahead = timedelta(days=91)
    await lived(store)
    one = host(store, clock, timedelta(days=90))
    late = tell(f"order/{ORDER}", OrderValidated(), 1)

    async def slow(*batch: Any) -> None:
        await gate.wait()
        await commit(*batch)

    monkeypatch.setattr(store, "commit", slow)
    taking = asyncio.create_task(one.take_events([late, placed(order="SO-5")]))
    await asyncio.sleep(0.05)
    sweeping = asyncio.create_task(one.sweep())
    await asyncio.sleep(0.05)
    assert await rows_of(store, archive) == 0
    gate.set()
    await asyncio.gather(taking, sweeping)
    assert await rows_of(store, archive) == len(CLOSED)
    assert (await store.history(order(ORDER)))[-1].event == late
    assert await one.take_events([late]) == [Taken(Arrival.DUPLICATE)]


@dataclass(frozen=True)
class Apart(Placement):
    mine: frozenset[TwinRef] = frozenset()

    def host_of(self, ref: TwinRef) -> str:
        return "host-1" if ref in self.mine else "host-0"


async def test_twins_of_other_hosts_do_not_keep_a_host_from_its_own(store: SqlStore) -> None:
    clock = Clock()
    clock.ahead = timedelta(days=9_000)
    one = host(store)
    many = ARCHIVE_AT_ONCE + 10
    scanned = [delivered(f"1Z{number:03}", 10) for number in range(many)]
    bound = [dispatched(f"S{number:03}", 1, 5, tracking=f"1Z{number:03}") for number in range(many)]
    await one.take_events([*scanned, *bound, OTHER])
    mine = frozenset(event.subject for event in scanned[-5:])
    two = TwinHost(
        "host-1", store, clock, Policy(), placement=Apart(mine=mine), archive_after=timedelta(days=1)
    )
    await two.sweep()
    await two.sweep()
    assert two.counts.archived_twins == 5


async def test_an_archive_that_cannot_be_read_names_its_twin(store: SqlStore) -> None:
    await lived(store)
    await archive_all(store, "host-0", [order(ORDER)])
    async with store._writer.begin() as connection:
        await connection.execute(archive.update().values(body=b"\x02nonsense"))
    with pytest.raises(InvariantViolated, match=f"order/{ORDER}"):
        await store.history(order(ORDER))


async def test_dead_letters_and_archive_do_not_meet(store: SqlStore) -> None:
    """A message that was refused was never told, so that it is no duplicate of anything archived."""
    await lived(store)
    await archive_all(store, "host-0", sorted(CLOSED))
    assert isinstance((await host(store).take([Publication(b"{}")]))[0], Rejected)
