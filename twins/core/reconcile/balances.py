"""Balances of accounts compared with the ERP's own documents of our postings.

What documents explain, right or wrong, is found where they are compared: here only the rest counts. What was
accepted once (opening balances, business that is not ours) is part of what is expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Protocol

from canonical.money import ZERO
from canonical.postings import Account
from twins.core.reconcile.causes import JOURNALLED
from twins.core.reconcile.difference import Accept, Difference, Kind


class Balance(Protocol):
    @property
    def debit(self) -> Decimal: ...
    @property
    def credit(self) -> Decimal: ...


Amounts = Mapping[Account, Decimal]


def compared(
    before: Mapping[Account, Balance],
    documents: Amounts,
    after: Mapping[Account, Balance],
    accepted: Amounts,
    erp: str,
) -> Iterator[Difference]:
    """*before* and *after*: read around the documents; an account that moved meanwhile is not compared."""
    for account in sorted(before.keys() | after.keys() | documents.keys()):
        if not is_still(account, before, after):
            continue
        balance = after.get(account)
        theirs = balance.debit - balance.credit if balance is not None else ZERO
        rest = theirs - documents.get(account, ZERO)
        if rest != accepted.get(account, ZERO):
            yield Difference(
                Kind.BALANCE_DIFFERS,
                account.value,
                f"erp/{erp}",
                f"{_plain(accepted.get(account, ZERO))} beside our documents",
                f"{_plain(rest)} beside our documents",
                JOURNALLED,
                (Accept(erp, account, rest),),
            )


def is_still(account: Account, before: Mapping[Account, Balance], after: Mapping[Account, Balance]) -> bool:
    """Debits and credits only grow: where both are as they were, nothing was posted in between."""
    one, other = before.get(account), after.get(account)
    if one is None or other is None:
        return one is other
    return (one.debit, one.credit) == (other.debit, other.credit)


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize() + ZERO:f}"
