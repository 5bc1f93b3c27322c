"""twinsync's side of Tryton: a posting becomes documents there, in several calls; any may be the last.

A journal entry is drafted first, with the idempotency key, and posted or deleted last: while it is a draft,
the command is unfinished. Every other document too is made as a draft with the key, found again by it, and
pressed from state to state. So a command that was interrupted goes on where it stood, and nothing is made
twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from adapters.tryton.client import Objection, TrytonClient
from adapters.tryton.documents import Documents, Moved
from adapters.tryton.drafting import Draft, Heading, Ids, drafts, names
from adapters.tryton.masterdata import MasterData
from adapters.tryton.models import Company, Party, TrytonSettings
from adapters.tryton.papers import ENTRY, Paper, finished
from adapters.tryton.settlement import Net, booked, mirror, net, settling, values
from canonical.identity import posting_key
from canonical.postings import (
    Action,
    Command,
    MatchCarrierBill,
    PostCreditNote,
    Posting,
    PostInvoice,
    ReserveStock,
    entries,
)
from canonical.valuation import valued
from twins.ports import Confirmed, Refused

NOT_BOOKED = "not booked"
"""Document of a reservation, which twinsync keeps, and of what comes to nothing."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What a command asks of Tryton."""

    company: Company
    heading: Heading
    drafts: tuple[Draft, ...]
    wanted: Net
    """What the books shall hold of it in the end."""


class TrytonConnector:
    """Implements ErpConnector. Belongs to the event loop that first uses it; connections are kept alive."""

    def __init__(self, settings: TrytonSettings) -> None:
        self._client = client_of(settings)
        self._documents = Documents(self._client)
        self._master_data = MasterData(self._client, settings)

    # --- the port

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Confirmed | Refused:
        """Begin, or go on where an earlier telling was interrupted."""
        if isinstance(command.posting, ReserveStock):
            return Confirmed(NOT_BOOKED)
        found = await self._documents.find(command.idempotency_key)
        if finished(found):
            return Confirmed(str(found[0]))
        try:
            job = await self._job(command, posting_date or command.posting.event_date)
            return Confirmed(await self._carry_out(job, found))
        except Objection as objection:
            return Refused(str(objection))

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        """Only what is finished is found; the rest is finished by telling it again."""
        found = await self._documents.find(idempotency_key)
        return Confirmed(str(found[0])) if finished(found) else None

    async def close(self) -> None:
        await self._client.close()

    # --- what is to be done

    async def _job(self, command: Command, posting_date: date) -> _Job:
        """Raises: Objection, TransientFailure."""
        posting = command.posting
        company = await self._master_data.company(posting.company)
        if posting.currency != company.currency_code:
            raise Objection(
                f"{posting.company} keeps its books in {company.currency_code}, not {posting.currency}"
            )
        linked = await self._linked(posting)
        posting = await self._valued(posting, company, linked)
        party = await self._party(posting)
        reverses = command.action is Action.REVERSE
        heading = Heading(
            command.idempotency_key, posting.event_date, posting_date, sign=-1 if reverses else 1
        )
        ids = await self._ids(posting, company, party, linked)
        wanted: Net = net(booked(entries(posting), company.accounts, party.id))
        made = drafts(posting, heading, ids)
        if reverses:
            wanted = await self._mirrored(command, came_to_nothing=not made and not any(wanted.values()))
        return _Job(company, heading, made, wanted)

    async def _linked(self, posting: Posting) -> list[Moved]:
        """The goods that are invoiced or credited, where Tryton has moved them."""
        match posting:
            case PostInvoice():
                moved_by = posting_key("goods-issue", posting.shipment_id)
            case PostCreditNote():
                moved_by = posting_key("return-receipt", posting.return_id, posting.line_id, posting.order_id)
            case _:
                return []
        return await self._documents.goods(await self._documents.newest(moved_by))

    async def _valued(self, posting: Posting, company: Company, linked: Sequence[Moved]) -> Posting:
        """With every cost, Tryton's own where the posting leaves it open."""
        if posting == valued(posting, {}):
            return posting
        costs = await self._master_data.unit_costs(names(posting).skus, company)
        costs |= {moved.sku: moved.unit_cost for moved in linked if moved.unit_cost is not None}
        return valued(posting, costs)

    async def _party(self, posting: Posting) -> Party:
        match posting:
            case PostInvoice(customer_id=customer) | PostCreditNote(customer_id=customer):
                return await self._master_data.customer(customer)
            case MatchCarrierBill(carrier=carrier):
                return await self._master_data.party(carrier)
            case _:
                return await self._master_data.customer(None)

    async def _ids(self, posting: Posting, company: Company, party: Party, linked: Sequence[Moved]) -> Ids:
        named = names(posting)
        moves: dict[str, list[int]] = {}
        for moved in linked:
            moves.setdefault(moved.sku, []).append(moved.id)
        return Ids(
            company,
            party,
            {sku: await self._master_data.product(sku) for sku in sorted(named.skus)},
            {zone: await self._master_data.place(zone) for zone in sorted(named.zones)},
            moves,
        )

    async def _mirrored(self, command: Command, *, came_to_nothing: bool) -> Net:
        """*came_to_nothing*: so no document was made of it. Raises: Objection where one is missing."""
        key = f"{command.key}{Command.SEPARATOR}{command.version}"
        posted = await self._documents.find(key)
        if came_to_nothing and not posted:
            return {}
        if not finished(posted):
            raise Objection(f"there is no finished document of {key} to reverse")
        return net(mirror(await self._documents.lines(posted)))

    # --- how it is done

    async def _carry_out(self, job: _Job, found: Sequence[Paper]) -> str:
        if not job.drafts and not any(job.wanted.values()):
            return NOT_BOOKED
        company = job.company.id
        entries = [paper for paper in found if paper.model == ENTRY]
        others = [paper for paper in found if paper.model != ENTRY]
        entry = entries[0] if entries else await self._documents.make(await self._entry(job), company)
        others += [await self._documents.make(draft, company) for draft in job.drafts[len(others) :]]
        for needless in (*entries[1:], *others[len(job.drafts) :]):
            await self._documents.discard(needless, company)
        done = [await self._documents.finish(paper, company) for paper in others[: len(job.drafts)]]
        settled = await self._settle(job, entry, done)
        return str(done[0] if done else settled)

    async def _entry(self, job: _Job) -> Draft:
        """The journal entry; where it is all that there is to make, with its lines."""
        heading, company = job.heading, job.company
        period = await self._master_data.period(company, heading.posting_date)
        lines = [] if job.drafts else values(settling(job.wanted, {}), _described(heading))
        return Draft(
            ENTRY,
            {
                "company": company.id,
                "journal": company.journal,
                "period": period,
                "date": heading.posting_date,
                "description": heading.key,
                "lines": [["create", lines]],
            },
        )

    async def _settle(self, job: _Job, entry: Paper, done: Sequence[Paper]) -> Paper | None:
        """Post what the other documents left to the journal; delete the entry where that is nothing."""
        if entry.finished:
            return entry
        company = job.company.id
        entered = await self._documents.lines([entry])
        missing = settling(job.wanted, net([*entered, *await self._documents.lines(done)]))
        if missing:
            await self._documents.enter(entry, values(missing, _described(job.heading)), company)
        if not missing and not entered:
            await self._documents.discard(entry, company)
            return None
        return await self._documents.finish(entry, company)


def client_of(settings: TrytonSettings) -> TrytonClient:
    return TrytonClient(
        settings.url,
        settings.key.get_secret_value(),
        timeout_s=settings.timeout_s,
        connections_max=settings.connections_max,
    )


def _described(heading: Heading) -> str:
    return f"happened on {heading.event_date}"
