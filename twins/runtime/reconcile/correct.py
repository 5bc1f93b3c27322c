"""Applies what a report proposes, where somebody asks: looked at once more, step by step, and noted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import assert_never

from canonical.envelope import Event
from canonical.errors import RejectedMessage
from canonical.identity import PostingKey
from twins.core.gaps import Gap
from twins.core.reconcile.difference import (
    Accept,
    Adjust,
    AskSource,
    Confirm,
    Correction,
    Difference,
    Kind,
    Resend,
    Reverse,
)
from twins.core.reconcile.report import Applied, Report
from twins.ports import (
    Audit,
    Backfill,
    Clock,
    ErpCorrections,
    Ledgers,
    Publication,
    Publisher,
    Refused,
    Reports,
)
from twins.runtime.reconcile.look import look_at_keys
from twins.runtime.reconcile.run import BooksOf

DONE = "done"
NO_LONGER = "it does not differ any more, or otherwise than it did"
_OF_DOCUMENTS = frozenset(
    {
        Kind.DOCUMENT_MISSING,
        Kind.REVERSED_ELSEWHERE,
        Kind.DOCUMENT_ORPHANED,
        Kind.DOCUMENT_DOUBLED,
        Kind.AMOUNTS_DIFFER,
        Kind.DOCUMENT_NUMBER_DIFFERS,
        Kind.CONFIRMATION_LOST,
    }
)


@dataclass(slots=True)
class Corrector:
    reports: Reports
    ledgers: Ledgers
    publisher: Publisher
    audit: Audit
    books: BooksOf
    corrections: Callable[[str], ErpCorrections | None]
    """The way into an ERP; None where it takes corrections by hand only. Whoever asks closes it."""
    backfill: Backfill | None
    clock: Clock
    unanswered: timedelta = timedelta(minutes=15)

    async def apply(self, report: Report, chosen: Collection[str], by: str) -> Report:
        """Apply the corrections of some differences, by id; what was applied before is left alone.

        Raises: RejectedMessage for an id that the report has not; TransientFailure: ask again.
        """
        known = {one.id: one for one in report.differences}
        if strange := sorted(set(chosen) - known.keys()):
            raise RejectedMessage(f"{', '.join(strange)} not in {report.id}", field="differences")
        done = {name for name, one in report.applied.items() if one.outcome == DONE}
        wanted = [known[name] for name in dict.fromkeys(chosen) if name not in done]
        standing = await self._standing([one for one in wanted if one.kind in _OF_DOCUMENTS])
        for one in wanted:
            stands = one.kind not in _OF_DOCUMENTS or one.id in standing
            outcome = await self._mend(one, report, by) if stands else NO_LONGER
            applied = {**report.applied, one.id: Applied(self.clock.now(), by, outcome)}
            report = replace(report, applied=applied)
            await self.reports.save(report)
        return report

    async def _standing(self, differences: list[Difference]) -> set[str]:
        """Those that are still as they were found: somebody may have mended one by hand meanwhile."""
        by_erp: dict[str, set[PostingKey]] = {}
        for one in differences:
            by_erp.setdefault(one.against.removeprefix("erp/"), set()).add(PostingKey(one.subject))
        found: set[str] = set()
        for erp, keys in by_erp.items():
            books = self.books(erp)
            if books is not None:
                try:
                    settled = self.clock.now() - self.unanswered
                    found |= (await look_at_keys(erp, books, self.ledgers, settled, keys)).keys()
                finally:
                    await books.close()
        return found

    async def _mend(self, one: Difference, report: Report, by: str) -> str:
        """Step by step; the first that fails ends it. Answers `DONE`, or why not."""
        if not one.corrections:
            return "only people can mend it"
        for step in one.corrections:
            outcome = await self._step(step)
            detail = {"report": report.id, "difference": one.id, **asdict(step), "outcome": outcome}
            await self.audit.note(by, f"reconcile-{step.step}", one.subject, detail)
            if outcome != DONE:
                return outcome
        return DONE

    async def _step(self, step: Correction) -> str:
        match step:
            case Reverse():
                return await self._reverse(step)
            case Resend() | Confirm() | Adjust():
                return await self._publish(step.event(self.clock.now()))
            case AskSource(source=source, first=first, last=last, since=since):
                asked = self.backfill is not None and await self.backfill.ask(Gap(source, first, last, since))
                return DONE if asked else f"nobody speaks for {source}"
            case Accept(erp=erp, account=account, amount=amount):
                await self.ledgers.accept(erp, account, amount)
                return DONE
            case _:
                assert_never(step)

    async def _reverse(self, step: Reverse) -> str:
        erp = self.corrections(step.erp)
        if erp is None:
            return f"erp/{step.erp} is corrected by hand only"
        try:
            answer = await erp.reverse(step.document, step.idempotency_key)
        finally:
            await erp.close()
        return f"refused: {answer.reason}" if isinstance(answer, Refused) else DONE

    async def _publish(self, event: Event) -> str:
        await self.publisher.publish([Publication(event.structured())])
        return DONE
