"""A command takes several calls. Whichever of them is the last to be answered, one document is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from adapters.tryton.books import TrytonBooks
from adapters.tryton.client import TrytonClient
from adapters.tryton.connector import TrytonConnector, client_of
from adapters.tryton.models import TrytonSettings
from adapters.tryton.papers import ENTRY, INTERNAL, INVOICE, ISSUE, KEY_FIELD, RECEIPT
from canonical.errors import TransientFailure
from canonical.postings import Action, Command, Posting, entries
from tests.erp.line import Fate, Line
from tests.erp.postings import adjustment, goods_issue, invoice, payment, return_receipt
from tests.erp.test_effects import by_role, held
from twins.ports import Confirmed

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


@dataclass
class Interruption:
    """Loses the answer to the n-th request that changes something."""

    nth: int
    fate: Fate
    changes: int = field(default=0)

    async def __call__(self, request: web.Request) -> Fate:
        if request.method == "GET":
            return Fate.PASSES
        self.changes += 1
        return self.fate if self.changes == self.nth else Fate.PASSES


@pytest.fixture
async def line(tryton: TrytonSettings) -> AsyncIterator[Line]:
    async with Line(tryton.url.rpartition("/")[0]).open() as opened:
        yield opened


@pytest.fixture
async def far(tryton: TrytonSettings, line: Line) -> AsyncIterator[TrytonConnector]:
    """A connector at the other end of the line."""
    database = tryton.url.rpartition("/")[2]
    made = TrytonConnector(tryton.model_copy(update={"url": f"{line.url}/{database}", "timeout_s": 20.0}))
    yield made
    await made.close()


@pytest.fixture
async def client(tryton: TrytonSettings) -> AsyncIterator[TrytonClient]:
    opened = client_of(tryton)
    yield opened
    await opened.close()


def interruptions(fate: Fate) -> Iterator[Interruption]:
    yield from (Interruption(nth, fate) for nth in range(1, 30))


async def papers(client: TrytonClient, key: str) -> list[tuple[str, str]]:
    """Model and state of everything that carries a key."""
    return [
        (model, row["state"])
        for model in (ISSUE, RECEIPT, INTERNAL, INVOICE, ENTRY)
        for row in await client.search(model, [[KEY_FIELD[model], "=", key]], "state")
    ]


async def told_again(far: TrytonConnector, command: Command) -> Confirmed:
    """As the gateway does: look it up, and tell it if it is not there."""
    found = await far.look_up(command.idempotency_key)
    answer = found or await far.tell(command)
    assert isinstance(answer, Confirmed)
    return answer


@pytest.mark.parametrize(
    ("posting", "made"),
    [
        (goods_issue(), [(ISSUE, "done")]),
        (goods_issue(cost="48.01"), [(ISSUE, "done"), (ENTRY, "posted")]),
        (invoice(), [(INVOICE, "posted")]),
        (
            return_receipt(sellable=(1, "8.00"), damaged=(1, "8.00")),
            [(RECEIPT, "done"), (RECEIPT, "done"), (ENTRY, "posted")],
        ),
        (adjustment(3, "24.00"), [(INTERNAL, "done"), (ENTRY, "posted")]),
        (payment(), [(ENTRY, "posted")]),
    ],
    ids=["goods issue", "goods issue at another cost", "invoice", "return receipt", "adjustment", "payment"],
)
@pytest.mark.parametrize("fate", [Fate.ANSWER_IS_LOST, Fate.IS_LOST], ids=["answer lost", "request lost"])
async def test_one_document_is_made_wherever_the_telling_was_interrupted(
    far: TrytonConnector,
    line: Line,
    client: TrytonClient,
    books: TrytonBooks,
    posting: Posting,
    made: list[tuple[str, str]],
    fate: Fate,
) -> None:
    keys: list[str] = []
    for version, interruption in enumerate(interruptions(fate), start=1):
        command = Command(Action.POST, version, posting)
        line.judge = interruption
        keys.append(command.idempotency_key)
        try:
            first = await far.tell(command)
        except TransientFailure:
            again = await told_again(far, command)
            assert await far.look_up(command.idempotency_key) == again
        else:
            assert isinstance(first, Confirmed)
            break
    assert len(keys) > 2, "nothing was interrupted"
    for key in keys:
        assert await papers(client, key) == made, key
    found = await held(books)
    assert {key: one.amounts for key, one in found.items()} == dict.fromkeys(keys, by_role(entries(posting)))


async def test_a_reversal_is_made_once_wherever_it_was_interrupted(
    far: TrytonConnector, line: Line, client: TrytonClient, books: TrytonBooks
) -> None:
    posting = goods_issue()
    for version, interruption in enumerate(interruptions(Fate.ANSWER_IS_LOST), start=1):
        await far.tell(Command(Action.POST, version, posting))
        undo = Command(Action.REVERSE, version, posting)
        line.judge = interruption
        try:
            await far.tell(undo)
        except TransientFailure:
            await told_again(far, undo)
        else:
            break
        finally:
            line.judge = Interruption(0, Fate.PASSES)
        assert await papers(client, undo.idempotency_key) == [(RECEIPT, "done"), (ENTRY, "posted")]
    assert version > 2
    assert not any(one.live for one in (await held(books)).values())


async def test_a_draft_that_came_late_is_discarded(
    connector: TrytonConnector, client: TrytonClient, books: TrytonBooks
) -> None:
    """A request that was given up may still be carried out, after it was told again."""
    command = Command(Action.POST, 1, payment())
    confirmed = await connector.tell(command)
    (first,) = await client.search(
        ENTRY, [["description", "=", command.idempotency_key]], "period", "journal", "date"
    )
    late = {"company": 1, "description": command.idempotency_key}
    late |= {name: first[name] for name in ("period", "journal", "date")}
    await client.create(ENTRY, late, company=1)
    assert await connector.look_up(command.idempotency_key) is None
    assert await connector.tell(command) == confirmed
    assert await papers(client, command.idempotency_key) == [(ENTRY, "posted")]
    assert list(await held(books)) == [command.idempotency_key]
