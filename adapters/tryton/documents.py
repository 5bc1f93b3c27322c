"""Documents in Tryton: found by their key, made as drafts, pressed to their end, and read back as booked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from adapters.tryton.client import Objection, Row, TrytonClient
from adapters.tryton.drafting import Draft
from adapters.tryton.papers import ENTRY, INVOICE, KEY_FIELD, STEPS, Paper, finished, models_of
from adapters.tryton.settlement import Line


@dataclass(frozen=True, slots=True)
class Moved:
    """Goods of a finished shipment."""

    id: int
    sku: str
    unit_cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Documents:
    """Raises of every method: Objection, TransientFailure."""

    client: TrytonClient

    async def find(self, key: str) -> list[Paper]:
        """All that carry a key and nobody has cancelled; the journal last, finished ones first."""
        found: list[Paper] = []
        for model in models_of(key):
            domain = [[KEY_FIELD[model], "=", key], ["state", "!=", "cancelled"]]
            papers = [
                paper_of(model, row) for row in await self.client.search(model, domain, "state", "number")
            ]
            found += sorted(papers, key=lambda paper: (not paper.finished, paper.id))
        return found

    async def newest(self, posting_key: str) -> list[Paper]:
        """Those of the newest version of a posting that is finished; empty where none is."""
        versions: dict[int, list[Paper]] = {}
        for model in models_of(posting_key):
            field = KEY_FIELD[model]
            domain = [[field, "like", f"{_literally(posting_key)}@%"], ["state", "!=", "cancelled"]]
            for row in await self.client.search(model, domain, field, "state", "number"):
                version = row[field].removeprefix(f"{posting_key}@")
                if version.isdecimal():
                    versions.setdefault(int(version), []).append(paper_of(model, row))
        done = [version for version, papers in versions.items() if finished(papers)]
        return versions[max(done)] if done else []

    async def make(self, draft: Draft, company: int) -> Paper:
        row = await self.client.create(draft.model, draft.values, "state", "number", company=company)
        return paper_of(draft.model, row)

    async def finish(self, paper: Paper, company: int) -> Paper:
        """Press on from the state in which it is."""
        while not paper.finished:
            button = STEPS[paper.model].get(paper.state)
            if button is None:
                raise Objection(f"somebody has made {paper} {paper.state!r} by hand")
            row = await self.client.act(paper.model, paper.id, button, "state", "number", company=company)
            if row["state"] == paper.state:
                raise Objection(f"{paper} stays {paper.state} after {button!r}")
            paper = paper_of(paper.model, row)
        return paper

    async def discard(self, paper: Paper, company: int) -> None:
        """A draft that another of the same key has made needless."""
        if paper.model == ENTRY:
            await self.client.delete(ENTRY, paper.id, company=company)
        else:
            await self.client.act(paper.model, paper.id, "cancel", company=company)

    async def enter(self, entry: Paper, lines: Sequence[Mapping[str, Any]], company: int) -> None:
        await self.client.update(ENTRY, entry.id, {"lines": [["create", list(lines)]]}, company=company)

    async def lines(self, papers: Sequence[Paper]) -> list[Line]:
        """What they booked."""
        origins: list[str] = [f"{INVOICE},{paper.id}" for paper in papers if paper.model == INVOICE]
        origins += [f"stock.move,{move['id']}" for move in await self._moves(papers)]
        entries = [paper.id for paper in papers if paper.model == ENTRY]
        domain = ["OR", ["move.origin", "in", origins], ["move", "in", entries]]
        rows = await self.client.search("account.move.line", [domain], "account", "party", "debit", "credit")
        return [Line(row["account"], row["party"], row["debit"], row["credit"]) for row in rows]

    async def goods(self, papers: Sequence[Paper]) -> list[Moved]:
        rows = await self._moves(papers, "product.code", "cost_price")
        return [Moved(row["id"], row["product"]["code"], row["cost_price"]) for row in rows]

    async def _moves(self, papers: Sequence[Paper], *fields: str) -> list[Row]:
        shipments = [f"{paper.model},{paper.id}" for paper in papers if paper.model not in (ENTRY, INVOICE)]
        if not shipments:
            return []
        return await self.client.search("stock.move", [["shipment", "in", shipments]], *fields)


def paper_of(model: str, row: Row) -> Paper:
    """Shape: *row* has the fields ``state`` and ``number``."""
    return Paper(model, row["id"], row["state"], row["number"])


def _literally(text: str) -> str:
    """As it is, within a pattern."""
    return re.sub(r"([\\%_])", r"\\\1", text)
