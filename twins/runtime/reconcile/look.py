"""One look at everything that is compared. What it finds may only be on its way: see `run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from canonical.identity import PostingKey
from canonical.money import ZERO
from canonical.movements import Shelf
from canonical.postings import Account
from twins.core.reconcile import balances, documents
from twins.core.reconcile.difference import Difference
from twins.core.reconcile.documents import Filed
from twins.ports import Balance, ErpBooks, HeldDocument, Ledgers
from twins.runtime.reconcile.spool import Spool

PAGE = 500
DIFFERENCES_MAX = 10_000
"""Of one look: whoever has more has another problem."""
Progress = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class Look:
    differences: dict[str, Difference] = field(default_factory=dict)
    """By id."""
    not_compared: list[str] = field(default_factory=list)
    unlike: dict[Shelf, Decimal] = field(default_factory=dict)
    """What the documents of the ERPs have moved beyond the twins."""

    def add(self, found: Iterable[Difference]) -> None:
        for one in found:
            if len(self.differences) < DIFFERENCES_MAX:
                self.differences[one.id] = one
            elif not self.not_compared or not self.not_compared[-1].startswith("more than"):
                self.not_compared.append(f"more than {DIFFERENCES_MAX} differences: the rest is not listed")


async def look_at_documents(
    erp: str, books: ErpBooks, ledgers: Ledgers, settled_before: datetime, look: Look, progress: Progress
) -> None:
    """Compare an ERP's documents and balances with the ledger. Raises: TransientFailure.

    The ERP is read first: what it then holds, the ledger has told it, and knows.
    """
    before = await books.balances()
    with Spool() as spool:
        sums = await _spooled(books, spool, progress)
        after = await books.balances()
        keys = 0
        async for page in _pages(ledgers, erp, books.not_kept):
            held = await asyncio.to_thread(spool.take, page)
            for key, filed in page.items():
                look.add(
                    documents.compared(key, filed, held.get(key, ()), erp=erp, settled_before=settled_before)
                )
                for shelf, quantity in documents.unlike_the_twins(filed, held.get(key, ())):
                    look.unlike[shelf] = look.unlike.get(shelf, ZERO) + quantity
            keys += len(page)
            await progress(f"{erp}: {keys} postings compared")
        for key, left in spool.rest():
            look.add(documents.compared(key, (), left, erp=erp, settled_before=settled_before))
    look.add(balances.compared(before, sums, after, await ledgers.accepted(erp), erp))
    look.not_compared += _moved(erp, before, after)


async def look_at_keys(
    erp: str, books: ErpBooks, ledgers: Ledgers, settled_before: datetime, keys: Collection[PostingKey]
) -> dict[str, Difference]:
    """The same for the documents of a few keys."""
    look, held = Look(), dict[PostingKey, list[HeldDocument]]()
    async for document in books.documents():
        if document.posting_key in keys:
            held.setdefault(document.posting_key, []).append(document)
    filed = _by_key(await ledgers.filed(keys))
    for key in sorted(keys):
        some = documents.compared(
            key, filed.get(key, ()), held.get(key, ()), erp=erp, settled_before=settled_before
        )
        look.add(some)
    return look.differences


async def _spooled(books: ErpBooks, spool: Spool, progress: Progress) -> dict[Account, Decimal]:
    """Answers what all documents add up to."""
    sums: dict[Account, Decimal] = {}
    waiting: list[HeldDocument] = []
    seen = 0
    async for document in books.documents():
        waiting.append(document)
        for account, amount in document.amounts.items():
            sums[account] = sums.get(account, ZERO) + amount
        if len(waiting) == PAGE:
            await asyncio.to_thread(spool.add, waiting)
            seen, waiting = seen + len(waiting), []
            await progress(f"{seen} documents read")
    await asyncio.to_thread(spool.add, waiting)
    return sums


async def _pages(
    ledgers: Ledgers, erp: str, not_kept: Collection[str]
) -> AsyncIterator[dict[PostingKey, list[Filed]]]:
    after: PostingKey | None = None
    while filed := await ledgers.ledger(erp, after, PAGE):
        yield _by_key([one for one in filed if one.record.posting.command not in not_kept])
        after = filed[-1].record.key


def _by_key(filed: Sequence[Filed]) -> dict[PostingKey, list[Filed]]:
    return {key: list(some) for key, some in groupby(filed, key=lambda one: one.record.key)}


def _moved(erp: str, before: Mapping[Account, Balance], after: Mapping[Account, Balance]) -> list[str]:
    moved = [
        account
        for account in sorted(before.keys() | after.keys())
        if not balances.is_still(account, before, after)
    ]
    return [f"erp/{erp}: balances moved meanwhile: {', '.join(moved)}"] if moved else []
