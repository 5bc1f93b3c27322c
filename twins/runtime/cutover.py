"""What an instance in shadow made of what it was told, beside what the live one made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from canonical.identity import PostingKey
from canonical.postings import Account, Action
from twins.ports import Copy, Cutover, Cutovers, ErpBooks

Amounts = Mapping[Account, Decimal]


@dataclass(frozen=True, slots=True)
class BookedApart:
    """Both hold the document, with other amounts."""

    key: PostingKey
    version: int
    action: Action
    live: Amounts
    shadow: Amounts


@dataclass(slots=True)
class CutoverReport:
    cutover: Cutover
    alike: int = 0
    waiting: int = 0
    """One of the two has not answered."""
    different: int = 0
    differences: list[Copy] = field(default_factory=list)
    """The first of them, by key."""
    to_clear: list[Copy] = field(default_factory=list)
    """After a promotion: copies of what the old instance keeps, not reversed yet. The first, by key."""
    amounts_compared: int | None = None
    """Documents that both hold; None: not both instances show their books."""
    booked_apart: list[BookedApart] = field(default_factory=list)


Books = Callable[[str], ErpBooks | None]
"""What an ERP instance holds; None: its connector does not show it."""


async def report(
    cutovers: Cutovers, books: Books, cutover: Cutover, limit: int, amounts: bool
) -> CutoverReport:
    """Count all, and list up to *limit* of each kind. *amounts*: compare those too, where both show them.

    Raises: TransientFailure, of an ERP only where amounts are compared.
    """
    told = await compare(cutovers, cutover, limit)
    live, shadow = (books(cutover.of), books(cutover.erp)) if amounts else (None, None)
    try:
        if live is not None and shadow is not None:
            await compare_amounts(told, live, shadow, limit)
    finally:
        for one in (live, shadow):
            if one is not None:
                await one.close()
    return told


async def compare(cutovers: Cutovers, cutover: Cutover, limit: int) -> CutoverReport:
    told = CutoverReport(cutover)
    async for copy in cutovers.copies(cutover.erp):
        if cutover.state != "shadow" and copy.is_standing:
            told.to_clear.append(copy)
            del told.to_clear[limit:]
        if cutover.state != "shadow":
            continue
        if copy.difference is not None:
            told.different += 1
            told.differences.append(copy)
            del told.differences[limit:]
        elif copy.is_open:
            told.waiting += 1
        else:
            told.alike += 1
    return told


async def compare_amounts(told: CutoverReport, live: ErpBooks, shadow: ErpBooks, limit: int) -> None:
    """Compare what the two have booked under the same key, version and action. Raises: TransientFailure.

    Cost: reads all documents of both; those of the shadow are held in memory.
    """
    copies = {(one.posting_key, one.version, one.action): one.amounts async for one in shadow.documents()}
    told.amounts_compared = 0
    async for document in live.documents():
        place = document.posting_key, document.version, document.action
        amounts = copies.get(place)
        if amounts is None:
            continue
        told.amounts_compared += 1
        if amounts != document.amounts and len(told.booked_apart) < limit:
            told.booked_apart.append(BookedApart(*place, document.amounts, amounts))
