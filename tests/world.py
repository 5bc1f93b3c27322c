"""All twins in one process, with no I/O, and an ERP that confirms: the core as the tests drive it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.erp import PostingConfirmed
from canonical.identity import PostingKey, TwinRef, twin_ref
from canonical.postings import Command, Posting
from twins.core.batch import Batch, Effects
from twins.core.rules import Policy
from twins.core.twin import Snapshot, Stored, Twin

DAY = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def tell(
    subject: str | TwinRef,
    fact: Fact,
    minute: int = 0,
    *,
    id: str | None = None,
    source: str = "/test/oms",
    sequence: int | None = None,
) -> Event:
    ref = twin_ref(subject) if isinstance(subject, str) else subject
    name = id or f"{ref}/{fact.TYPE.split('.')[-2]}/{minute}"
    return Event(source, name, ref, DAY + timedelta(minutes=minute), fact, sequence)


@dataclass
class World:
    policy: Policy = field(default_factory=Policy)
    twins: dict[TwinRef, Twin] = field(default_factory=dict)
    commands: list[tuple[TwinRef, Command]] = field(default_factory=list)
    documents: int = 0

    def take(self, events: Iterable[Event]) -> Effects:
        batch = Batch(self.twins, lambda ref: True)
        batch.deliver(events)
        while True:
            for ref in batch.missing():
                self.twins[ref] = Twin.restore(ref, self.policy, Stored())
            if not batch.step():
                break
        effects = batch.finish()
        self.commands.extend(effects.commands)
        return effects

    def take_each(self, events: Sequence[Event]) -> World:
        for event in events:
            self.take([event])
        return self

    def confirm(self) -> World:
        """The ERP takes everything it was told."""
        while self.commands:
            told, self.commands = self.commands, []
            self.take([self._confirmed(ref, command) for ref, command in told])
        return self

    def _confirmed(self, ref: TwinRef, command: Command) -> Event:
        self.documents += 1
        fact = PostingConfirmed(
            posting_key=command.key,
            version=command.version,
            action=command.action.value,
            document=f"D{self.documents}",
        )
        return Event("/erp/main", command.idempotency_key, ref, DAY, fact)

    def snapshot(self, subject: str) -> Snapshot:
        return self.twins[twin_ref(subject)].snapshot()

    def status(self, subject: str) -> str:
        return self.snapshot(subject).status

    def documents_of_twins(self) -> dict[str, dict[str, object]]:
        snapshots = (self.twins[ref].snapshot() for ref in sorted(self.twins))
        return {str(one.ref): one.document() for one in snapshots if one.exists}

    def live(self) -> dict[PostingKey, Posting]:
        found: dict[PostingKey, Posting] = {}
        for twin in self.twins.values():
            live = twin.live_postings()
            assert not found.keys() & live.keys(), "two twins want the same document"
            found |= live
        return dict(sorted(found.items()))
