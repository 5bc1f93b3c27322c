"""What a journal entry adds, so that the books hold a posting to the cent, whatever Tryton booked by itself.

Tryton books goods and invoices in its own way: an adjustment against the interim accounts, a return to
quarantine as inventory, a cost by its own price of one piece. The difference between what the posting says
and what those documents booked is the entry; mostly there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from canonical.money import ZERO
from canonical.postings import Account, Entry

PlaceInBooks = tuple[int, int | None]
"""Account, and the party where the account asks for one."""
Net = Mapping[PlaceInBooks, Decimal]
"""Debit less credit."""
OF_PARTY = frozenset({Account.RECEIVABLE, Account.PAYABLE})


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal entry of Tryton."""

    account: int
    party: int | None
    debit: Decimal
    credit: Decimal


def net(lines: Iterable[Line]) -> dict[PlaceInBooks, Decimal]:
    found: dict[PlaceInBooks, Decimal] = {}
    for line in lines:
        place = line.account, line.party
        found[place] = found.get(place, ZERO) + line.debit - line.credit
    return found


def booked(entries: Iterable[Entry], accounts: Mapping[Account, int], party: int) -> list[Line]:
    """The entries of a posting as lines."""
    return [
        Line(accounts[one.account], party if one.account in OF_PARTY else None, one.debit, one.credit)
        for one in entries
    ]


def settling(wanted: Net, held: Net) -> list[Line]:
    """The lines that are missing. Shape: one a place, by account."""
    missing = {place: wanted.get(place, ZERO) - held.get(place, ZERO) for place in {*wanted, *held}}
    return [
        Line(account, party, max(amount, ZERO), max(-amount, ZERO))
        for (account, party), amount in sorted(missing.items(), key=_by_place)
        if amount
    ]


def mirror(lines: Iterable[Line]) -> list[Line]:
    return [Line(line.account, line.party, line.credit, line.debit) for line in lines]


def values(lines: Iterable[Line], description: str) -> list[dict[str, Any]]:
    """As Tryton takes them."""
    return [
        {
            "account": line.account,
            "party": line.party,
            "debit": line.debit,
            "credit": line.credit,
            "description": description,
        }
        for line in lines
    ]


def _by_place(item: tuple[PlaceInBooks, Decimal]) -> tuple[int, int]:
    (account, party), _ = item
    return account, party or 0
