"""What a Tryton holds of our postings, read back from its own journal, shelves and accounts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from adapters.tryton.connector import client_of
from adapters.tryton.documents import paper_of
from adapters.tryton.masterdata import MasterData
from adapters.tryton.models import TrytonSettings
from adapters.tryton.papers import ENTRY, INTERNAL, INVOICE, ISSUE, KEY_FIELD, RECEIPT, Paper, finished
from canonical.identity import PostingKey
from canonical.money import ZERO
from canonical.postings import Account, Action
from twins.ports import Balance, HeldDocument

_KEY = re.compile(r"(?P<key>.+)@(?P<version>\d+)(?P<reverse>/reverse)?")
_SHIPMENTS = (ISSUE, RECEIPT, INTERNAL)

Told = tuple[PostingKey, int, Action]
"""What an idempotency key names."""


@dataclass(slots=True)
class _File:
    """Everything that carries one idempotency key. *amounts*: by role of account, debit less credit."""

    papers: list[Paper] = field(default_factory=list)
    amounts: dict[Account, Decimal] = field(default_factory=dict)
    posted_as: int = 0
    """The last of the journal's entries for it."""


class TrytonBooks:
    """Implements ErpBooks, over all companies that the settings name."""

    def __init__(self, settings: TrytonSettings) -> None:
        self._settings = settings
        self._client = client_of(settings)
        self._master_data = MasterData(self._client, settings)

    @property
    def not_kept(self) -> frozenset[str]:
        return frozenset({"reserve-stock"})

    async def documents(self) -> AsyncIterator[HeldDocument]:
        """Those that are finished; first of them what booked nothing."""
        files = {told: file for told, file in (await self._files()).items() if finished(file.papers)}
        for (key, version, action), file in sorted(files.items(), key=lambda item: item[1].posted_as):
            yield HeldDocument(
                document=str(file.papers[0]),
                posting_key=key,
                version=version,
                action=action,
                live=action is Action.POST and (key, version, Action.REVERSE) not in files,
                amounts={account: amount for account, amount in file.amounts.items() if amount},
            )

    async def stock(self) -> Mapping[tuple[str, str], Decimal]:
        """By warehouse, quarantine included; what is not there is left out."""
        found: dict[tuple[str, str], Decimal] = {}
        warehouses = [["type", "=", "warehouse"], ["code", "!=", None]]
        for company in self._settings.companies.values():
            for warehouse in await self._client.search("stock.location", warehouses, "code"):
                here = {"company": company, "locations": [warehouse["id"]], "with_childs": True}
                coded = [["code", "!=", None]]
                async for row in self._client.each(
                    "product.product", coded, "code", "quantity", context=here
                ):
                    place = row["code"], warehouse["code"]
                    found[place] = found.get(place, ZERO) + Decimal(str(row["quantity"]))
        return {place: quantity for place, quantity in found.items() if quantity}

    async def balances(self) -> Mapping[Account, Balance]:
        """Over all fiscal years; what others have booked on these accounts too."""
        found = dict.fromkeys(Account, Balance(ZERO, ZERO))
        for company, roles in await self._roles():
            accounts = [["id", "in", list(roles)]]
            for year in await self._client.search("account.fiscalyear", [["company", "=", company]]):
                during = {"company": company, "fiscalyear": year["id"], "posted": True}
                for row in await self._client.search(
                    "account.account", accounts, "debit", "credit", context=during
                ):
                    before = found[roles[row["id"]]]
                    after = Balance(before.debit + row["debit"], before.credit + row["credit"])
                    found[roles[row["id"]]] = after
        return {role: balance for role, balance in found.items() if balance != Balance(ZERO, ZERO)}

    async def close(self) -> None:
        await self._client.close()

    async def _roles(self) -> list[tuple[int, dict[int, Account]]]:
        """Of each company, which of its accounts plays which role."""
        companies = [await self._master_data.company(name) for name in self._settings.companies]
        return [(one.id, {id: role for role, id in one.accounts.items()}) for one in companies]

    # --- what belongs to a key

    async def _files(self) -> dict[Told, _File]:
        files: dict[Told, _File] = {}
        owners: dict[str, _File] = {}
        for model in (INVOICE, *_SHIPMENTS, ENTRY):
            carrier = KEY_FIELD[model]
            ours = [[carrier, "like", "%@%"], ["state", "!=", "cancelled"]]
            async for row in self._client.each(model, ours, carrier, "state", "number"):
                if told := _told(row[carrier]):
                    file = owners[f"{model},{row['id']}"] = files.setdefault(told, _File())
                    file.papers.append(paper_of(model, row))
        await self._add_moves(owners)
        await self._add_amounts(owners)
        return files

    async def _add_moves(self, owners: dict[str, _File]) -> None:
        async for row in self._client.each("stock.move", [["shipment", "!=", None]], "shipment"):
            if row["shipment"] in owners:
                owners[f"stock.move,{row['id']}"] = owners[row["shipment"]]

    async def _add_amounts(self, owners: Mapping[str, _File]) -> None:
        roles = {id: role for _, of_company in await self._roles() for id, role in of_company.items()}
        posted = [["account", "in", list(roles)], ["move.state", "=", "posted"]]
        fields = "account", "debit", "credit", "move.origin"
        async for row in self._client.each("account.move.line", posted, *fields):
            entry = row["move"]
            file = owners.get(entry["origin"] or f"{ENTRY},{entry['id']}")
            if file is not None:
                role = roles[row["account"]]
                file.amounts[role] = file.amounts.get(role, ZERO) + row["debit"] - row["credit"]
                file.posted_as = max(file.posted_as, entry["id"])


def _told(idempotency_key: str) -> Told | None:
    match = _KEY.fullmatch(idempotency_key)
    if match is None:
        return None
    action = Action.REVERSE if match["reverse"] else Action.POST
    return PostingKey(match["key"]), int(match["version"]), action
