"""X12 interchanges to canonical events, and the 997s that answer them.

A message is one file: one interchange or several. It is translated as a whole, or refused as a whole with
the first thing that is wrong: the envelope is checked before any set is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from pydantic import ValidationError

from adapters.x12 import (
    acknowledge,
    invoice_810,
    order_850,
    receipt_944,
    shipment_856,
    status_214,
    stock_846,
    warehouse_940,
    warehouse_945,
)
from adapters.x12.document import Document
from adapters.x12.envelope import Group, Interchange, TransactionSet, check, read
from adapters.x12.segments import RefusedSet
from canonical.envelope import Event
from canonical.errors import RejectedMessage
from canonical.translation import Connection, Inbound, Translation

TranslateSet = Callable[[Document], Iterable[Event]]


def _says_nothing(document: Document) -> Iterator[Event]:
    """A 997 about what we sent: the twins do not take it."""
    yield from ()


SETS: Mapping[str, TranslateSet] = MappingProxyType(
    {
        "214": status_214.translate,
        "810": invoice_810.translate,
        "846": stock_846.translate,
        "850": order_850.translate,
        "856": shipment_856.translate,
        "940": warehouse_940.translate,
        "944": receipt_944.translate,
        "945": warehouse_945.translate,
        "997": _says_nothing,
    }
)


def translate(message: Inbound, connection: Connection) -> Translation:
    """Raises: RejectedMessage naming the segment or element at fault, with nothing translated."""
    interchanges = read(message.body)
    for interchange in interchanges:
        check(interchange)
    events: dict[str, Event] = {}
    for interchange in interchanges:
        for group in interchange.groups:
            for one in group.sets:
                events |= {event.id: event for event in _translated(one, group, connection)}
    answers = (acknowledge.acceptance(interchange) for interchange in interchanges)
    return Translation(tuple(events.values()), tuple(answer for answer in answers if answer is not None))


def acknowledge_refusal(message: Inbound, connection: Connection) -> bytes | None:
    """The 997 that rejects a message which `translate` refuses; nothing where it cannot be read as X12.

    Nothing either for a message that is not refused, or that holds only 997s.
    """
    try:
        interchanges = read(message.body)
    except RejectedMessage:
        return None
    refusals = _refusals(interchanges, connection)
    if not any(refusals.values()) and not any(True for one in interchanges for _ in one.all_faults):
        return None
    answers = (
        acknowledge.rejection(interchange, lambda one: refusals.get(id(one))) for interchange in interchanges
    )
    return b"".join(answer for answer in answers if answer is not None) or None


def _refusals(
    interchanges: Iterable[Interchange], connection: Connection
) -> dict[int, RejectedMessage | None]:
    """Identity of each set whose envelope is sound → what is wrong inside."""
    return {
        id(one): _refusal(one, group, connection)
        for interchange in interchanges
        for group in interchange.groups
        for one in group.sets
        if not one.faults
    }


def _refusal(one: TransactionSet, group: Group, connection: Connection) -> RejectedMessage | None:
    try:
        _translated(one, group, connection)
    except RejectedMessage as refusal:
        return refusal
    return None


def _translated(one: TransactionSet, group: Group, connection: Connection) -> tuple[Event, ...]:
    translate_set = SETS.get(one.id)
    try:
        if translate_set is None:
            st = one.segments[0]
            raise st.refuse(f"ST01 says {one.id}; read are {', '.join(SETS)}", 1)
        return tuple(translate_set(Document(one.id, one.body, group.header, connection)))
    except RefusedSet as refusal:
        raise refusal.within(one.control_number) from None
    except RejectedMessage as refusal:
        raise RejectedMessage(f"set {one.control_number}: {refusal.reason}", field=refusal.field) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(step) for step in found["loc"])
        raise RejectedMessage(f"set {one.control_number}: {path}: {found['msg']}", field=one.id) from None
