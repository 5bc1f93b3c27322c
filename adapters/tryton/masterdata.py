"""What a company of Tryton calls the things that postings name; read when needed, and kept for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from time import monotonic
from typing import Any, TypeVar

from adapters.tryton.client import Domain, Objection, Row, TrytonClient
from adapters.tryton.models import Company, Party, Place, Product, TrytonSettings, Zone
from canonical.errors import TransientFailure

T = TypeVar("T")


@dataclass(slots=True)
class MasterData:
    """Raises of every question: Objection, naming what Tryton does not know; TransientFailure."""

    client: TrytonClient
    settings: TrytonSettings
    now_s: Callable[[], float] = monotonic
    _kept: dict[Hashable, tuple[float, Any]] = field(default_factory=dict)

    async def company(self, name: str) -> Company:
        if name not in self.settings.companies:
            raise Objection(
                f"company {name!r} is not one of Tryton's; known: {list(self.settings.companies)}"
            )
        return await self._remembered(("company", name), lambda: self._company(self.settings.companies[name]))

    async def product(self, sku: str) -> Product:
        async def ask() -> Product:
            row = await self._only("product.product", [["code", "=", sku]], f"SKU {sku!r}", "default_uom")
            return Product(row["id"], row["default_uom"])

        return await self._remembered(("product", sku), ask)

    async def place(self, zone: Zone) -> Place:
        return await self._remembered(("place", zone), lambda: self._place(*zone))

    async def customer(self, code: str | None) -> Party:
        """The party of that code or identifier; else the walk-in customer."""
        walk_in = self.settings.walk_in
        try:
            return await self.party(code or walk_in)
        except Objection:
            return await self.party(walk_in)

    async def party(self, code: str) -> Party:
        async def ask() -> Party:
            domain = ["OR", ["code", "=", code], ["identifiers.code", "=", code]]
            row = await self._only(
                "party.party", [domain], f"party {code!r}", "addresses", "customer_location"
            )
            return Party(row["id"], min(row["addresses"], default=None), row["customer_location"])

        return await self._remembered(("party", code), ask)

    async def period(self, company: Company, day: date) -> int:
        async def ask() -> int:
            domain = [
                ["company", "=", company.id],
                ["type", "=", "standard"],
                ["start_date", "<=", day],
                ["end_date", ">=", day],
            ]
            return int((await self._only("account.period", domain, f"accounting period of {day}"))["id"])

        return await self._remembered(("period", company.id, day), ask)

    async def unit_costs(self, skus: Iterable[str], company: Company) -> dict[str, Decimal]:
        """SKU → what Tryton values one at, today: never remembered."""
        rows = await self.client.search(
            "product.product",
            [["code", "in", sorted(set(skus))]],
            "code",
            "cost_price",
            context={"company": company.id},
        )
        return {row["code"]: row["cost_price"] or Decimal(0) for row in rows}

    async def _company(self, id: int) -> Company:
        row = await self._only("company.company", [["id", "=", id]], f"company {id}", "currency.code")
        here = ["company", "=", id]
        by_code = await self._ids(
            "account.account", [here, ["code", "in", list(self.settings.accounts.values())]]
        )
        if missing := set(self.settings.accounts.values()) - set(by_code):
            raise TransientFailure(f"Tryton has no account {', '.join(sorted(missing))}: check the settings")
        lost = await self._only("stock.location", [["type", "=", "lost_found"]], "lost and found")
        transit = await self._location(self.settings.transit)
        general, revenue = (
            await self._journal(self.settings.journal),
            await self._journal(self.settings.revenue_journal),
        )
        return Company(
            id,
            row["currency"]["id"],
            row["currency"]["code"],
            {role: by_code[code] for role, code in self.settings.accounts.items()},
            general,
            revenue,
            transit["id"],
            lost["id"],
        )

    async def _ids(self, model: str, domain: Domain) -> dict[str, int]:
        return {row["code"]: row["id"] for row in await self.client.search(model, domain, "code")}

    async def _place(self, location: str, sellable: bool) -> Place:
        warehouse = await self._only(
            "stock.location",
            [["code", "=", location], ["type", "=", "warehouse"]],
            f"warehouse {location!r}",
            "storage_location",
        )
        if sellable:
            return Place(warehouse["id"], warehouse["storage_location"])
        beside = await self._location(self.settings.quarantine.format(warehouse=location))
        return Place(warehouse["id"], beside["id"])

    async def _journal(self, code: str) -> int:
        return int((await self._only("account.journal", [["code", "=", code]], f"journal {code!r}"))["id"])

    async def _location(self, code: str) -> Row:
        return await self._only("stock.location", [["code", "=", code]], f"location {code!r}")

    async def _only(self, model: str, domain: Domain, what: str, *fields: str) -> Row:
        found = await self.client.search(model, domain, *fields)
        if len(found) != 1:
            raise Objection(f"Tryton knows {len(found) or 'no'} {what}")
        return found[0]

    async def _remembered(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """What was asked before, unless too long ago; that something is missing is not remembered."""
        kept = self._kept.get(key)
        if kept is None or kept[0] < self.now_s():
            kept = self._kept[key] = (self.now_s() + self.settings.remember_s, await ask())
        found: T = kept[1]
        return found
