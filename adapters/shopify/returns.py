"""Returns: what customer and merchant say of them. What comes back, and in what state, warehouses say.

Rule
- A return that the merchant opens is approved without ever having been requested, so an approval tells both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adapters.shopify.models import Return
from adapters.shopify.telling import EPOCH, Telling
from canonical import identity
from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.order import ReturnApproved, ReturnClosed, ReturnDeclined, ReturnLine, ReturnRequested

UNDATED = EPOCH
"""When a return was told, without the header that says so: before everything, and so held until what it needs
has happened."""


def return_events(*words: str) -> Callable[[Any, Telling], Iterator[Event]]:
    """A reader that tells a return's payload as these facts."""

    def read_return(payload: Any, telling: Telling) -> Iterator[Event]:
        told = Return.model_validate(payload)
        time = telling.triggered_at or UNDATED
        for word in words:
            event_id = f"returns/{told.id}/{word}/{time.isoformat()}"
            yield telling.event(event_id, identity.order(told.order.id), time, _RETURN_FACTS[word](told))

    return read_return


_RETURN_FACTS: Mapping[str, Callable[[Return], Fact]] = {
    "requested": lambda told: ReturnRequested(return_id=told.id, lines=_return_lines(told)),
    "approved": lambda told: ReturnApproved(return_id=told.id),
    "declined": lambda told: ReturnDeclined(return_id=told.id, reason=_decline_reason(told)),
    "closed": lambda told: ReturnClosed(return_id=told.id),
}


def _return_lines(told: Return) -> tuple[ReturnLine, ...]:
    return tuple(
        ReturnLine(
            line_id=line.fulfillment_line_item.line_item.id, quantity=line.quantity, reason=line.return_reason
        )
        for line in told.return_line_items
    )


def _decline_reason(told: Return) -> str | None:
    if told.decline is None:
        return None
    return ": ".join(word for word in (told.decline.reason, told.decline.note) if word) or None
