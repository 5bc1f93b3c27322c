"""Answers that need more than a twin as it stands: how it came about, what it was, what it would be.

Reads storage only. A question about the past is answered by folding aside the facts of a twin and of all
whose word it depends on; one about what might come by folding that onto what is stored. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canonical.envelope import Event
from canonical.errors import RejectedMessage
from canonical.facts.erp import (
    PostingAnnulled,
    PostingConfirmed,
    PostingLost,
    PostingRejected,
    PostingResent,
)
from canonical.identity import Kind, TwinRef
from twins.core.batch import Batch
from twins.core.contributions import Contribution
from twins.core.history import Arrival
from twins.core.inquiry import Change, LateEffect, Moment, Outcome, Scratch, late_effects, outcomes
from twins.core.rules import Policy
from twins.core.twin import REPLIES, Snapshot, Twin
from twins.ports import GapStore, InquiryStore, Told

TWINS_MAX = 2_000
"""Whose facts are folded for one answer."""
FACTS_MAX = 50_000
"""How many are folded for one answer."""
LATE_MAX = 20
"""Late events whose effect is shown, the last ones."""
FACTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was told of a twin and of all that its state depends on, up to a moment."""

    told: list[Told]
    refs: frozenset[TwinRef]
    left_out: frozenset[TwinRef]
    """Shelves with too many neighbours: their word is taken as it is now."""
    words: list[Contribution]
    """Of those left out."""

    def limits(self) -> list[str]:
        return [f"{ref} has too many neighbours: its word is that of now" for ref in sorted(self.left_out)]


class Inquiry:
    def __init__(self, store: InquiryStore, gaps: GapStore, policy: Policy) -> None:
        self._store = store
        self._gaps = gaps
        self._policy = policy

    # --- the past

    async def believed(self, ref: TwinRef, moment: Moment) -> dict[str, Any] | None:
        """The twin as of one moment, as far as was known at another; None where nothing was."""
        facts = await self._facts(ref, moment)
        snapshot = (await self._fold(facts)).snapshot(ref)
        if snapshot is None:
            return None
        return {**snapshot.document(), **_dated(moment), "limits": facts.limits()}

    async def postings(self, ref: TwinRef, moment: Moment) -> dict[str, Any] | None:
        """What the ERP should have held then, and what it had said."""
        facts = await self._facts(ref, moment)
        scratch = await self._fold(facts)
        if scratch.snapshot(ref) is None:
            return None
        own = [one for one in facts.told if one.event.subject == ref]
        return {
            "twin": str(ref),
            **_dated(moment),
            "postings": [posting for _, posting in sorted(scratch.live(ref).items())],
            "erp": [_reply(one) for one in own if isinstance(one.event.fact, REPLIES)],
            "limits": facts.limits(),
        }

    async def history(self, ref: TwinRef, moment: Moment) -> list[Told]:
        return await self._told([ref], moment)

    async def _fold(self, facts: _Facts) -> Scratch:
        scratch = Scratch(self._policy, facts.refs)
        await asyncio.to_thread(scratch.take, [one.event for one in facts.told], facts.words)
        return scratch

    async def _told(self, refs: Collection[TwinRef], moment: Moment) -> list[Told]:
        """Raises: RejectedMessage where they are too many to be folded for one answer."""
        many = await self._store.told_count(refs)
        if many > FACTS_MAX:
            raise RejectedMessage(
                f"{many} facts would have to be folded; at most {FACTS_MAX} are", field="as_of"
            )
        found = await self._store.told(refs)
        return [one for one in found if moment.includes(one.event, one.recorded_at)]

    # --- how it came about

    async def explain(self, ref: TwinRef, moment: Moment | None = None) -> dict[str, Any] | None:
        """Why the state is what it is: the facts, who told them, what is awaited, what late ones changed."""
        try:
            facts = await self._facts(ref, moment or Moment())
        except RejectedMessage:
            if moment is not None:
                raise
            return await self._explain_briefly(ref)
        snapshot = await self._now(ref) if moment is None else (await self._fold(facts)).snapshot(ref)
        if snapshot is None:
            return None
        late = await asyncio.to_thread(self._late, ref, facts)
        recorded = {one.event.event_id: one for one in facts.told}
        own = [
            one for one in facts.told if one.event.subject == ref and not isinstance(one.event.fact, REPLIES)
        ]
        last = sorted(own, key=lambda one: one.event.time)[-FACTS_SHOWN:]
        return {
            **snapshot.explain(),
            **(_dated(moment) if moment is not None else {}),
            "facts": {"told": len(own), "last": [_fact(one) for one in last]},
            "late": [_late(effect, recorded[effect.event.event_id]) for effect in late],
            "gaps": await self._gaps_of({one.event.source for one in facts.told}),
            "limits": facts.limits(),
        }

    async def _explain_briefly(self, ref: TwinRef) -> dict[str, Any] | None:
        """For a twin with more behind it than can be folded for one answer."""
        snapshot = await self._now(ref)
        if snapshot is None:
            return None
        last = await self._store.told_last(ref, FACTS_SHOWN)
        limit = f"more than {FACTS_MAX} facts lie behind it: what late ones changed is not shown"
        return {
            **snapshot.explain(),
            "facts": {"told": await self._store.told_count([ref]), "last": [_fact(one) for one in last]},
            "late": [],
            "gaps": await self._gaps_of({one.event.source for one in last}),
            "limits": [limit],
        }

    async def _gaps_of(self, sources: Collection[str]) -> list[str]:
        return [
            f"{gap.source} left out {gap.missing} of its numbers, {gap.first} to {gap.last}, as is seen "
            f"since {gap.since:%Y-%m-%d %H:%M}"
            for gap in await self._gaps.find_gaps()
            if gap.source in sources
        ]

    async def _now(self, ref: TwinRef) -> Snapshot | None:
        stored = (await self._store.load([ref]))[ref]
        snapshot = (await asyncio.to_thread(Twin.restore, ref, self._policy, stored)).snapshot()
        return snapshot if snapshot.exists else None

    def _late(self, ref: TwinRef, facts: _Facts) -> list[LateEffect]:
        late = [one for one in facts.told if one.arrival is Arrival.LATE][-LATE_MAX:]
        shown = {one.event.event_id for one in late}
        if not shown:
            return []
        told = [(one.event, one.event.event_id in shown) for one in facts.told]
        return late_effects(ref, told, Scratch(self._policy, facts.refs), facts.words)

    # --- what might come

    async def what_if(self, events: Sequence[Event]) -> list[Outcome]:
        """What *events* would make of the twins as they are stored now. Raises: RejectedMessage: too many."""
        before: dict[TwinRef, Snapshot] = {}
        twins: dict[TwinRef, Twin] = {}
        batch = Batch(twins, lambda ref: True)
        batch.deliver(events)
        subjects = {event.subject for event in events}
        while True:
            missing = batch.missing()
            if len(twins) + len(missing) > TWINS_MAX:
                raise RejectedMessage(f"it concerns more than {TWINS_MAX} twins", field="subject")
            whole = [ref for ref in missing if ref in subjects]
            for refs, all_of_it in ((whole, True), ([ref for ref in missing if ref not in subjects], False)):
                for ref, stored in (await self._store.load(refs, whole=all_of_it)).items() if refs else ():
                    twins[ref] = await asyncio.to_thread(Twin.restore, ref, self._policy, stored)
                    before[ref] = twins[ref].snapshot()
            if not await asyncio.to_thread(batch.step):
                break
        return outcomes(before, await asyncio.to_thread(batch.finish))

    # --- whose word counts

    async def _facts(self, ref: TwinRef, moment: Moment) -> _Facts:
        """Everything that the twin's state depended on at that moment. Raises: RejectedMessage: too much.

        Shelves come last: everybody's word reaches them, and theirs may have reached the twin then, whether
        or not it ever did.
        """
        near, shelves = await self._spread({ref}, lambda one: one == ref or one.kind is not Kind.STOCK)
        facts = _Facts(await self._told(near, moment), frozenset(near), frozenset(), [])
        spoken_to = await asyncio.to_thread(_spoken_to, Scratch(self._policy, near), facts.told)
        shelves |= {one for one in spoken_to if one.kind is Kind.STOCK}
        if not shelves:
            return facts
        far, _ = await self._spread(near | shelves, lambda one: True)
        if len(far) <= TWINS_MAX:
            return _Facts(await self._told(far, moment), frozenset(far), frozenset(), [])
        words = await self._words(near, shelves)
        return _Facts(facts.told, facts.refs, frozenset(shelves), words)

    async def _spread(
        self, start: set[TwinRef], follows: Callable[[TwinRef], bool]
    ) -> tuple[set[TwinRef], set[TwinRef]]:
        """Twins whose word reaches those of *start*, and those of them that were not followed further."""
        found, frontier, edge = set(start), set(start), set[TwinRef]()
        while frontier and len(found) <= TWINS_MAX:
            asked = [one for one in frontier if one.kind not in (Kind.ITEM, Kind.CUSTOMER, Kind.ERP)]
            reached = (await self._store.neighbours(asked)) - found - edge if asked else set()
            frontier = {one for one in reached if follows(one)}
            edge |= reached - frontier
            found |= frontier
        return found, edge

    async def _words(self, near: Collection[TwinRef], left_out: Collection[TwinRef]) -> list[Contribution]:
        """What those left out say to those looked at, now."""
        stored = await self._store.load(near)
        words = (word for one in stored.values() for word in one.registers)
        return [word for word in words if word.source in left_out and word.value is not None]


def _spoken_to(scratch: Scratch, told: Sequence[Told]) -> set[TwinRef]:
    """Others than those folded to whom these had something to say."""
    return {target for target, _ in scratch.take([one.event for one in told]).mail}


def _dated(moment: Moment) -> dict[str, datetime | None]:
    return {"as_of": moment.as_of, "known_at": moment.known_at}


def _fact(one: Told) -> dict[str, Any]:
    event = one.event
    return {
        "event": event.event_id,
        "type": event.type,
        "source": event.source,
        "happened_at": event.time,
        "recorded_at": one.recorded_at,
        "arrival": one.arrival.value,
    }


def _late(effect: LateEffect, told: Told) -> dict[str, Any]:
    return {
        **_fact(told),
        "twin": str(effect.event.subject),
        "state": [change._asdict() for change in effect.state],
        "postings": [_posting_change(change) for change in effect.postings],
    }


def _posting_change(change: Change) -> dict[str, Any]:
    what = "reversed" if change.after is None else "posted" if change.before is None else "posted anew"
    return {"key": change.path, "what": what, "before": change.before, "after": change.after}


def _reply(told: Told) -> dict[str, Any]:
    match fact := told.event.fact:
        case PostingConfirmed():
            said = f"{fact.action} confirmed as {fact.document}"
        case PostingRejected():
            said = f"{fact.action} refused: {fact.reason}"
        case PostingAnnulled():
            said = "annulled before it was sent"
        case PostingLost():
            said = f"lost: {fact.reason}"
        case PostingResent():
            said = f"{fact.action} sent again by {fact.by}"
        case _:
            said = ""
    key, version = getattr(fact, "posting_key", None), getattr(fact, "version", None)
    return {"key": key, "version": version, "said": said, "recorded_at": told.recorded_at}
