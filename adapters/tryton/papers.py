"""The kinds of documents in Tryton, the steps each goes through, and where they are found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENTRY = "account.move"
INVOICE = "account.invoice"
ISSUE = "stock.shipment.out"
RECEIPT = "stock.shipment.out.return"
INTERNAL = "stock.shipment.internal"

KEY_FIELD = dict.fromkeys((INVOICE, ISSUE, RECEIPT, INTERNAL), "reference") | {ENTRY: "description"}
"""Where each carries the idempotency key."""
STEPS: Mapping[str, Mapping[str, str]] = {
    ENTRY: {"draft": "post", "posted": ""},
    INVOICE: {"draft": "post", "validated": "post", "posted": "", "paid": ""},
    ISSUE: {
        "draft": "wait",
        "waiting": "assign_force",
        "assigned": "pack",
        "picked": "pack",
        "packed": "do",
        "shipped": "do",
        "done": "",
    },
    RECEIPT: {"draft": "receive", "received": "do", "done": ""},
    INTERNAL: {"draft": "wait", "waiting": "assign_force", "assigned": "do", "done": ""},
}
"""State → the button that leads on; empty: finished. Only somebody's hand puts it into any other state."""
NAMES = {
    ENTRY: "journal entry",
    INVOICE: "invoice",
    ISSUE: "shipment",
    RECEIPT: "return",
    INTERNAL: "internal shipment",
}


@dataclass(frozen=True, slots=True)
class Paper:
    """A document as Tryton holds it."""

    model: str
    id: int
    state: str
    number: str | None

    @property
    def finished(self) -> bool:
        return STEPS[self.model].get(self.state) == ""

    def __str__(self) -> str:
        return f"{NAMES[self.model]} {self.number or self.id}"


_MODELS: Mapping[str, tuple[str, ...]] = {
    "goods-issue": (ISSUE, RECEIPT),
    "return-receipt": (ISSUE, RECEIPT),
    "invoice": (INVOICE,),
    "credit-note": (INVOICE,),
    "stock-adjustment": (INTERNAL,),
    "stock-count": (INTERNAL,),
    "transfer": (INTERNAL,),
} | dict.fromkeys(("freight-accrual", "carrier-bill", "payment", "refund"), ())
"""First word of a posting key → where its documents can be, besides the journal."""


def models_of(key: str) -> tuple[str, ...]:
    """The journal comes last."""
    return (*_MODELS.get(key.partition("/")[0], (INVOICE, ISSUE, RECEIPT, INTERNAL)), ENTRY)


def finished(papers: Sequence[Paper]) -> bool:
    """The command of these documents is carried out to its end."""
    return bool(papers) and all(paper.finished for paper in papers)
