"""What every TwinStore and CommandQueue must do."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Fenced
from canonical.facts.order import OrderAllocated, OrderLine, OrderPlaced, OrderValidated
from canonical.identity import Kind, PostingKey, TwinRef, item, order, shipment, stock, twin_ref
from tests.stories import dispatched, golden, placed
from tests.world import DAY, World, tell
from twins.core.batch import Batch, Effects
from twins.core.contributions import Contribution, Interest
from twins.core.gaps import Watch, gaps
from twins.core.ledger import Status
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin
from twins.ports import TwinFilter

Way = tuple[TwinRef, TwinRef]
"""From whom a letter is, after to whom."""


def folded(*events: object) -> Effects:
    return World().take(list(events))  # type: ignore[arg-type]


async def assert_all_come_back(store: SqlStore, world: World) -> None:
    stored = await store.load(list(world.twins))
    for ref, twin in world.twins.items():
        again = Twin.restore(ref, Policy(), stored[ref])
        assert again.snapshot().document() == twin.snapshot().document()
        assert again.live_postings() == twin.live_postings()
        assert again.version == twin.version


async def test_a_twin_comes_back_as_it_was_committed(store: SqlStore) -> None:
    world = World()
    effects = world.take(golden())
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, effects, ())
    await assert_all_come_back(store, world)


async def test_batches_that_were_folded_one_upon_the_other_are_committed_as_one(store: SqlStore) -> None:
    world, effects = World(), Effects()
    batches = [world.take([event]) for event in golden()]
    for batch in batches:
        effects.add(batch)
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, effects, ())
    await assert_all_come_back(store, world)
    assert (await store.arrivals()) == Counter(arrival for batch in batches for _, arrival in batch.events)
    queued = sorted(await store.queued("main", 1_000), key=lambda one: one.number)
    assert [one.command for one in queued] == [told for batch in batches for _, told in batch.commands]


async def test_a_restored_twin_says_nothing_again(store: SqlStore) -> None:
    world = World()
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, world.take(golden()), ())
    stored = await store.load(list(world.twins))
    again = {ref: Twin.restore(ref, Policy(), one) for ref, one in stored.items()}
    batch = Batch(again, lambda ref: True)
    batch.deliver(golden())
    while batch.step():
        pass
    effects = batch.finish()
    assert not effects.events
    assert not effects.commands
    assert not effects.registers


async def test_an_unheard_of_twin_loads_as_nothing(store: SqlStore) -> None:
    assert await store.load([order("SO-404")]) == {order("SO-404"): Stored()}


async def test_a_host_that_lost_its_epoch_cannot_commit(store: SqlStore) -> None:
    old = await store.claim("host-0")
    new = await store.claim("host-0")
    assert new > old
    with pytest.raises(Fenced):
        await store.commit("host-0", old, folded(placed()), ())
    assert (await store.load([order("SO-1")]))[order("SO-1")].version == 0
    await store.commit("host-0", new, folded(placed()), ())


async def test_each_host_has_epochs_of_its_own(store: SqlStore) -> None:
    first = await store.claim("host-0")
    await store.claim("host-1")
    await store.commit("host-0", first, folded(placed()), ())


async def test_a_commit_is_all_or_nothing(store: SqlStore) -> None:
    """The same events a second time violate their uniqueness: nothing else of that batch may remain."""
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, folded(placed()), ())
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.commit("host-0", epoch, folded(placed(), placed(order="SO-2")), ())
    assert (await store.load([order("SO-2")]))[order("SO-2")] == Stored()


async def test_an_older_word_never_replaces_a_newer_one(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    ref, source = twin_ref("item/SKU-1"), order("SO-1")
    for version, value in ((2, None), (1, Interest())):
        effects = Effects(registers={(ref, source): Contribution(source, ref, version, value)})
        effects.touched[ref] = Twin.restore(ref, Policy(), Stored(version=1)).snapshot()
        await store.commit("host-0", epoch, effects, ())
    (register,) = (await store.load([ref]))[ref].registers
    assert (register.version, register.value) == (2, None)


@pytest.mark.parametrize("both", [True, False])
async def test_hosts_that_write_to_each_other_do_not_lock_each_other_out(
    store: SqlStore, database_url: str, both: bool
) -> None:
    """One writes anew what the other takes out meanwhile, each in the order in which it came to it; or *both*
    do both.
    """
    other, many, rounds = SqlStore(database_url), 1_000, 5
    there, back = (
        [(order(f"SO-{way}-{number}"), shipment(f"S-{number}")) for number in range(many)]
        for way in ("there", "back")
    )
    hosts = [(store, "host-0", there, back), (other, "host-1", back, there)]
    epochs = {name: await each.claim(name) for each, name, _, _ in hosts}
    if not both:
        back.clear()

    async def write(each: SqlStore, name: str, mine: list[Way], others: list[Way], version: int) -> None:
        mail = {way: Contribution(way[1], way[0], version, Interest()) for way in mine}
        taken = [Contribution(source, target, version - 1, Interest()) for target, source in others[::-1]]
        await each.commit(name, epochs[name], Effects(mail=mail), taken)

    for version in range(1, rounds + 1):
        await asyncio.gather(*(write(*host, version) for host in hosts))
    left = await store.mail(3 * many)
    assert Counter(one.version for one in left) == {rounds: len(there) + len(back)}
    await other.close()


async def test_what_was_asked_before_closing_ends(store: SqlStore, database_url: str) -> None:
    closing = SqlStore(database_url)
    epoch = await closing.claim("host-0")
    letters = [Contribution(order(f"SO-{number}"), shipment("S-1"), 1, Interest()) for number in range(20)]
    asked = [
        asyncio.create_task(
            closing.commit("host-0", epoch, Effects(mail={(one.target, one.source): one}), ())
        )
        for one in letters
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await asyncio.gather(closing.close(), *asked)
    assert Counter(await store.mail(len(letters))) == Counter(letters)


async def test_mail_is_looked_at_a_page_after_the_other(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    targets = [shipment(f"S-{number}") for number in range(5)]
    letters = [
        Contribution(order(f"SO-{number}"), target, 1, Interest()) for target in targets for number in (1, 2)
    ]
    await store.commit("host-0", epoch, Effects(mail={(one.target, one.source): one for one in letters}), ())
    found: list[Contribution] = []
    while page := await store.mail(3, found[-1] if found else None):
        found += page
    assert Counter(found) == Counter(letters)


async def test_mail_waits_until_it_is_delivered(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    letter = Contribution(order("SO-1"), shipment("S-1"), 3, Interest())
    await store.commit("host-0", epoch, Effects(mail={(letter.target, letter.source): letter}), ())
    assert await store.mail(10) == [letter]
    older = Contribution(letter.source, letter.target, 2, Interest())
    await store.commit("host-0", epoch, Effects(), [older])
    assert await store.mail(10) == [letter], "what is newer than what was delivered must stay"
    await store.commit("host-0", epoch, Effects(), [letter])
    assert await store.mail(10) == []


async def test_history_shows_every_event_with_its_arrival(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    world = World()
    for event in (placed(minute=10), tell("order/SO-1", placed().fact, 5, id="earlier")):
        await store.commit("host-0", epoch, world.take([event]), ())
    told = await store.history(order("SO-1"))
    assert [one.arrival.value for one in told] == ["new", "late"]
    assert [one.event for one in told] == [
        placed(minute=10),
        tell("order/SO-1", placed().fact, 5, id="earlier"),
    ]


async def test_lists_filter_and_page(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    orders = [placed(order=f"SO-{number:02}") for number in range(7)]
    await store.commit("host-0", epoch, folded(*golden()[:2], *orders), ())
    first = await store.rows(TwinFilter(Kind.ORDER, customer_id="C-1"), 5)
    rest = await store.rows(TwinFilter(Kind.ORDER, customer_id="C-1", after=str(first[-1].ref)), 5)
    assert [row.ref.key for row in (*first, *rest)] == [f"SO-{number:02}" for number in range(7)]
    assert await store.rows(TwinFilter(Kind.ORDER, status="cancelled"), 5) == []


async def test_lists_find_findings(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, folded(placed()), ())
    (row,) = await store.rows(TwinFilter(Kind.ORDER, finding="unknown-master-data"), 5)
    assert row.findings == ("unknown-master-data",)
    assert await store.rows(TwinFilter(Kind.ORDER, finding="unknown-master"), 5) == []


async def test_deadlines_are_noted_while_the_same_twins_are_committed(store: SqlStore) -> None:
    """PostgreSQL ends one of two that wait for each other's rows after a second: a whole batch."""
    world = World()
    effects = world.take([dispatched(f"SHP-{n:03}", 1, 0, order=f"SO-{n}") for n in range(200)])
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, effects, ())
    again = Effects(touched=dict(reversed(effects.touched.items())))
    refs, later = sorted(effects.touched), DAY + timedelta(days=90)
    for _ in range(20):
        await asyncio.gather(store.commit("host-0", epoch, again, ()), store.raised(refs, later))


async def test_deadlines_are_due_once(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    held = tell("order/SO-9", golden()[4].fact, 5)
    await store.commit("host-0", epoch, folded(held), ())
    assert await store.due(DAY, 10) == []
    later = DAY + timedelta(days=3)
    assert [row.ref for row in await store.due(later, 10)] == [order("SO-9")]
    await store.raised([order("SO-9")], later)
    assert await store.due(later, 10) == []


async def test_a_twin_is_found_by_what_it_is_now(store: SqlStore) -> None:
    """Its status, deadline and closing move with each commit: an index left behind would show the old."""
    epoch, world = await store.claim("host-0"), World()
    long_after = DAY + timedelta(days=365)
    seen = set()
    held = tell("order/SO-9", golden()[4].fact, 5)
    for event in (held, placed(order="SO-9", minute=1), *golden()):
        await store.commit("host-0", epoch, world.take([event]), ())
        stand = [twin.snapshot() for twin in world.twins.values() if twin.version]
        wanted = Counter((one.ref.kind.value, one.status) for one in stand if one.exists)
        assert await store.counts() == wanted
        awaited = {one.ref for one in stand if any(finding.due for finding in one.findings)}
        assert {row.ref for row in await store.due(long_after, 100)} == awaited
        over = {one.ref for one in stand if one.is_closed()}
        found = await store.closed(datetime.max.replace(tzinfo=UTC), None, 100)
        assert {one.ref for one in found} == over
        seen.add((len(awaited), len(over), tuple(sorted(wanted))))
    assert len(seen) > 4, "deadlines, closings and statuses must have come and gone"


async def test_any_name_can_be_loaded(store: SqlStore) -> None:
    names = ('SO "1"', "SO'2", "SO\\3", "SÖ-4", "SO,5}", "[6]", "NULL")
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, folded(*(placed(order=name) for name in names)), ())
    found = await store.load([*map(order, names), order("SO")])
    assert {ref.key for ref, one in found.items() if one.events} == set(names)


async def test_commands_queue_in_order_and_leave_when_finished(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    effects = folded(*golden())
    await store.commit("host-0", epoch, effects, ())
    queue = await store.queued("main", 100)
    assert [one.command for one in queue] == [command for _, command in effects.commands]
    epoch = await store.claim("gateway-main")
    assert await store.sending("gateway-main", epoch, "main", [queue[0].number]) == {queue[0].number}
    again = await store.queued("main", 100)
    assert [one.sent for one in again] == [True] + [False] * (len(queue) - 1)
    assert again[0].attempts == 1
    await store.finished("gateway-main", epoch, [queue[0].number])
    assert len(await store.queued("main", 100)) == len(queue) - 1
    assert await store.queued("other", 100) == []


async def test_statuses_cover_every_version(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, folded(*golden()), ())
    key = PostingKey("goods-issue/SHP-1")
    assert await store.statuses([key, PostingKey("none/1")]) == {(key, 1): Status.QUEUED}
    assert set(await store.under("invoice/SHP-1/")) == {(PostingKey("invoice/SHP-1/SO-1"), 1)}
    assert await store.under("invoice/SHP/") == {}


async def test_hosts_commit_side_by_side(store: SqlStore) -> None:
    epochs = {name: await store.claim(name) for name in ("host-0", "host-1")}

    async def fill(host: str) -> None:
        for number in range(5):
            await store.commit(host, epochs[host], folded(placed(order=f"{host}-{number}")), ())

    await asyncio.gather(*map(fill, epochs))
    assert sum((await store.counts()).values()) == 12


async def test_migrating_twice_changes_nothing(store: SqlStore) -> None:
    await store.migrate()


async def test_a_gateway_that_was_replaced_can_send_and_finish_nothing(store: SqlStore) -> None:
    old = await store.claim("gateway-main")
    new = await store.claim("gateway-main")
    for work in (
        lambda epoch: store.sending("gateway-main", epoch, "main", [1]),
        lambda epoch: store.stumbled("gateway-main", epoch, {1: "away"}),
        lambda epoch: store.finished("gateway-main", epoch, [1]),
    ):
        with pytest.raises(Fenced):
            await work(old)
        await work(new)


async def test_numbers_that_a_source_left_out_are_found_and_watched(store: SqlStore) -> None:
    def numbered(number: int) -> Event:
        return tell(f"order/SO-{number}", OrderValidated(), number, source="/oms", sequence=number)

    epoch, world = await store.claim("host-0"), World()
    for numbers in ((3, 4, 9), (6,), (5, 7, 8), (1,)):
        await store.commit("host-0", epoch, world.take(map(numbered, numbers)), ())
        told = sorted(
            event.sequence or 0 for twin in world.twins.values() for event in twin.history.all_events()
        )
        expected = list(gaps("/oms", [(number, DAY + timedelta(minutes=number)) for number in told]))
        assert await store.find_gaps() == expected
    watch = Watch(expected[0], DAY, DAY, 3)
    await store.watch([Watch(expected[0], DAY)], [])
    await store.watch([watch], [])
    assert await store.watches() == [watch]
    await store.watch([], [watch])
    assert await store.watches() == []


async def test_the_longest_identifiers_make_twins_that_can_be_read_back(store: SqlStore) -> None:
    sku, place = "S" * 128, "L" * 128
    epoch = await store.claim("host-0")
    line = OrderLine(line_id="1", sku=sku, quantity=5, unit_price="1.00")
    events = [
        tell("order/SO-1", OrderPlaced(currency="USD", lines=(line,)), 0),
        tell("order/SO-1", OrderAllocated(line_id="1", location=place, quantity=5), 1),
    ]
    await store.commit("host-0", epoch, folded(*events), ())
    found = await store.load([order("SO-1"), stock(sku, place), item(sku)])
    assert all(stored.version for stored in found.values())
    (letter,) = found[stock(sku, place)].registers[:1]
    assert letter.target == stock(sku, place)
