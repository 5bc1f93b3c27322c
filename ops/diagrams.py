"""The state machines as pictures, drawn from the tables that the twins run on: ``twinsync states``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from twins.core import customer, item, ledger, order, shipment, tracking

MACHINES: Mapping[str, Mapping[Any, Mapping[Any, Any]]] = {
    "Order: the header's phases": order.TRANSITIONS,
    "Order: a cancel that was asked for": order.CANCEL_TRANSITIONS,
    "Order: a return": order.RETURN_TRANSITIONS,
    "Shipment": shipment.TRANSITIONS,
    "Tracking number": tracking.TRANSITIONS,
    "Customer": customer.TRANSITIONS,
    "Item": item.TRANSITIONS,
    "One version of a posting": ledger.TRANSITIONS,
}


def states_markdown() -> str:
    """All machines as Mermaid state diagrams; self-transitions are left out."""
    parts = ["# States", "Drawn from the transition tables by `twinsync states`. Quantities decide the rest."]
    for title, table in MACHINES.items():
        parts += [f"## {title}", "\n".join(["```mermaid", "stateDiagram-v2", *_edges(table), "```"])]
    return "\n\n".join(parts) + "\n"


def _edges(table: Mapping[Any, Mapping[Any, Any]]) -> Iterator[str]:
    yield f"    [*] --> {_state(next(iter(table)))}"
    for state, moves in table.items():
        for fact, after in moves.items():
            if after != state:
                yield f"    {_state(state)} --> {_state(after)}: {_fact(fact)}"
        if not moves:
            yield f"    {_state(state)} --> [*]"


def _state(state: Any) -> str:
    return _fact(state).replace("-", "_").replace(" ", "_")


def _fact(fact: Any) -> str:
    if isinstance(fact, Enum):
        return str(fact.value)
    return str(fact.TYPE).split(".")[-2] if hasattr(fact, "TYPE") else str(fact)
