"""What postings come to, account by account."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction

from ops.simulation.oracle.facts import (
    NONE,
    Plain,
)


def accounts(postings: Iterable[Plain]) -> dict[str, Fraction]:
    """Net debit of each account, by the table of postings; what has no cost is worth nothing here."""
    net: dict[str, Fraction] = defaultdict(lambda: NONE)

    def book(debit: str, credit: str, amount: Fraction | None) -> None:
        net[debit] += amount or NONE
        net[credit] -= amount or NONE

    into = {"sellable": "inventory", "scrap": "scrap"}
    for one in postings:
        match one["command"]:
            case "goods-issue":
                for line in one["lines"]:
                    book("cost-interim", "inventory", line["cost"])
            case "invoice":
                for line in one["lines"]:
                    book("receivable", "revenue", line["net"])
                    book("receivable", "tax", line["tax"])
                    book("cost-of-goods", "cost-interim", line["cost"])
                book("receivable", "freight-income", one["freight"])
                book("receivable", "tax", one["freight_tax"])
            case "freight-accrual":
                book("freight-expense", "accrued-freight", one["amount"])
            case "carrier-bill":
                book("accrued-freight", "payable", one["accrued"])
                book("freight-expense", "payable", one["amount"] - one["accrued"])
            case "return-receipt":
                for part in one["goods"]:
                    account = into.get(part["disposition"], "quarantine-inventory")
                    book(account, "return-interim", part["cost"])
            case "credit-note":
                book("revenue", "receivable", one["net"])
                book("tax", "receivable", one["tax"])
                book("return-interim", "cost-of-goods", one["cost"])
            case "stock-adjustment":
                book("inventory", "inventory-variance", one["cost"])
            case "transfer":
                debit, credit = (
                    ("in-transit", "inventory") if one["leg"] == "out" else ("inventory", "in-transit")
                )
                book(debit, credit, one["cost"])
            case "payment":
                book("cash-clearing", "receivable", one["amount"])
            case "refund":
                book("receivable", "cash-clearing", one["amount"])
    return {account: amount for account, amount in sorted(net.items()) if amount}
