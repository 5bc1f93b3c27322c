"""One twin: its events, its neighbours' words and its ledger, brought to rest after each change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from msgspec import Struct
from rpds import HashTrieMap, HashTrieSet

from canonical.envelope import Event, parse_structured
from canonical.errors import InvariantViolated
from canonical.facts.base import Retracted
from canonical.facts.erp import (
    PostingAnnulled,
    PostingConfirmed,
    PostingLost,
    PostingRejected,
    PostingResent,
)
from canonical.identity import EventId, PostingKey, TwinRef
from canonical.postings import Action, Command, Posting
from twins.core.contributions import Contribution, CustomerCard, Forwarded, ItemCard, ItemKnown, Value
from twins.core.history import Arrival, Checkpoint, Folded, Held, History
from twins.core.kinds import RULES
from twins.core.ledger import Ledger, Record, Status, answered, plan, resent
from twins.core.rules import Finding, Inbox, Policy, Rules, Word, nothing, put, without, word

CHECKPOINT_GROWTH = Decimal("1.25")
"""A stored checkpoint is replaced when the history before it has grown by a quarter."""
_NONE: HashTrieMap[Any, Any] = HashTrieMap()
_NO_LEDGER = Ledger()
"""Of all that have no record yet."""
MASTER_DATA = (ItemKnown, ItemCard, CustomerCard)
REPLIES = (PostingConfirmed, PostingRejected, PostingAnnulled, PostingResent, PostingLost)


class Stored(Struct, frozen=True, gc=False):
    """All that storage keeps of a twin."""

    version: int = 0
    events: tuple[Event, ...] = ()
    registers: tuple[Contribution, ...] = ()
    records: tuple[Record, ...] = ()
    checkpoint: Checkpoint[Any] | None = None
    is_whole: bool = True
    """False: *checkpoint* stands for the events that sort before it, which are left out but for replies."""
    has_void_checkpoint: bool = False
    """Storage holds one that other code has made."""


class Snapshot(Struct, frozen=True, gc=False):
    """A twin at rest, safe to hand to readers: nothing in it changes any more."""

    ref: TwinRef
    version: int
    status: str
    view: Any
    held: tuple[Held, ...]
    findings: tuple[Finding, ...]
    records: HashTrieMap[PostingKey, tuple[Record, ...]]
    conflicts: HashTrieMap[EventId, int]
    """Ids told with different content, and in how many versions."""
    retracted: HashTrieSet[EventId]
    retractions: HashTrieMap[EventId, tuple[Event, ...]]
    exists: bool
    """Somebody speaks of it. Not so a twin that was only mentioned by what has been taken back since."""

    def document(self) -> dict[str, Any]:
        """The business state: a function of the facts alone, with no trace of how they arrived."""
        return {
            "twin": str(self.ref),
            "kind": self.ref.kind.value,
            "status": self.status,
            **RULES[self.ref.kind].document(self.ref, self.view),
            "findings": [
                {"code": one.code, "text": one.text, "events": list(one.events), "due": one.due}
                for one in self.findings
            ],
            "held": [
                {"event": one.event.event_id, "type": one.event.type, "waits_for": one.waits_for}
                for one in self.held
            ],
        }

    def is_closed(self) -> bool:
        """Whether its life is over and nothing is open: no finding, no command, nothing awaited."""
        return (
            self.exists
            and self.status in RULES[self.ref.kind].final
            and not self.findings
            and not self._waits()
            and not any(record.status is Status.REVERSING for record in self._by_key())
        )

    def explain(self) -> dict[str, Any]:
        """Why the state is what it is."""
        return {
            "twin": str(self.ref),
            "status": self.status,
            "because": list(RULES[self.ref.kind].explain(self.ref, self.view)),
            "waits_for": self._waits(),
            "postings": [_told(record) for record in self._by_key()],
            "findings": [one.text for one in self.findings],
            "held": [
                {
                    "event": one.event.event_id,
                    "type": one.event.type,
                    "source": one.event.source,
                    "happened_at": one.event.time,
                    "waits_for": one.waits_for,
                }
                for one in self.held
            ],
            "conflicts": [
                f"{event_id} was told in {count} versions; the one with the smallest digest counts"
                for event_id, count in sorted(self.conflicts.items())
            ],
            "retracted": [self._taken_back(one) for one in sorted(self.retractions)],
        }

    def postings(self) -> dict[str, Any]:
        """Every version of every posting, with what the ERP said of it."""
        return {
            "twin": str(self.ref),
            "postings": [
                {
                    "key": record.key,
                    "version": record.version,
                    "command": record.posting.command,
                    "status": record.status.value,
                    "document": record.document,
                    "reversal": record.reversal,
                    "reason": record.reason,
                    "content": record.posting,
                }
                for record in self._by_key()
            ],
        }

    def _taken_back(self, target: EventId) -> str:
        said = []
        for event in self.retractions[target]:
            assert isinstance(event.fact, Retracted)
            told_anew = (
                f", told anew as {', '.join(event.fact.corrective_ids)}" if event.fact.corrective_ids else ""
            )
            said.append(f"{event.fact.reason} by {event.event_id}{told_anew}")
        untold = "" if target in self.retracted else "; it has not been told here"
        return f"{target}: {'; '.join(said)}{untold}"

    def _waits(self) -> list[str]:
        """What has to come: by the rules of its kind, for events that are held, and from the ERP."""
        said = [*RULES[self.ref.kind].waits(self.view), *(one.waits_for for one in self.held)]
        current = (versions[-1] for versions in self.records.values())
        queued = sum(record.status is Status.QUEUED for record in current)
        if queued:
            said.append(f"the ERP to take {queued} postings" if queued > 1 else "the ERP to take a posting")
        return list(dict.fromkeys(said))

    def _by_key(self) -> Iterator[Record]:
        return (record for key in sorted(self.records) for record in self.records[key])

    def labels(self) -> dict[str, str | None]:
        return RULES[self.ref.kind].labels(self.ref, self.view)


def _handed_on(giver: TwinRef, value: Value | None) -> dict[EventId, Event]:
    """Events under a source that names the giver: ids are unique among the facts of one twin only."""
    if not isinstance(value, Forwarded):
        return {}
    events = (parse_structured(one.structured.encode()) for one in value.events)
    named = (dataclasses.replace(event, source=f"{event.source}?by={giver}") for event in events)
    return {event.event_id: event for event in named}


def _told(record: Record) -> str:
    document = f", document {record.document}" if record.document else ""
    reversal = f", reversed by {record.reversal}" if record.reversal else ""
    reason = f": {record.reason}" if record.reason else ""
    because = f", because of {', '.join(record.posting.justified_by)}" if record.posting.justified_by else ""
    return f"{record.key} version {record.version} is {record.status}{document}{reversal}{reason}{because}"


@dataclass(slots=True)
class Twin:
    ref: TwinRef
    policy: Policy
    rules: Rules[Any, Any, Any]
    history: History[Any]
    inbox: Inbox
    ledger: Ledger = field(default_factory=lambda: _NO_LEDGER)
    version: int = 0
    contributed: Mapping[TwinRef, Value] = field(default_factory=nothing)
    replies: dict[EventId, Event] = field(default_factory=nothing)
    _kept: Checkpoint[Any] | None = None
    """The checkpoint in storage."""
    _kept_is_stale: bool = False
    _spoke: bool = False
    """Its neighbours have been told all that there was to say."""
    _askers: set[TwinRef] | None = None
    """Neighbours that spoke since the last settlement, where the rules echo."""
    _echoed: Value | None = None
    _records: tuple[Record, ...] = ()
    """Records that replies changed since the last settlement."""
    _resent: HashTrieMap[tuple[str, int, str, int], PostingResent] = _NONE
    """Refusals that are to be told again, by what they name: any of them may come before its refusal."""
    _reopened: tuple[Record, ...] = ()
    """Records of those that were, since the last settlement."""
    _folded: Folded[Any] | None = None
    _seen: Any = None
    _snapshot: Snapshot | None = None

    @property
    def registers(self) -> dict[TwinRef, Contribution]:
        """What others maintain here, as it came."""
        words = self.inbox.words.items()
        return {source: Contribution(source, self.ref, *said) for source, said in words}

    @classmethod
    def new(cls, ref: TwinRef, policy: Policy) -> Self:
        rules = RULES[ref.kind]
        return cls(ref, policy, rules, History(rules.initial, rules.evolve, rules.slip_in), rules.inbox())

    @classmethod
    def restore(cls, ref: TwinRef, policy: Policy, stored: Stored) -> Self:
        """Rebuild a twin that was at rest: nothing it once said is said again; a new one has said nothing."""
        twin = cls.new(ref, policy)
        twin._kept, twin._kept_is_stale = stored.checkpoint, stored.has_void_checkpoint
        twin.history.base = None if stored.is_whole else stored.checkpoint
        for event in stored.events:
            if isinstance(event.fact, REPLIES):
                twin._keep_reply(event)
            else:
                twin.history.add(event)
        for contribution in stored.registers:
            twin.absorb(contribution)
        for record in sorted(stored.records, key=lambda one: (one.key, one.version)):
            twin._file(record)
        twin.version = stored.version
        if stored.version:
            twin._recall()
        return twin

    def _recall(self) -> None:
        """Know what was said, without saying it."""
        seen = self._look()
        if self.rules.echo is not None:
            self._askers, self._echoed = None, self.rules.echo(seen)
            return
        said = {target: value for target, value in self._wanted(seen).items() if value is not None}
        if said:
            self.contributed = put(self.contributed, said)

    def accept(self, event: Event) -> Arrival:
        """Take an event of this twin into its set."""
        if isinstance(event.fact, REPLIES):
            return self._reply(event)
        arrival = self.history.add(event)
        if self._kept is not None and arrival is not Arrival.DUPLICATE:
            self._kept_is_stale |= arrival is Arrival.CONFLICT or not self._kept.precedes(event)
        return arrival

    def needs_whole_history(self, event: Event) -> bool:
        """True for an event that this twin, restored from a checkpoint, cannot place."""
        return not isinstance(event.fact, REPLIES) and not self.history.covers(event)

    def may_have_forgotten(self, event: Event) -> bool:
        """Whether *event* could be among those that a checkpoint stands for."""
        if self.history.base is None or isinstance(event.fact, REPLIES):
            return False
        return not self.history.knows(event)

    def absorb(self, contribution: Contribution) -> bool:
        """Put a neighbour's word into its register. False where it is known, or older than what is known."""
        words = self.inbox.words
        known = words.get(contribution.source)
        if known is not None and known.version >= contribution.version:
            return False
        said = word(contribution.version, contribution.value)
        self.inbox.words = put(words, {contribution.source: said})
        old = known.value if known is not None else None
        if isinstance(old, Forwarded) or isinstance(contribution.value, Forwarded):
            self._forwarded(contribution.source, old, contribution.value)
        elif old != contribution.value:
            self.inbox.absorb(contribution.source, old, contribution.value)
            if self.rules.echo is not None:
                self._askers = self._askers or set()
                self._askers.add(contribution.source)
        return True

    def ask(self) -> list[Contribution]:
        """Say first what others will answer; the rest is said when it settles."""
        if self.rules.asks is None:
            return []
        asks = self.rules.asks(self.history.folded().state)
        said = self.contributed
        fresh = {target: value for target, value in asks.items() if target not in said}
        if not fresh:
            return []
        self.version += 1
        self.contributed = put(said, fresh)
        return [self._contribution(target, value) for target, value in fresh.items()]

    def settle(self) -> list[Contribution]:
        """Bring what is said to neighbours up to date with the facts."""
        self.version += 1
        self._snapshot = None
        return self._settle_contributions()

    def settle_postings(self) -> tuple[list[Command], list[Record]]:
        """Plan what the ERP must be told; for a twin at rest only, since neighbours may still change it."""
        desired = self._changed_postings()
        whole = desired is None or bool(self._reopened)
        if desired is None or whole:
            desired = self.rules.postings(self.ref, self._seen)
        for key, posting in desired.items():
            if posting is not None and key != posting.key:
                raise InvariantViolated(f"{self.ref}: posting {posting.key} filed under {key}")
        if not desired and not self._records and not (whole and self.ledger.records):
            return [], []
        commands, records = plan(desired, self.ledger, whole=whole)
        for record in records:
            self._file(record)
        records = [*self._records, *records]
        again = [
            Command(Action.REVERSE, one.version, one.posting, one.again)
            for one in self._reopened
            if one.status is Status.REVERSING
        ]
        self._records, self._reopened = (), ()
        return again + commands, records

    def _changed_postings(self) -> Mapping[PostingKey, Posting | None] | None:
        """None: all must be looked at, as for the first plan since the twin came into memory."""
        if self.rules.changed_postings is None:
            return None
        changed = self.rules.changed_postings(self.ref, self._seen, self.inbox)
        return None if any(one.status is Status.LOST for one in self._records) else changed

    def settle_checkpoint(self) -> tuple[bool, Checkpoint[Any] | None]:
        """Whether storage needs another checkpoint, and which; None: none at all.

        The longer the history, the rarer, since a state may grow with it.
        """
        if not self.rules.endless:
            return False, None
        want, kept = self.history.checkpoint(), self._kept
        grown = want is not None and want.count >= CHECKPOINT_GROWTH * (kept.count if kept else 0)
        if not self._kept_is_stale and not (grown and want is not kept):
            return False, None
        self._kept, self._kept_is_stale = want, False
        return True, want

    def snapshot(self) -> Snapshot:
        if self._folded is None:  # new, and nobody has told it anything: it has told nobody anything either
            self._look()
        if self._snapshot is None:
            assert self._folded is not None
            self._snapshot = Snapshot(
                self.ref,
                self.version,
                self.rules.status(self._seen),
                self._seen,
                self._folded.held,
                self.rules.findings(self.ref, self._seen)
                + self._ledger_findings()
                + self._held_findings(self._folded),
                self.ledger.records,
                self.history.conflicts,
                self.history.retracted,
                self.history.retractions,
                self._exists(),
            )
        return self._snapshot

    def _exists(self) -> bool:
        """Whether anybody speaks of it, or ever did."""
        return bool(len(self.history) or self.ledger.records or self._is_spoken_to())

    def _speaks(self) -> bool:
        """Whether it has anything to say to others: not so one of which all was taken back."""
        return self.history.stands() or self._is_spoken_to()

    def _is_spoken_to(self) -> bool:
        """By others than master data that answers its own question."""
        return any(
            value is not None and not isinstance(value, MASTER_DATA) for _, value in self.inbox.words.values()
        )

    def live_postings(self) -> dict[PostingKey, Posting]:
        return self.ledger.live()

    def _file(self, record: Record) -> None:
        if self.ledger is _NO_LEDGER:
            self.ledger = Ledger()
        self.ledger.put(record)

    def _reply(self, event: Event) -> Arrival:
        if event.event_id in self.replies:
            return Arrival.DUPLICATE
        self._keep_reply(event)
        fact = event.fact
        assert isinstance(fact, REPLIES)
        record = self.ledger.find(PostingKey(fact.posting_key), fact.version)
        if record is not None:
            self._answer(record, answered(record, fact))
        return Arrival.NEW

    def _keep_reply(self, event: Event) -> None:
        self.replies = self.replies or {}
        self.replies[event.event_id] = event
        fact = event.fact
        if isinstance(fact, PostingResent):
            refused = (fact.posting_key, fact.version, fact.action, fact.again)
            self._resent = self._resent.insert(refused, fact)

    def _answer(self, before: Record, after: Record) -> None:
        """File what a reply made of a record; a refusal may have been sent again before it came."""
        action = "reverse" if after.status is Status.REVERSING else "post"
        asked = self._resent.get((after.key, after.version, action, after.again))
        if asked is not None:
            after = resent(after, asked)
        if after == before:
            return
        self._file(after)
        self._records += (after,)
        is_taken_back = before.status is Status.ANNULLED and after.status is Status.REVERSING
        if (
            is_taken_back
            or before.again != after.again
            or (asked is not None and after.status is Status.ANNULLED)
        ):
            self._reopened += (after,)

    def _forwarded(self, giver: TwinRef, old: Value | None, new: Value | None) -> None:
        """Fold what another twin hands on as if it had come here; take back what it no longer hands on."""
        before, after = _handed_on(giver, old), _handed_on(giver, new)
        for event_id in before.keys() - after.keys():
            self.history.discard(event_id)
        for event_id, event in after.items():
            if before.get(event_id) != event:
                self.history.discard(event_id)
                self.history.add(event)

    def _look(self) -> Any:
        self._folded = self.history.folded()
        self._seen = self.rules.view(self.ref, self._folded.state, self.inbox, self.policy)
        return self._seen

    def _settle_contributions(self) -> list[Contribution]:
        seen = self._look()
        if self.rules.echo is not None:
            return self._echo(self.rules.echo(seen))
        wanted = self._wanted(seen)
        changed = [
            self._contribution(target, value)
            for target, value in wanted.items()
            if (before := self.contributed.get(target)) is not value and before != value
        ]
        if said := {one.target: one.value for one in changed if one.value is not None}:
            self.contributed = put(self.contributed, said)
        for one in changed:
            if one.value is None:
                self.contributed = without(self.contributed, one.target)
        return changed

    def _wanted(self, seen: Any) -> Mapping[TwinRef, Value | None]:
        """At least what must be said anew; None to those who are to hear nothing any more."""
        changed = (
            self.rules.changed_contributions(self.ref, seen) if self.rules.changed_contributions else None
        )
        speaks = self._speaks()
        if speaks and self._spoke and changed is not None:
            return changed
        self._spoke = speaks
        wanted = self.rules.contributions(self.ref, seen) if self._spoke else {}
        gone = [target for target in self.contributed if target not in wanted]
        return {**dict.fromkeys(gone), **wanted} if gone else wanted

    def _echo(self, value: Value | None) -> list[Contribution]:
        """Answer those who asked; tell others only what is not the answer that they have."""
        words, targets, self._askers = self.inbox.words, self._askers or set(), None
        before = self._echoed
        if value is None and before is None:
            return []
        if value == before:
            value = before  # one object, however many keep it
        else:
            targets |= {
                source
                for source, asked in words.items()
                if self._reply_to(source, asked, value) != self._reply_to(source, asked, before)
            }
        self._echoed = value
        return [
            self._contribution(target, self._reply_to(target, words[target], value))
            for target in sorted(targets)
        ]

    def _reply_to(self, asker: TwinRef, asked: Word, value: Value | None) -> Value | None:
        if value is None or asked.value is None:
            return None
        return self.rules.reply(value, asker.kind, asked.value)

    def _contribution(self, target: TwinRef, value: Value | None) -> Contribution:
        return Contribution(self.ref, target, self.version, value)

    def _ledger_findings(self) -> tuple[Finding, ...]:
        if not self.ledger.refused:
            return ()
        return tuple(
            Finding("posting-rejected", f"{record.key}: {record.reason}", record.posting.justified_by)
            for _, record in sorted(self.ledger.refused.items(), key=lambda one: one[0])
        )

    def _held_findings(self, folded: Folded[Any]) -> tuple[Finding, ...]:
        if not folded.held:
            return ()
        return tuple(
            Finding(
                "event-held",
                f"{one.event.type} waits for {one.waits_for}",
                (one.event.event_id,),
                one.event.time + self.policy.origin_deadline,
            )
            for one in folded.held
        )
