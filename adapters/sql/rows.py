"""Between rows and what the core speaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from sqlalchemy import RowMapping

from adapters.sql.checkpoints import code, dumped
from canonical.catalogue import entry
from canonical.envelope import Event
from canonical.errors import InvariantViolated, RejectedMessage
from canonical.facts.base import Fact
from canonical.identity import TwinRef, twin_ref
from canonical.postings import POSTING, Action, Command, Posting
from twins.core.contributions import (
    VALUE,
    Binding,
    Contribution,
    CustomerCard,
    Interest,
    ItemCard,
    ItemKnown,
    Value,
)
from twins.core.dispatch import QueuedCommand, priority
from twins.core.gaps import Gap, Watch
from twins.core.history import Arrival, Checkpoint
from twins.core.ledger import Record, Status
from twins.core.twin import Snapshot
from twins.ports import Commit, Told, TwinRow

Row = dict[str, Any]
Read = RowMapping | Row
T = TypeVar("T")

UNHEARD_OF = "unheard-of"
"""Status of a row that is kept for its version alone: its twin does not exist, and no list shows it."""


def moment_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def event_row(event: Event, arrival: Arrival, recorded_at: str) -> Row:
    context = {
        name: value
        for name, value in (
            ("correlationid", event.correlation_id),
            ("causationid", event.causation_id),
            ("traceparent", event.traceparent),
        )
        if value is not None
    }
    data_json = event.data_json()
    return {
        "twin": str(event.subject),
        "source": event.source,
        "id": event.id,
        "digest": event.digest(data_json),
        "type": event.type,
        "time": moment_text(event.time),
        "sequence": event.sequence,
        "data": data_json.decode(),
        "context": to_json(context).decode() if context else None,
        "arrival": arrival.value,
        "recorded_at": recorded_at,
    }


OF_AN_EVENT = ("twin", "source", "id", "type", "time", "sequence", "data", "context")
"""What `read_event` reads."""


def read_event(row: Read) -> Event:
    """Rebuild an event; one told in an old version becomes the event that today's version would tell.

    Raises: InvariantViolated naming the event, where today's code cannot read what an earlier one stored.
    """
    try:
        fact = _read_fact(row)
    except (RejectedMessage, ValidationError) as error:
        raise _unreadable(row, ("twin", "source", "id"), error) from error
    context = from_json(row["context"]) if row["context"] else {}
    return Event(
        source=row["source"],
        id=row["id"],
        subject=twin_ref(row["twin"]),
        time=datetime.fromisoformat(row["time"]),
        fact=fact,
        sequence=row["sequence"],
        correlation_id=context.get("correlationid"),
        causation_id=context.get("causationid"),
        traceparent=context.get("traceparent"),
    )


def _read_fact(row: Read) -> Fact:
    found = entry(row["type"])
    adapter: TypeAdapter[Fact] = found.model.ADAPTER
    if found.upcasters:
        return adapter.validate_python(found.upcast(from_json(row["data"])))
    return adapter.validate_json(row["data"])


def _read(kind: TypeAdapter[T], row: Read, column: str, *key: str) -> T:
    """Raises: InvariantViolated naming the row by its *key*."""
    try:
        return kind.validate_json(row[column])
    except ValidationError as error:
        raise _unreadable(row, key, error) from error


def _unreadable(row: Read, key: Iterable[str], error: Exception) -> InvariantViolated:
    name = ", ".join(f"{column} {row[column]}" for column in key)
    return InvariantViolated(f"stored row with {name}: {error}")


def read_told(row: Read) -> Told:
    recorded_at = datetime.fromisoformat(row["recorded_at"])
    return Told(read_event(row), Arrival(row["arrival"]), recorded_at, row["number"])


def register_row(contribution: Contribution) -> Row:
    return {
        "target": str(contribution.target),
        "source": str(contribution.source),
        "version": contribution.version,
        "value": None if contribution.value is None else _value_json(contribution.value),
    }


def _value_json(value: Value) -> str:
    return _repeated_json(value) if isinstance(value, REPEATED) else VALUE.dump_json(value).decode()


REPEATED = (Interest, Binding, ItemKnown, ItemCard, CustomerCard)
"""Values that are the same for many targets."""


_REPEATED_ENDS = tuple(
    f'"tag":"{name}"}}' for name in ("interest", "binding", "item-known", "item", "customer")
)
"""Of their JSON."""


@lru_cache(maxsize=4_096)
def _repeated_json(value: Value) -> str:
    return VALUE.dump_json(value).decode()


def read_register(row: RowMapping) -> Contribution:
    told = row["value"]
    try:
        value = None if told is None else _read_value(told)
    except ValidationError as error:
        raise _unreadable(row, ("source", "target"), error) from error
    return Contribution(twin_ref(row["source"]), twin_ref(row["target"]), row["version"], value)


def _read_value(told: str) -> Value:
    return _read_repeated(told) if told.endswith(_REPEATED_ENDS) else VALUE.validate_json(told)


@lru_cache(maxsize=4_096)
def _read_repeated(told: str) -> Value:
    """One object, however many keep it."""
    return VALUE.validate_json(told)


def checkpoint_row(ref: TwinRef, checkpoint: Checkpoint[Any]) -> Row:
    return {
        "twin": str(ref),
        "code": code(),
        "time": moment_text(checkpoint.at.effective_time),
        "body": dumped(checkpoint),
    }


def twin_row(snapshot: Snapshot, changed_at: str) -> Row:
    labels = snapshot.labels()
    due = min((one.due for one in snapshot.findings if one.due is not None), default=None)
    codes = sorted({one.code for one in snapshot.findings})
    return {
        "twin": str(snapshot.ref),
        "kind": snapshot.ref.kind.value,
        "status": snapshot.status if snapshot.exists else UNHEARD_OF,
        "version": snapshot.version,
        "customer_id": labels.get("customer_id"),
        "sku": labels.get("sku"),
        "location": labels.get("location"),
        "findings": f",{','.join(codes)}," if codes else None,
        "due_at": None if due is None else moment_text(due),
        "changed_at": changed_at,
        "closed_at": changed_at if snapshot.is_closed() else None,
    }


def read_twin_row(row: RowMapping) -> TwinRow:
    return TwinRow(
        twin_ref(row["twin"]),
        row["status"],
        row["version"],
        row["customer_id"],
        row["sku"],
        row["location"],
        _codes(row["findings"]),
        datetime.fromisoformat(row["changed_at"]),
    )


_OF_A_CHANGE = itemgetter("twin", "status", "version", "customer_id", "sku", "location", "findings")


def change_row(changed: Iterable[Row], committed_at: str) -> Row:
    """*changed*: rows of twins."""
    return {"committed_at": committed_at, "twins": to_json(list(map(_OF_A_CHANGE, changed))).decode()}


def read_commit(row: RowMapping) -> Commit:
    changed_at = datetime.fromisoformat(row["committed_at"])
    found = from_json(row["twins"])
    return Commit(row["number"], tuple(_changed(one, changed_at) for one in found))


def _changed(one: Sequence[Any], changed_at: datetime) -> TwinRow:
    name, status, version, customer_id, sku, location, findings = one
    return TwinRow(twin_ref(name), status, version, customer_id, sku, location, _codes(findings), changed_at)


def _codes(findings: str | None) -> tuple[str, ...]:
    return tuple(code for code in (findings or "").split(",") if code)


def posting_json(posting: Posting) -> str:
    return POSTING.dump_json(posting).decode()


def posting_row(owner: TwinRef, record: Record, erp: str, changed_at: str) -> Row:
    return {
        "key": record.key,
        "version": record.version,
        "twin": str(owner),
        "erp": erp,
        "command": record.posting.command,
        "status": record.status.value,
        "posting": posting_json(record.posting),
        "document": record.document,
        "reversal": record.reversal,
        "reason": record.reason,
        "changed_at": changed_at,
        "again": record.again,
    }


def read_record(row: RowMapping) -> Record:
    return Record(
        _read(POSTING, row, "posting", "key", "version"),
        row["version"],
        Status(row["status"]),
        row["document"],
        row["reversal"],
        row["reason"],
        row["again"],
    )


def command_row(owner: TwinRef, command: Command, erp: str, queued_at: str) -> Row:
    return {
        "erp": erp,
        "twin": str(owner),
        "key": command.key,
        "version": command.version,
        "action": command.action.value,
        "posting": posting_json(command.posting),
        "sent": 0,
        "attempts": 0,
        "queued_at": queued_at,
        "again": command.again,
        "priority": int(priority(command.posting)),
        "trouble": None,
    }


def read_command(row: RowMapping) -> QueuedCommand:
    posting = _read(POSTING, row, "posting", "key", "version")
    command = Command(Action(row["action"]), row["version"], posting, row["again"])
    return QueuedCommand(
        row["number"],
        twin_ref(row["twin"]),
        command,
        bool(row["sent"]),
        row["attempts"],
        datetime.fromisoformat(row["queued_at"]),
        row["trouble"],
    )


def watch_row(watch: Watch) -> Row:
    gap = watch.gap
    return {
        "source": gap.source,
        "first": gap.first,
        "last": gap.last,
        "since": moment_text(gap.since),
        "noticed_at": moment_text(watch.noticed_at),
        "asked_at": None if watch.asked_at is None else moment_text(watch.asked_at),
        "times": watch.times,
    }


def read_watch(row: RowMapping) -> Watch:
    gap = Gap(row["source"], row["first"], row["last"], datetime.fromisoformat(row["since"]))
    asked = None if row["asked_at"] is None else datetime.fromisoformat(row["asked_at"])
    return Watch(gap, datetime.fromisoformat(row["noticed_at"]), asked, row["times"])
