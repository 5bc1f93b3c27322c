"""The simulated ERP as whoever compares sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from decimal import Decimal

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.models import Document
from canonical.money import ZERO
from canonical.postings import Account, Entry
from twins.ports import Balance, HeldDocument


class SimulatedErpBooks:
    """Implements twins.ports.ErpBooks. Amounts of all companies and currencies are added up."""

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self._erp = SimulatedErpConnector(url, timeout_s=timeout_s)

    @property
    def not_kept(self) -> frozenset[str]:
        return frozenset()

    async def documents(self) -> AsyncIterator[HeldDocument]:
        async for document in self._erp.documents():
            yield held(document)

    async def stock(self) -> Mapping[tuple[str, str], Decimal]:
        found = await self._erp.stock()
        return {(sku, place): each for sku, places in found.items() for place, each in places.items()}

    async def balances(self) -> Mapping[Account, Balance]:
        found: dict[Account, Balance] = {}
        for row in (await self._erp.trial_balance()).rows:
            known = found.get(row.account, Balance(ZERO, ZERO))
            found[row.account] = Balance(known.debit + row.debit, known.credit + row.credit)
        return found

    async def close(self) -> None:
        await self._erp.close()


def held(document: Document) -> HeldDocument:
    return HeldDocument(
        document.number,
        document.posting_key,
        document.version,
        document.action,
        document.live,
        net(document.entries),
    )


def net(entries: Iterable[Entry]) -> dict[Account, Decimal]:
    """Debit less credit by account, without those that net to zero."""
    found: dict[Account, Decimal] = {}
    for entry in entries:
        found[entry.account] = found.get(entry.account, ZERO) + entry.debit - entry.credit
    return {account: amount for account, amount in found.items() if amount}
