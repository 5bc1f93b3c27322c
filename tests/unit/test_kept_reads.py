"""An answer is given again without asking only while asking would give the same."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from random import Random
from time import monotonic_ns

import pytest

from canonical.errors import TransientFailure
from canonical.facts.order import PaymentCaptured
from canonical.identity import TwinRef, order
from tests.stories import ORDER, placed
from tests.unit.test_host import Clock, FickleStore, host, messages
from tests.unit.test_host import store as store
from tests.unit.test_http_api import OneHost
from tests.world import tell
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.placement import UNPLACED, Placement
from twins.core.rules import Policy
from twins.runtime.coalesce import Answer, CoalescedReads
from twins.runtime.host import Aspect, TwinHost
from twins.runtime.ingest import Directory
from twins.runtime.kept import ENTRY_BYTES, Boards, KeptReads
from twins.runtime.stamps import Board, BoardReader, Place


class CountingHost(OneHost):
    """Its answers can be held up on their way."""

    asked = 0
    gate: asyncio.Event | None = None

    async def read(self, host: str, aspect: Aspect, refs: list[TwinRef]) -> list[Answer]:
        self.asked += len(refs)
        answers: list[Answer] = await super().read(host, aspect, refs)
        if self.gate is not None:
            await self.gate.wait()
        return answers


class Replica:
    """What a replica has of one host."""

    def __init__(self, one: TwinHost, place: Place | None, **options: int) -> None:
        self.calls = CountingHost(one)

        async def ask(_host: str) -> Place | None:
            return place

        directory = self.directory = Directory(Placement(), self.calls)
        boards = Boards(ask, directory.look)
        self.reads = KeptReads(CoalescedReads(directory), directory, boards, **options)

    async def read(self, ref: TwinRef) -> Answer:
        return await self.reads.read(Aspect.DOCUMENT, ref)


@asynccontextmanager
async def trusted(store: FickleStore) -> AsyncIterator[tuple[TwinHost, Board]]:
    """A host that holds its epoch, and whose board is renewed."""
    board = Board()
    one = host(store, board=board)
    await one.take(messages(placed()))
    renewing = asyncio.create_task(one.run_board())
    reader = BoardReader(board.place)
    while reader.stamp(order(ORDER)) is None:
        await asyncio.sleep(0.01)
    yield one, board
    renewing.cancel()


async def found(replica: Replica) -> None:
    """The first reads look for the board."""
    while not replica.reads._kept:
        await replica.read(order(ORDER))
        await asyncio.sleep(0)


def paid(number: int, ref: str = ORDER) -> object:
    return tell(f"order/{ref}", PaymentCaptured(payment_id=f"P-{number}", amount="1", currency="USD"), number)


async def test_what_has_not_changed_is_not_asked_for_again(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        replica = Replica(one, board.place)
        await found(replica)
        asked = replica.calls.asked
        answers = {await replica.read(order(ORDER)) for _ in range(20)}
        assert len(answers) == 1
        assert replica.calls.asked == asked


async def test_a_twin_that_nobody_has_heard_of_is_asked_for_once_until_somebody_tells_of_it(
    store: FickleStore,
) -> None:
    async with trusted(store) as (one, board):
        replica = Replica(one, board.place)
        await found(replica)
        asked = replica.calls.asked
        assert [await replica.read(order("SO-NEW")) for _ in range(20)] == [None] * 20
        assert replica.calls.asked == asked + 1
        await one.take(messages(placed(order="SO-NEW")))
        assert await replica.read(order("SO-NEW")) is not None


async def test_whoever_has_heard_of_a_commit_reads_it_at_once(store: FickleStore) -> None:
    chance = Random(7)
    async with trusted(store) as (one, board):
        replica = Replica(one, board.place)
        await found(replica)
        names = [f"SO-{number}" for number in range(5)]
        for number in range(150):
            name = chance.choice(names)
            match chance.randrange(3):
                case 0:
                    await one.take(messages(placed(order=name)))
                case 1:
                    await one.take(messages(paid(number, name)))
                case 2:
                    begun = asyncio.create_task(one.take(messages(paid(number, name))))
                    await asyncio.sleep(0)
                    await replica.read(order(name))
                    await begun
            told, kept = await asyncio.gather(
                one.read(Aspect.DOCUMENT, [order(name)]), replica.read(order(name))
            )
            assert [kept] == told
        assert replica.calls.asked < 300


async def test_an_answer_that_was_overtaken_by_a_commit_is_not_kept_for_later(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        replica = Replica(one, board.place)
        await found(replica)
        await one.take(messages(paid(1)))
        replica.calls.gate = asyncio.Event()
        overtaken = asyncio.create_task(replica.read(order(ORDER)))
        await asyncio.sleep(0.01)
        await one.take(messages(paid(2)))
        replica.calls.gate.set()
        await overtaken
        assert [await replica.read(order(ORDER))] == await one.read(Aspect.DOCUMENT, [order(ORDER)])


async def test_readers_of_many_twins_with_actors_of_their_own_leave_nothing_behind() -> None:
    """Such an actor has no board, and there are as many as anybody asks for."""
    asked = []

    async def ask(name: str) -> Place | None:
        asked.append(name)
        return None

    boards = Boards(ask)
    for number in range(100):
        assert boards.stamp(f"order/SO-{number}", order(f"SO-{number}")) is None
    await asyncio.sleep(0)
    assert asked == []
    assert not boards._asked_at


async def test_what_may_have_been_committed_is_asked_for(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = store.commit

    async def in_doubt(
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution] = (),
        placement: Placement = UNPLACED,
    ) -> None:
        await commit(host, epoch, effects, delivered, placement)
        raise TransientFailure("the database was away before it answered")

    async with trusted(store) as (one, board):
        replica = Replica(one, board.place)
        await found(replica)
        before = await replica.read(order(ORDER))
        monkeypatch.setattr(store, "commit", in_doubt)
        with suppress(TransientFailure):
            await one.take(messages(paid(1)))
        assert await replica.read(order(ORDER)) != before


async def test_nothing_is_trusted_of_a_host_that_is_drained_to_be_moved(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        reader = BoardReader(board.place)
        await one.drain()
        assert reader.stamp(order(ORDER)) is None


async def test_a_successor_shows_nothing_new_while_its_predecessor_is_trusted(store: FickleStore) -> None:
    async with trusted(store) as (_, board):
        reader = BoardReader(board.place)
        successor = host(store, board=Board())
        await successor.take(messages(paid(1)))
        assert reader.stamp(order(ORDER)) is None


async def test_only_as_many_bytes_are_kept_as_allowed(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        refs = [order(f"SO-{number}") for number in range(20)]
        await one.take(messages(*(placed(order=ref.key) for ref in refs)))
        replica = Replica(one, board.place, bytes_max=5_000)
        await found(replica)
        for _ in range(2):
            for ref in refs:
                await replica.read(ref)
        kept = [answer for _, answer in replica.reads._kept.values() if answer is not None]
        assert 0 < sum(ENTRY_BYTES + len(body) for _, body in kept) == replica.reads._bytes <= 5_000


async def test_names_without_end_that_nobody_has_heard_of_are_kept_within_bounds(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        replica = Replica(one, board.place, bytes_max=5_000)
        await found(replica)
        for number in range(50):
            await replica.read(order(f"SO-UNKNOWN-{number}"))
        assert len(replica.reads._kept) <= 5_000 // ENTRY_BYTES


async def test_a_host_without_a_board_is_asked_each_time(store: FickleStore) -> None:
    one = host(store)
    await one.take(messages(placed()))
    replica = Replica(one, None)
    for _ in range(5):
        assert await replica.read(order(ORDER)) is not None
        await asyncio.sleep(0)
    assert replica.calls.asked == 5


LOOK = """
import pickle, sys
from canonical.identity import order
from twins.runtime.stamps import BoardReader
reader = BoardReader(pickle.loads(bytes.fromhex(sys.argv[1])))
for _ in sys.stdin:
    print(reader.stamp(order("SO-1")), reader.stamp(order("SO-2")), flush=True)
"""


def test_another_process_sees_each_change_and_only_what_is_trusted() -> None:
    board = Board()
    told = pickle.dumps(board.place).hex()
    with subprocess.Popen(
        [sys.executable, "-c", LOOK, told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def look() -> list[str]:
            other.stdin.write("\n")
            other.stdin.flush()
            return other.stdout.readline().split()

        assert look() == ["None", "None"]
        board.trust(10**18)
        first, second = look()
        board.changed([order("SO-1")])
        assert look() == [str(int(first) + 1), second]
        board.distrust()
        assert look() == ["None", "None"]


def test_a_board_of_another_process_or_machine_is_not_taken_for_the_hosts() -> None:
    place = Board().place
    with pytest.raises(OSError, match="another board"):
        BoardReader(Place(place.process, place.descriptor, place.token ^ 1))
    with pytest.raises(OSError, match="No such file"):
        BoardReader(Place(2**22 + 1, place.descriptor, place.token))


def pinned(now: Placement) -> Placement:
    return replace(now, pinned=frozenset({order(ORDER)}))


async def test_a_board_speaks_only_to_those_who_go_by_the_same_placement(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        reader = BoardReader(board.place)
        now = await store.place(pinned)
        await one.look()
        while reader.stamp(order("SO-OTHER"), now.version) is None:
            await asyncio.sleep(0.01)
        assert reader.placement == now.version
        assert reader.stamp(order(ORDER), now.version - 1) is None


async def heard_of_nothing(store: FickleStore) -> BoardReader:
    """Of a host that had the twin, and found its epoch held a moment before it was pinned."""
    board = Board()
    board.trust(monotonic_ns())
    await store.place(pinned)
    return BoardReader(board.place)


@pytest.mark.parametrize("again", [False, True])
async def test_a_twin_that_has_moved_changes_for_nobody_while_its_old_host_is_trusted(
    store: FickleStore, again: bool
) -> None:
    reader = await heard_of_nothing(store)
    assert reader.stamp(order(ORDER)) is not None
    apart = TwinHost(f"order/{ORDER}", store, Clock(), Policy(), boards=True)
    await apart.look()
    if again:
        await store.place(lambda now: replace(now, pooled_hosts=2))
    await apart.take(messages(paid(1)))
    assert reader.stamp(order(ORDER)) is None


async def test_who_gives_a_twin_away_need_not_wait_for_what_is_left(store: FickleStore) -> None:
    one = host(store, board=Board())
    await one.take(messages(placed(), placed(order="SO-OTHER")))
    await store.place(pinned)
    await one.look()
    assert not one._had_a_board(order("SO-OTHER"))


async def test_nothing_is_kept_from_one_placement_to_the_next(store: FickleStore) -> None:
    """A twin that went and came back looks to its host's board as if nothing had happened."""
    async with trusted(store) as (one, board):
        replica = Replica(one, board.place)
        await found(replica)
        await store.place(pinned)
        await one.look()
        apart = TwinHost(f"order/{ORDER}", store, Clock(), Policy())
        await apart.take(messages(paid(1)))
        now = await store.place(lambda now: replace(now, pinned=frozenset()))
        await one.look()
        reader = BoardReader(board.place)
        while reader.stamp(order(ORDER), now.version) is None:
            await asyncio.sleep(0.01)
        await replica.directory.look(now.version)
        assert [await replica.read(order(ORDER))] == await one.read(Aspect.DOCUMENT, [order(ORDER)])


async def test_who_finds_a_board_of_another_placement_learns_of_it(store: FickleStore) -> None:
    async with trusted(store) as (one, board):
        now = await store.place(lambda now: replace(now, pooled_hosts=1))
        await one.look()
        replica = Replica(one, board.place)
        async with asyncio.timeout(20):
            while not replica.reads._kept:
                await replica.read(order(ORDER))
                await asyncio.sleep(0.01)
        assert replica.directory.placement == now
